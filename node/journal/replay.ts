import { CodedError } from '../../protocol/errors.ts';
import type { Effect } from '../../protocol/events.ts';
import { decodeGenesis, runIdOf } from '../../protocol/genesis.ts';
import type { Hash } from '../../protocol/hash.ts';
import type { PeerId, Signer } from '../../protocol/identity.ts';
import { Machine } from '../../protocol/machine.ts';
import { verifySignature } from '../net/identity.ts';
import { isCutOff, readFramed } from '../store/framed.ts';
import { describeEffect, describeFailure, isOutcome } from './describe.ts';
import { type Facts, factsOf } from './facts.ts';
import { decodeHead, decodeStep, type Signed, type Step } from './format.ts';
import { signedDigest } from './journal.ts';

/** Where a machine did something else than the one whose journal it is. */
export interface Difference {
  /** place of the event in the file, from 1 */
  event: number;
  /** what kind of event it was */
  type: string;
  /** what was written down at the time; empty where nothing was */
  expected: string;
  got: string;
}

export interface Replay {
  self: PeerId;
  run: Hash;
  /** the file begins in the middle of a peer's life */
  continued: boolean;
  events: number;
  difference: Difference | null;
  /** bytes at the end that are no whole event */
  tornBytes: number;
  /** and not because the process was killed, or is still writing: what came after is lost */
  damaged: boolean;
}

/**
 * Feeds a journal to a new machine, without network, training or key, and compares what it does. A file that begins with
 * a start is followed in every effect; one that goes on where another was full in the rounds alone, since what the
 * machine had meant to repeat at that moment is not written down.
 *
 * Stops at the first difference: from there on the events are those of another story.
 * @param facts takes in what happens, of one peer over all files of its journal
 * @param peer whose those before were
 * @throws CodedError `E_JOURNAL_FORMAT`, and those of a damaged genesis or message
 */
export function replay(bytes: Uint8Array, facts: Facts, peer?: PeerId): Replay {
  const { contents, validBytes } = readFramed(bytes);
  const head = decodeHead(contents[0]);
  if (peer !== undefined && peer !== head.self) throw ofAnother();
  const genesis = decodeGenesis(head.genesis);
  const run = runIdOf(genesis);
  const signer = new ReplaySigner(head.self);
  const machine = new Machine({ signer }, { genesis });
  const fact = factsOf(facts, machine, head);
  const { self, continued } = head;
  let asked: PeerId | undefined;
  const [tornBytes, damaged] = [bytes.length - validBytes, !isCutOff(bytes.subarray(validBytes))];
  const result = { self, run, continued, events: 0, difference: null, tornBytes, damaged };
  for (const content of contents.slice(1)) {
    // an event at a time: decoded, a whole file would take many times its size
    const step = decodeStep(content, head, run, signer);
    const event = result.events + 1;
    // in mid-life it is not known whose turn it was to be asked: whoever is, the answer is the one that came
    if (continued && step.event.type === 'history' && asked) step.event.peer = asked;
    const { outcome, effects } = stepOf(machine, signer, step);
    for (const effect of effects) if (effect.type === 'request-history') asked = effect.peer;
    fact(step.event, effects);
    const difference = differenceOf(step, outcome, continued);
    if (difference) return { ...result, events: event, difference: { event, type: step.event.type, ...difference } };
    result.events = event;
  }
  return result;
}

function ofAnother(): CodedError<'E_JOURNAL_FORMAT'> {
  return new CodedError('E_JOURNAL_FORMAT', 'the journal is of another peer than the files before it: replay it alone');
}

function stepOf(machine: Machine, signer: ReplaySigner, step: Step): { outcome: string[]; effects: readonly Effect[] } {
  signer.learn(step.signed);
  try {
    const effects = machine.step(step.event);
    return { effects, outcome: [...effects.map(describeEffect), ...signer.takeUnknown()] };
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    return { effects: [], outcome: [describeFailure(error)] };
  }
}

function differenceOf(
  { outcome: expected }: Step,
  got: string[],
  continued: boolean,
): Pick<Difference, 'expected' | 'got'> | undefined {
  if (expected === null) return undefined;
  const [a, b] = continued ? [expected.filter(isOutcome), got.filter(isOutcome)] : [expected, got];
  const length = Math.max(a.length, b.length);
  for (let i = 0; i < length; i++) if (a[i] !== b[i]) return { expected: a[i] ?? '', got: b[i] ?? '' };
  return undefined;
}

/** Signs with the signatures of the time. */
class ReplaySigner implements Signer {
  readonly self: PeerId;
  readonly verify = verifySignature;
  readonly #signatures = new Map<string, Uint8Array>();
  #unknown: string[] = [];

  constructor(self: PeerId) {
    this.self = self;
  }

  learn(signed: Signed[]): void {
    for (const [digest, signature] of signed) this.#signatures.set(digest, signature);
  }

  sign(bytes: Uint8Array): Uint8Array {
    const digest = signedDigest(bytes);
    const signature = this.#signatures.get(digest);
    if (!signature) this.#unknown.push(`sign ${digest}, which was not signed at the time`);
    return signature ?? new Uint8Array(64);
  }

  takeUnknown(): string[] {
    const unknown = this.#unknown;
    this.#unknown = [];
    return unknown;
  }
}
