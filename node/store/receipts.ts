import { readFileSync, rmSync } from 'node:fs';
import * as z from 'zod';
import { HASH_PATTERN } from '../../protocol/hash.ts';
import type { SavedReceipts } from '../../protocol/receipts.ts';
import { writeFileAtomicSync } from './atomic.ts';

const hash = z.string().regex(HASH_PATTERN);
const one = z.strictObject({ round: z.int().nonnegative(), payload: hash.nullable() });
const made = z.strictObject({ ...one.shape, carries: z.array(one), forgotten: z.literal(true).optional() });
const schema: z.ZodType<SavedReceipts> = z.strictObject({
  made: made.nullable(),
  unfinal: z.array(made),
  owed: z.array(one),
  answered: z.array(hash),
  training: z.int().nonnegative().nullable().default(null),
  beyond: z.int().nonnegative().optional(),
});

/**
 * Which contributions have no answer yet, for the process that comes after this one. Nothing but answers depends on it: what
 * cannot be read counts as none, what cannot be written is no reason to stop, and it is not waited for until the disk has it.
 */
export class ReceiptsFile {
  readonly #path: string;
  #written: string | undefined;
  #hasFailed = false;

  constructor(path: string) {
    this.#path = path;
  }

  load(): SavedReceipts | undefined {
    try {
      return schema.parse(JSON.parse(readFileSync(this.#path, 'utf8')));
    } catch {
      return undefined;
    }
  }

  /** Without the books that they are about they would say of work that is gone that it counts. */
  remove(): void {
    rmSync(this.#path, { force: true });
  }

  /** Nothing of it is on the disk: it goes without an answer, as do the steps of any kill. */
  dropTraining(): void {
    const saved = this.load();
    if (saved && saved.training !== null) this.save({ ...saved, training: null });
  }

  /** @returns why it could not be written, where it could before */
  save(receipts: SavedReceipts): Error | undefined {
    const text = JSON.stringify(receipts);
    if (text === this.#written) return undefined;
    try {
      writeFileAtomicSync(this.#path, new TextEncoder().encode(text), { durable: false });
      this.#written = text;
      this.#hasFailed = false;
      return undefined;
    } catch (cause) {
      const isNew = !this.#hasFailed;
      this.#hasFailed = true;
      return isNew ? (cause as Error) : undefined;
    }
  }
}
