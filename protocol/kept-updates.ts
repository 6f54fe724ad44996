import type { Restart } from './events.ts';
import { LIMITS } from './limits.ts';
import type { PeerRecord } from './record.ts';
import type { Update } from './wire.ts';

/**
 * The updates whose payloads a peer that starts again must still have, beside its own open ones: of the newest rounds that it
 * knows, decided, left or under vote (nobody else may have what those name), and of what leads on from the states that it
 * keeps for those who may have to come back to them.
 */
export function updatesKept({ segments, states }: Omit<Restart, 'record'>, record: PeerRecord | null): Update[] {
  const blocks = segments.flatMap(({ entries }) => entries.map(({ block }) => block));
  const newest = blocks.reduce((round, block) => Math.max(round, block.round), 0);
  // from further back nobody goes on by payloads
  const from = [newest - LIMITS.payloadRoundsKept, ...states.map(({ state }) => state.round)];
  const recent = blocks.filter(({ round }) => from.some((at) => round >= at && round <= at + LIMITS.payloadRoundsKept));
  if (!record) return recent.flatMap(({ updates }) => updates);
  const { proposals, certificates, headers } = record;
  const undecided = [...proposals, ...certificates].flatMap(({ block }) => block ?? []);
  return [...[...recent, ...undecided].flatMap(({ updates }) => updates), ...headers.map(({ update }) => update)];
}
