import './polyfill.ts';
import { createHash } from 'node:crypto';
import { CodedError } from '../../protocol/errors.ts';
import { PROTOCOL_VERSION } from '../../protocol/genesis.ts';
import { type Address, parseAddress } from './addresses.ts';
import { within } from './deadline.ts';
import { networkError, reasonOf } from './errors.ts';
import { exchange, refusedBy } from './hello.ts';
import { createHost, type Host, type HostInit } from './host.ts';
import { createIdentity } from './identity.ts';
import { NET_LIMITS } from './limits.ts';

export interface FetchGenesisInit extends Pick<HostInit, 'software' | 'transport' | 'dialFrom'> {
  version?: number;
  signal?: AbortSignal;
  /** for all of it, in milliseconds @default the time to dial, and as much again */
  patienceMs?: number;
}

export interface FetchedGenesis {
  /** SHA-256 of the bytes, hexadecimal. The bytes are what a stranger sent: decode and check them. */
  runId: string;
  genesisBytes: Uint8Array;
}

/**
 * Asks the given peers, all at once, for the genesis of their run, under an identity that is thrown away.
 * @throws CodedError `E_MULTIADDR`, `E_BOOTSTRAP` with the reason for each address, `E_OTHER_VERSION`, `E_ABORTED`
 */
export async function fetchGenesis(addresses: readonly string[], init: FetchGenesisInit = {}): Promise<FetchedGenesis> {
  const parsed = addresses.map((text) => parseAddress(text));
  if (parsed.length === 0)
    throw networkError('E_BOOTSTRAP', 'no bootstrap address is given: add --bootstrap <multiaddr>');
  const host = await createHost({ identity: createIdentity() }, { ...init, listen: [] });
  try {
    const asked = Promise.any(parsed.map((address) => askOne(host, address, init)));
    const ms = init.patienceMs ?? 2 * NET_LIMITS.dialMs;
    const genesisBytes = await within(asked, { ms, what: 'genesis', signal: init.signal });
    return { runId: createHash('sha256').update(genesisBytes).digest('hex'), genesisBytes };
  } catch (error) {
    if (error instanceof AggregateError) throw allFailed(parsed, error.errors);
    if (!(error instanceof CodedError) || error.code !== 'E_TIMEOUT') throw error;
    throw unreachable(parsed.map(({ text: address }) => ({ address, error })));
  } finally {
    await host.stop();
  }
}

async function askOne(host: Host, address: Address, init: FetchGenesisInit): Promise<Uint8Array> {
  const version = init.version ?? PROTOCOL_VERSION;
  const greeting = { version, runId: null, software: init.software ?? 'outerloop', addresses: [], peers: [] };
  const signal = init.signal ? { signal: init.signal } : {};
  const connection = await host.node.dial(address.multiaddr, signal);
  const answer = await exchange(connection, greeting, version);
  if (answer.kind === 'genesis') return answer.genesis;
  if (answer.kind === 'refusal') throw refusedBy(connection.remotePeer.toString(), answer);
  throw networkError('E_NO_HELLO', `${address.text} answered what was not asked`);
}

function allFailed(addresses: Address[], errors: unknown[]): Error {
  const coded = errors.find((error) => error instanceof CodedError && error.code === 'E_OTHER_VERSION');
  if (coded) return coded as Error;
  return unreachable(addresses.map((address, i) => ({ address: address.text, error: errors[i] })));
}

/** `E_BOOTSTRAP` that names every address, why it failed, and what to do. */
export function unreachable(attempts: { address: string; error: unknown }[]): Error {
  const reasons = attempts.map(({ address, error }) => {
    return `${address}: ${error instanceof CodedError ? error.message : reasonOf(error)}`;
  });
  const fix = 'check that the peer runs, and copy the address it prints at start';
  return networkError('E_BOOTSTRAP', `cannot reach ${reasons.join('; ')}: ${fix}`, attempts[0]?.error);
}
