import { isCoded } from '../protocol/errors.ts';
import type { PeerId } from '../protocol/identity.ts';

/** Those about which somebody can do something: the others are strangers, and connections that broke. */
const TOLD: ReadonlySet<string> = new Set(['E_OTHER_RUN', 'E_OTHER_VERSION', 'E_REFUSED']);
/** One that is turned away comes again, and others like it. */
const AGAIN_MS = 600_000;

/** Tells of peers that were turned away, or turned us away: of each reason now and then, however often it comes. */
export class Refusals {
  readonly #warn: (code: string, message: string) => void;
  readonly #now: () => number;
  readonly #toldMs = new Map<string, number>();

  /** @param now milliseconds of any clock that does not go back */
  constructor(warn: (code: string, message: string) => void, now: () => number = () => performance.now()) {
    this.#warn = warn;
    this.#now = now;
  }

  refused(peer: PeerId, error: Error): void {
    if (!isCoded(error) || !TOLD.has(error.code)) return;
    const toldMs = this.#toldMs.get(error.code);
    if (toldMs !== undefined && this.#now() - toldMs < AGAIN_MS) return;
    this.#toldMs.set(error.code, this.#now());
    this.#warn('W_REFUSED', `no connection with ${peer}: ${error.message} (${error.code})`);
  }
}
