import './polyfill.ts';
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr';
import { CodedError } from '../../protocol/errors.ts';
import { type PeerId, publicKeyOf } from '../../protocol/identity.ts';
import { networkError, printable } from './errors.ts';
import { NET_LIMITS } from './limits.ts';

/** A checked TCP address: `/ip4|ip6|dns…/<host>/tcp/<port>`, with `/p2p/<peer id>` where the peer is known. */
export interface Address {
  readonly text: string;
  readonly multiaddr: Multiaddr;
  readonly peer: PeerId | undefined;
  /** reachable from the same machine only */
  readonly loopback: boolean;
}

const EXAMPLE = 'such as /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW…';
const LISTEN_EXAMPLE = 'to listen on, such as /ip4/0.0.0.0/tcp/4001';
const HOSTS = new Set(['ip4', 'ip6', 'dns', 'dns4', 'dns6']);

/**
 * Reads an address that a user or a peer gave.
 * @throws CodedError `E_MULTIADDR`
 */
export function parseAddress(text: string): Address {
  const address = parse(text);
  const port = address.multiaddr.getComponents()[1]?.value;
  if (port === '0') throw networkError('E_MULTIADDR', `${shown(text)} has port 0, nobody can be dialed there`);
  return address;
}

/** As `parseAddress`, but port 0 means: any free port. */
export function parseListenAddress(text: string): Address {
  return parse(text, LISTEN_EXAMPLE);
}

function parse(text: string, example = EXAMPLE): Address {
  if (text.length > NET_LIMITS.addressMax) {
    throw networkError('E_MULTIADDR', `an address of ${text.length} characters, at most ${NET_LIMITS.addressMax}`);
  }
  try {
    const parsed = multiaddr(text);
    const [host, tcp, p2p, ...rest] = parsed.getComponents();
    if (!host || !HOSTS.has(host.name) || tcp?.name !== 'tcp' || rest.length > 0 || (p2p && p2p.name !== 'p2p')) {
      throw networkError('E_MULTIADDR', `${shown(text)} is not a TCP address ${example}`);
    }
    if (p2p) publicKeyOf(p2p.value ?? '');
    return { text: parsed.toString(), multiaddr: parsed, peer: p2p?.value, loopback: isLoopback(host.value ?? '') };
  } catch (cause) {
    if (cause instanceof CodedError && cause.code === 'E_MULTIADDR') throw cause;
    throw networkError('E_MULTIADDR', `${shown(text)} is not an address ${example}`, cause);
  }
}

/** Those of a stranger's addresses that are addresses, without doubles, at most `max`. */
export function usableAddresses(texts: readonly string[], max: number): Address[] {
  const found = new Map<string, Address>();
  for (const text of texts.slice(0, max)) {
    try {
      const address = parseAddress(text);
      found.set(address.text, address);
    } catch {
      // one bad address says nothing about the others
    }
  }
  return [...found.values()];
}

export function isLoopbackAddress(address: Multiaddr): boolean {
  return isLoopback(address.getComponents()[0]?.value ?? '');
}

function isLoopback(host: string): boolean {
  return host.startsWith('127.') || host === '::1' || host === 'localhost';
}

/** A whole address with a host name and two peer ids is shorter. */
const SHOWN_MAX = 300;

function shown(text: string): string {
  return `"${printable(text, SHOWN_MAX)}"${text.length > SHOWN_MAX ? '…' : ''}`;
}
