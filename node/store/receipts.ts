import { readFileSync } from 'node:fs';
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
  accepted: z.array(hash),
});

/**
 * Which contributions have no answer yet, for the process that comes after this one. Nothing but answers depends on it: what
 * cannot be read counts as none, and it is not waited for until the disk has it.
 */
export class ReceiptsFile {
  readonly #path: string;

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

  /** @throws CodedError `E_DISK_FULL`, `E_DIR_UNWRITABLE` */
  save(receipts: SavedReceipts): void {
    writeFileAtomicSync(this.#path, new TextEncoder().encode(JSON.stringify(receipts)), { durable: false });
  }
}
