import type { Effect, Event, Report } from '../../protocol/events.ts';
import type { Hash } from '../../protocol/hash.ts';
import type { PeerId } from '../../protocol/identity.ts';
import type { Machine } from '../../protocol/machine.ts';
import type { Message, Proposal } from '../../protocol/messages.ts';
import { blockHash } from '../../protocol/signing.ts';
import type { Head } from './format.ts';

/** What one peer knows of a round. Times are Unix time in milliseconds, by its own clock. */
export interface RoundFacts {
  /** as reports count: so many rounds are done once this one is */
  round: number;
  /** who had a place; unknown to a peer that was not there when the round began */
  places?: readonly PeerId[];
  /** this peer began to train, from this root: the first time, for after a restart it begins again */
  trainingMs?: number;
  base?: Hash;
  /** the others were waiting, and it was asked to stop and send what it had */
  finishMs?: number;
  /** its training ended */
  trainedMs?: number;
  /** and gave nothing of use */
  isBroken?: true;
  /** when the headers came, the own one when it was announced, and what they named: one for each state that it was made from */
  headers: Map<PeerId, Announced[]>;
  /** what was proposed, by the block's hash, and when it came (or was made) here */
  proposals: Map<Hash, { atMs: number; author: PeerId; authors: PeerId[] }>;
  /** the block that ended the round, on the branch that the peer follows, and the state that it was for */
  decided?: { atMs: number; block: Hash; base: Hash; authors: PeerId[]; final: boolean };
  /** what was told of its end, the last of all at the end: twice, where it was unfinal and another took its place */
  reports: (Report & { kind: 'round' })[];
}

interface Announced {
  atMs: number;
  payload: Hash;
  base: Hash;
}

export interface Facts {
  rounds: Map<number, RoundFacts>;
  /** what became of payloads that others announced: the time, and the error or null */
  payloads: Map<Hash, { atMs: number; error: string | null }>;
  /** when this peer was started (`continued` files are no start) */
  startsMs: number[];
  /** states taken from others, with the rounds done in them, and in the one before */
  restored: { atMs: number; round: number; before: number }[];
  /** rounds done in the state that the peer was at last */
  stood: number;
}

export function noFacts(): Facts {
  return { rounds: new Map(), payloads: new Map(), startsMs: [], restored: [], stood: 0 };
}

/** @returns takes in the steps of one file, in order */
export function factsOf(
  facts: Facts,
  machine: Machine,
  head: Head,
): (event: Event, effects: readonly Effect[]) => void {
  const { clockMs, continued } = head;
  return (event, effects) => {
    const atMs = clockMs + event.nowMs;
    if (event.type === 'start' && !continued) facts.startsMs.push(atMs);
    if (event.type === 'payload') facts.payloads.set(event.update.payload, { atMs, error: event.error });
    if (event.type === 'taken') taken(facts, event, atMs);
    if (event.type === 'messages') for (const message of event.messages) said(facts, message, atMs);
    if (event.type === 'trained') trained(facts, event.base, atMs);
    if (event.type === 'broken')
      for (const round of facts.rounds.values()) if (round.base === event.base) round.isBroken = true;
    for (const effect of effects) done(facts, effect, atMs);
    if (effects.some(isReturn)) forgetOverruled(facts, machine);
    const { round, places, root } = machine.standing;
    if (root !== undefined) facts.stood = round;
    if (root !== undefined && places.length > 0) {
      const here = roundOf(facts, round + 1);
      here.places ??= places;
    }
  };
}

function roundOf({ rounds }: Facts, round: number): RoundFacts {
  let facts = rounds.get(round);
  if (!facts) {
    facts = { round, headers: new Map(), proposals: new Map(), reports: [] };
    rounds.set(round, facts);
  }
  return facts;
}

function said(facts: Facts, message: Message, atMs: number): void {
  if (message.type === 'header') {
    const { headers } = roundOf(facts, message.round + 1);
    const { base, update } = message;
    const known = headers.get(update.author) ?? [];
    const isKnown = known.some((header) => header.base === base);
    if (!isKnown) headers.set(update.author, [...known, { atMs, payload: update.payload, base }]);
  }
  if (message.type === 'proposal') proposed(facts, message, atMs);
}

function proposed(facts: Facts, { author, block }: Proposal, atMs: number): void {
  if (block.kind !== 'round') return;
  const { proposals } = roundOf(facts, block.round + 1);
  const hash = blockHash(block);
  if (!proposals.has(hash)) proposals.set(hash, { atMs, author, authors: block.updates.map((each) => each.author) });
}

function taken({ payloads }: Facts, { headers, refused }: Event & { type: 'taken' }, atMs: number): void {
  for (const header of headers) payloads.set(header.update.payload, { atMs, error: refused.get(header) ?? null });
}

function trained({ rounds }: Facts, base: Hash, atMs: number): void {
  for (const round of rounds.values()) if (round.base === base) round.trainedMs ??= atMs;
}

function done(facts: Facts, effect: Effect, atMs: number): void {
  switch (effect.type) {
    case 'broadcast':
      return said(facts, effect.message, atMs);
    case 'train': {
      const round = roundOf(facts, effect.round + 1);
      if (round.base !== effect.base) forgetTraining(round);
      round.trainingMs ??= atMs;
      round.base = effect.base;
      return;
    }
    case 'finish': {
      const round = [...facts.rounds.values()].findLast(({ trainingMs }) => trainingMs !== undefined);
      if (round) round.finishMs ??= atMs;
      return;
    }
    case 'apply': {
      const { final, entry } = effect;
      const { block } = entry;
      const authors = block.updates.map(({ author }) => author);
      const round = roundOf(facts, block.round + 1);
      // of a branch that it has left
      if (round.base !== undefined && round.base !== block.base) forgetTraining(round);
      // after a restart the same block may be applied again
      if (round.decided?.block !== effect.block)
        round.decided = { atMs, block: effect.block, base: block.base, authors, final };
      if (final) confirm(facts, block.round + 1);
      return;
    }
    case 'report':
      return told(facts, effect.report, atMs);
    default: // the others are no news
  }
}

function told(facts: Facts, report: Report, atMs: number): void {
  if (report.kind === 'round') ended(facts, report);
  if (report.kind !== 'synced') return;
  facts.restored.push({ atMs, round: report.round, before: facts.stood });
}

/** What a certified block follows is as final as it is. */
function confirm({ rounds }: Facts, last: number): void {
  for (const { round, decided } of rounds.values()) if (decided && round < last) decided.final = true;
}

/** The peer has come to a state, perhaps of another branch. */
function isReturn(effect: Effect): boolean {
  return effect.type === 'report' && effect.report.kind === 'synced';
}

/** Unfinal rounds that were left behind: how they ended says nothing of how they did for the others. */
function forgetOverruled({ rounds, restored }: Facts, machine: Machine): void {
  const state = restored.at(-1);
  for (const round of rounds.values()) {
    if (!round.decided || round.decided.final || machine.follows(round.decided.block)) continue;
    delete round.decided;
    if (state) state.before = Math.min(state.before, round.round - 1);
  }
}

function forgetTraining(round: RoundFacts): void {
  delete round.base;
  delete round.trainingMs;
  delete round.finishMs;
  delete round.trainedMs;
  delete round.isBroken;
}

/** After a restart the same end may be told again: the one that held last stays the last. */
function ended(facts: Facts, report: Report & { kind: 'round' }): void {
  const { reports } = roundOf(facts, report.round);
  const known = reports.findIndex(({ root, final }) => root === report.root && final === report.final);
  const [before] = known < 0 ? [] : reports.splice(known, 1);
  reports.push(before ?? report);
}
