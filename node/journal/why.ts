import { CodedError } from '../../protocol/errors.ts';
import type { PeerId } from '../../protocol/identity.ts';
import type { Facts, RoundFacts } from './facts.ts';

/** Why a peer's update is in a round or not, as far as the journal's peer can know. */
export interface Answer {
  /** counted from 1, as they are reported */
  round: number;
  peer: PeerId;
  reason: Reason;
  text: string;
}

export type Reason =
  | 'included'
  | 'open' // the round is not over where the journal ends
  | 'gap' // the journal has later rounds, and not how this one ended
  | 'overtaken' // this peer did not see the round end: it took a later state from others
  | 'no-place' // not in the roster when the round began
  | 'not-training' // it never began to train
  | 'broken' // its training gave nothing of use
  | 'training' // it was still training when the round ended
  | 'ended' // its process was ended while it trained, and it had not made up for that when the round ended
  | 'no-header' // nothing was heard from it
  | 'too-late' // announced after the list was proposed
  | 'refused' // its payload did not check here
  | 'payload-missing' // its payload was not here when the list was proposed
  | 'not-listed'; // all was in time here: the leader did not have it

type Found = Pick<Answer, 'reason' | 'text'>;
type Decided = RoundFacts & { decided: NonNullable<RoundFacts['decided']> };

/**
 * @param self whose journal it is
 * @throws CodedError `E_ROUND` for a round that the journal does not have
 */
export function whyNot(facts: Facts, round: number, peer: PeerId, self: PeerId): Answer {
  const known = facts.rounds.get(round);
  // what was before the journal's first round nobody knows here
  const first = Math.min(...[...facts.rounds.values()].filter(({ places }) => places).map((each) => each.round));
  const found =
    round < first
      ? undefined
      : ((known && reasonIn(known, facts, peer, self)) ?? overtakenIn(facts, round) ?? gapIn(facts, round));
  if (found) return { round, peer, ...found };
  const ended = [...facts.rounds.values()].filter(({ reports }) => reports.length > 0).map((each) => each.round);
  const range = ended.length > 0 ? `rounds ${Math.min(...ended)} to ${Math.max(...ended)}` : 'no round';
  throw new CodedError('E_ROUND', `round ${round} is not in this journal, which has ${range}`);
}

function reasonIn(known: RoundFacts, facts: Facts, peer: PeerId, self: PeerId): Found | undefined {
  const { round, decided, places } = known;
  if (decided?.authors.includes(peer)) {
    return { reason: 'included', text: `it is one of the ${decided.authors.length} in the block that ended the round` };
  }
  if (places && !places.includes(peer)) {
    return { reason: 'no-place', text: 'the peer was not in the roster when the round began' };
  }
  if (decided) {
    const inRound = { ...known, decided };
    return (peer === self ? trainingReason(inRound, facts) : undefined) ?? headerReason(inRound, facts, peer, self);
  }
  const open: Found = { reason: 'open', text: 'the round is not over where the journal ends' };
  return overtakenIn(facts, round) ?? gapIn(facts, round) ?? open;
}

function gapIn({ rounds }: Facts, round: number): Found | undefined {
  const isOver = [...rounds.values()].some((each) => each.round > round && each.reports.length > 0);
  return isOver ? { reason: 'gap', text: 'the journal has later rounds, and not how this one ended' } : undefined;
}

function overtakenIn({ restored }: Facts, round: number): Found | undefined {
  const state = restored.find((each) => each.before < round && round <= each.round);
  if (!state) return undefined;
  const text = `this peer did not see the round end: it took the state after round ${state.round} from others`;
  return { reason: 'overtaken', text };
}

/** What only the peer itself knows. */
function trainingReason(
  { decided, trainingMs, trainedMs, isBroken, finishMs }: Decided,
  facts: Facts,
): Found | undefined {
  if (trainingMs === undefined) {
    const startMs = facts.startsMs.findLast((atMs) => atMs <= decided.atMs);
    const since =
      startMs === undefined ? '' : `; this peer was started ${seconds(decided.atMs - startMs)} before its end`;
    return { reason: 'not-training', text: `it began no training in the round${since}` };
  }
  if (trainedMs !== undefined && trainedMs <= decided.atMs) return undefined;
  if (isBroken) return { reason: 'broken', text: 'its training broke down, however often it was tried' };
  const restartMs = facts.startsMs.find((atMs) => atMs > trainingMs && atMs <= decided.atMs);
  if (restartMs !== undefined) {
    const when = `${seconds(restartMs - trainingMs)} after it had begun, ${seconds(decided.atMs - restartMs)} before the end`;
    return { reason: 'ended', text: `this peer was ended while it trained, and started again ${when} was known here` };
  }
  const asked = finishMs === undefined ? '' : `, asked to finish ${seconds(decided.atMs - finishMs)} before the end`;
  const text = `it was still training when the round ended, after ${seconds(decided.atMs - trainingMs)}${asked}`;
  return { reason: 'training', text };
}

function headerReason({ headers, proposals, decided }: Decided, facts: Facts, peer: PeerId, self: PeerId): Found {
  const header = headers.get(peer)?.find(({ base }) => base === decided.base);
  if (!header) return { reason: 'no-header', text: 'its header never came here' };
  const proposal = proposals.get(decided.block);
  const closedMs = proposal?.atMs ?? decided.atMs;
  const what = proposal ? `the list of ${leaderName(proposal.author, self)} that was decided on` : 'the decided block';
  if (header.atMs > closedMs) {
    return { reason: 'too-late', text: `its header came ${seconds(header.atMs - closedMs)} after ${what}` };
  }
  const ahead = seconds(closedMs - header.atMs);
  const payload = facts.payloads.get(header.payload);
  if (peer !== self && payload?.error) {
    return { reason: 'refused', text: `its payload was refused here: ${payload.error}` };
  }
  if (peer !== self && (!payload || payload.atMs > closedMs)) {
    const late = payload ? `came ${seconds(payload.atMs - closedMs)} after` : 'was not here by';
    return { reason: 'payload-missing', text: `its header came ${ahead} before ${what} but its payload ${late} that` };
  }
  const text = `header and payload were here ${ahead} before ${what}: whoever made it did not have both`;
  return { reason: 'not-listed', text };
}

function leaderName(leader: PeerId, self: PeerId): string {
  return leader === self ? 'this peer' : `…${leader.slice(-8)}`;
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(2)} s`;
}
