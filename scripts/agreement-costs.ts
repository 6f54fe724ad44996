/**
 * What agreeing on a round costs, in virtual time: messages, bytes and latency at 100 ms of round trip.
 *
 *   npm run agreement                          16, 64, 200 and 1000 peers, 4 rounds each
 *   npm run agreement -- --peers 32 --rounds 10
 *
 * The table is that of docs/protocol.md. The first round, with everybody joining, is left out.
 */
import { openSimulation } from '../node/cli/sim-run.ts';
import { COMMITTEE } from '../protocol/genesis.ts';
import type { Hash } from '../protocol/hash.ts';
import { encodeMessage, type Message } from '../protocol/messages.ts';
import { blockHash } from '../protocol/signing.ts';
import type { Ledger } from '../sim/ledger.ts';
import { SimulatedNetwork } from '../sim/network.ts';
import { readArguments } from './arguments.ts';

const { values: options } = readArguments(import.meta.url, {
  options: {
    peers: { type: 'string', default: '16,64,200,1000' },
    rounds: { type: 'string', default: '4' },
    latency: { type: 'string', default: '50ms' },
  },
});

interface Said {
  messages: number;
  bytes: number;
}

/** One block: when it was proposed first, and when each peer had it decided. */
interface Decision {
  proposedMs: number;
  decidedMs: number[];
  /** by all peers together, of what is about it: with every copy, and what gossip puts around it */
  receivedBytes: number;
  /** by what it is about: 'proposal', 'notarize', 'finalize', and what else came up */
  said: Map<string, Said>;
}

function kindOf(message: Message): string {
  return message.type === 'vote' ? message.kind : message.type;
}

/** The block that a proposal or vote is about. */
function aboutOf(message: Message): Hash | null {
  if (message.type === 'proposal') return blockHash(message.block);
  return message.type === 'vote' ? message.block : null;
}

const { broadcast } = SimulatedNetwork.prototype;

/** Tells what each message costs those whom it reaches, by the books of the simulation. */
function watchReceived(ledger: Ledger, onReceived: (message: Message, bytes: number) => void): void {
  const received = (): number => {
    const { gossip, direct } = ledger.received;
    return gossip.reduce((sum, bytes) => sum + bytes, 0) + direct.reduce((sum, bytes) => sum + bytes, 0);
  };
  SimulatedNetwork.prototype.broadcast = function (this: SimulatedNetwork, from: number, message: Message): void {
    const before = received();
    broadcast.call(this, from, message);
    onReceived(message, received() - before);
  };
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

async function costs(peers: number, rounds: number): Promise<void> {
  const blocks = new Map<Hash, Decision>();
  const decisionOf = (hash: Hash): Decision => {
    const known = blocks.get(hash) ?? { proposedMs: Number.NaN, decidedMs: [], receivedBytes: 0, said: new Map() };
    blocks.set(hash, known);
    return known;
  };
  const roundBlocks: Hash[] = [];
  const opened = await openSimulation({
    run: { rounds },
    peers,
    trainer: 'synthetic',
    backend: 'auto',
    evaluateEvery: 0,
    scenario: { latency: options.latency },
    onStep: ({ id }, { nowMs }, effects) => {
      for (const effect of effects) {
        if (effect.type === 'append') {
          const { block } = effect.entry;
          const hash = blockHash(block);
          const decision = decisionOf(hash);
          if (decision.decidedMs.push(nowMs) === 1 && block.kind === 'round') roundBlocks.push(hash);
        }
        if (effect.type !== 'broadcast') continue;
        const { message } = effect;
        const about = aboutOf(message);
        if (!about || (message.type === 'vote' && message.author !== id)) continue;
        const decision = decisionOf(about);
        if (message.type === 'proposal' && Number.isNaN(decision.proposedMs)) decision.proposedMs = nowMs;
        const kind = kindOf(message);
        const before = decision.said.get(kind) ?? { messages: 0, bytes: 0 };
        const bytes = before.bytes + encodeMessage(message).length;
        decision.said.set(kind, { messages: before.messages + 1, bytes });
      }
    },
  });
  const { ledger } = opened.simulation;
  watchReceived(ledger, (message, bytes) => {
    const about = aboutOf(message);
    if (about) decisionOf(about).receivedBytes += bytes;
  });
  const result = await opened.simulation.run();
  await opened.host.close();
  const decisions = roundBlocks.slice(1).map(decisionOf);
  const each = (pick: (decision: Decision) => number) => median(decisions.map(pick));
  const said = (kind: string, what: keyof Said) => each((decision) => decision.said.get(kind)?.[what] ?? 0);
  const votes = said('notarize', 'messages') + said('finalize', 'messages');
  const voteBytes = said('notarize', 'bytes') + said('finalize', 'bytes');
  const proposal = said('proposal', 'bytes') / Math.max(1, said('proposal', 'messages'));
  const latency = (pick: (times: readonly number[]) => number) =>
    each(({ proposedMs, decidedMs }) => pick(decidedMs) - proposedMs).toFixed(0);
  const row = [
    peers,
    Math.min(peers, COMMITTEE.size),
    `${votes} + ${said('proposal', 'messages')}`,
    `${(voteBytes / votes).toFixed(0)} B`,
    `${(proposal / 1e3).toFixed(1)} kB`,
    `${((voteBytes + proposal) / 1e3).toFixed(0)} kB`,
    `${(each(({ receivedBytes }) => receivedBytes) / peers / 1e6).toFixed(2)} MB`,
    `${latency(median)} ms`,
    `${latency((times) => Math.max(...times))} ms`,
  ];
  console.log(`| ${row.join(' | ')} |${result.reason === 'rounds' ? '' : ` (${result.reason})`}`);
}

console.log(
  '| peers | voters | votes + proposals | a vote | a proposal | said in all | received by a peer | decided, median | the last |',
);
console.log('|---|---|---|---|---|---|---|---|---|');
for (const peers of options.peers.split(',').map(Number)) await costs(peers, Number(options.rounds));
