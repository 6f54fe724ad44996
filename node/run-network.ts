import { setTimeout as delay } from 'node:timers/promises';
import { PAGE_BYTES } from '../protocol/core.ts';
import { CodedError, isCoded } from '../protocol/errors.ts';
import type { Inbox } from './inbox.ts';
import { listenAddresses, withPorts } from './listening.ts';
import { ANSWER_RATES, MessageRates } from './message-rates.ts';
import { type Identity, Network, type RunReference, unreachable } from './net/index.ts';
import type { Peer } from './peer.ts';
import type { PeerEvent } from './peer-events.ts';
import { isHere } from './probe.ts';
import { Refusals } from './refusals.ts';
import type { BlobStore } from './store/blob-store.ts';
import { loadWhereabouts, saveWhereabouts } from './store/whereabouts.ts';

/** How a peer reaches others, and they it. */
export interface NetworkOptions {
  bootstrap: string[];
  /** @default as before, else all of this machine, any free port */
  listen?: string[];
  /** null for those that it listens on @default as before, else the same */
  announce?: string[] | null;
  /** null for the system's choice @default as before, else the same */
  dialFrom?: string | null;
}

export interface RunNetworkComponents {
  options: NetworkOptions;
  /** file of `Whereabouts` */
  path: string;
  identity: Identity;
  store: BlobStore;
  inbox: Inbox;
  /** none while this one is starting */
  peer: () => Peer | undefined;
  onEvent: (event: PeerEvent) => void;
}

/** A network, and what a peer's folder knows of it. */
export interface RunNetwork {
  network: Network;
  /** Listens, and dials whoever was given and whoever was there before. */
  start(run: RunReference, resumed: boolean): Promise<void>;
  /** Settles when the next peer comes. */
  nextUp(): Promise<void>;
}

export async function openNetwork(components: RunNetworkComponents): Promise<RunNetwork> {
  const { options, path, identity, store, inbox, peer, onEvent } = components;
  const warn = (code: string, message: string): void => onEvent({ event: 'warning', code, message });
  const known = loadWhereabouts(path, () => warn('W_WHEREABOUTS', FORGOTTEN));
  const { announce = known.asked?.announce ?? null, dialFrom = known.asked?.dialFrom ?? null } = options;
  const isGone = dialFrom !== null && options.dialFrom === undefined && !(await isHere(dialFrom));
  if (isGone) warn('W_DIAL_FROM', notHereNow(dialFrom));
  const { wanted, listen } = await listenAddresses(options.listen, known.asked?.listen);
  const refusals = new Refusals(warn);
  const answers = new MessageRates((id) => peer()?.machine.isMember(id), { rates: ANSWER_RATES });
  let next = arrival();
  const network = new Network(
    {
      identity,
      blobSource: store,
      isInRoster: (id) => peer()?.machine.isMember(id) ?? false,
      accepts: (from) => inbox.accepts(from),
      validate: (bytes, from) => inbox.validate(bytes, from),
      onMessage: (bytes, from) => inbox.onMessage(bytes, from),
      onPeer: (id, change) => {
        peer()?.onPeer(id, change === 'up');
        if (change !== 'up') return;
        remember();
        next.tell();
        next = arrival();
      },
      onRequest: async (bytes, from) => {
        const ready = peer();
        if (!ready) throw new CodedError('E_NOT_READY', 'this peer is still starting: ask again');
        // votes are not to wait for what anybody asks, as often as it likes
        while (!answers.accepts(from, PAGE_BYTES)) await delay(AGAIN_MS, undefined, { ref: false });
        const answer = await ready.onRequest(bytes);
        answers.take(from, answer.length);
        return answer;
      },
      onRefused: (id, error) => refusals.refused(id, error),
    },
    { listen, ...(announce ? { announce } : {}), ...(dialFrom && !isGone ? { dialFrom } : {}) },
  );
  let hasWarned = false;
  let onDisk = '';
  const remember = (): void => {
    const listening = network.listening();
    const told = { ...(announce ? { announce } : {}), ...(dialFrom ? { dialFrom } : {}) };
    const asked = { listen: withPorts(wanted, listening), ...told };
    const peers = network.knownAddresses();
    try {
      const settings = JSON.stringify(asked);
      saveWhereabouts(path, { listen: listening, peers, asked }, settings !== onDisk);
      onDisk = settings;
    } catch (error) {
      // not the affair of the peer that has just come: it is welcome, whatever this disk does
      const code = isCoded(error) ? error.code : 'E_DIR_UNWRITABLE';
      if (!hasWarned) warn(code, `${(error as Error).message}; a restart will not know where others were`);
      hasWarned = true;
    }
  };
  return {
    network,
    start: async (run, resumed) => {
      await network.start(run);
      for (const [i, address] of withPorts(listen, network.listening()).entries()) {
        if (address !== wanted[i] && listen[i] !== wanted[i]) warn('W_OTHER_PORT', otherPort(wanted[i] ?? '', address));
      }
      // those first: where many of the others are gone, theirs would wait behind all
      const dialed = dialAll(network, options.bootstrap, resumed, warn);
      network.remember(known.peers);
      await dialed;
      remember();
    },
    nextUp: () => next.up,
  };
}

/** How often it is looked whether a peer that was answered much may be answered more. */
const AGAIN_MS = 250;

const FORGOTTEN =
  'whereabouts.json is damaged: where others were is forgotten, and so is what --listen, --announce and --dial-from were before; give them again';

/** An address that a machine got from others may be another one by now. */
function notHereNow(dialFrom: string): string {
  return `this machine has no address ${dialFrom} now, which connections were to be made from: they are made from any; give another --dial-from, or any`;
}

function arrival(): { up: Promise<void>; tell: () => void } {
  let tell = (): void => undefined;
  const up = new Promise<void>((resolve) => {
    tell = resolve;
  });
  return { up, tell };
}

function otherPort(wanted: string, got: string): string {
  return `another program has ${wanted}, where this peer listened before: it listens on ${got} this time`;
}

/** A joiner needs one of its addresses to answer; a peer that was here before may find the others elsewhere, or later. */
async function dialAll(
  network: Network,
  bootstrap: readonly string[],
  resumed: boolean,
  warn: (code: string, message: string) => void,
): Promise<void> {
  if (bootstrap.length === 0) return;
  const dialed = await Promise.allSettled(bootstrap.map((address) => network.dial(address)));
  if (dialed.some(({ status }) => status === 'fulfilled')) return;
  const errors = dialed.map((each) => (each as PromiseRejectedResult).reason as unknown);
  const attempts = bootstrap.map((address, i) => ({ address, error: (errors[i] as Error).cause ?? errors[i] }));
  const telling = errors.find((error) => !isCoded(error) || error.code !== 'E_BOOTSTRAP');
  const error = telling ?? (errors.length > 1 ? unreachable(attempts) : errors[0]);
  if (!resumed || !isCoded(error)) throw error;
  warn(error.code, error.message);
}
