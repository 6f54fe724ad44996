import { readFileSync } from 'node:fs';
import * as z from 'zod';
import { writeFileAtomicSync } from './atomic.ts';

const LISTEN_MAX = 64;
const addresses = (max: number) => z.array(z.string()).max(max);

/** Where this peer listened and where the others were: a peer that starts again finds them, and is found. */
const schema = z.strictObject({
  listen: addresses(LISTEN_MAX),
  peers: addresses(4096),
  /** what it was told of its own network, to do the same at its next start */
  asked: z
    .strictObject({
      listen: addresses(LISTEN_MAX),
      announce: addresses(64).optional(),
      dialFrom: z.string().optional(),
    })
    .optional(),
});
export type Whereabouts = z.infer<typeof schema>;

/** @param onDamage there is a file that cannot be read @returns nothing known for a missing or damaged file */
export function loadWhereabouts(path: string, onDamage: () => void = () => undefined): Whereabouts {
  try {
    return schema.parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') onDamage();
    return { listen: [], peers: [] };
  }
}

/**
 * @param durable waits for the disk: a power cut must not forget what a user asked for
 * @throws CodedError `E_DISK_FULL`, `E_DIR_UNWRITABLE`
 */
export function saveWhereabouts(path: string, whereabouts: Whereabouts, durable = false): void {
  const listen = whereabouts.listen.slice(0, LISTEN_MAX); // a machine has as many addresses as it likes
  writeFileAtomicSync(path, new TextEncoder().encode(JSON.stringify({ ...whereabouts, listen })), { durable });
}
