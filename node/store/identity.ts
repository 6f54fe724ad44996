import { createPrivateKey, createPublicKey, type KeyObject, randomBytes } from 'node:crypto';
import { linkSync, mkdirSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { threadId } from 'node:worker_threads';
import { equalBytes } from '../../protocol/encoding.ts';
import { CodedError } from '../../protocol/errors.ts';
import { diskError, removeQuietly, syncFolder, TEMPORARY_ENDING, writeFileAtomicSync } from './atomic.ts';

export type IdentityErrorCode =
  | 'E_IDENTITY_DAMAGED' // not a key and its public half
  | 'E_IDENTITY_EXISTS'; // there is one already, and it is never overwritten

const SEED_BYTES = 32;

/** PKCS #8 of an Ed25519 private key (RFC 8410 §7): this, then the 32 bytes of the seed. */
const PKCS8_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex');

/** A new Ed25519 seed, from the system's randomness. */
export function createSeed(): Uint8Array {
  return new Uint8Array(randomBytes(SEED_BYTES));
}

/** @param seed 32 bytes */
export function privateKeyOf(seed: Uint8Array): KeyObject {
  return createPrivateKey({ key: Buffer.concat([PKCS8_PREFIX, seed]), format: 'der', type: 'pkcs8' });
}

/** The 32 raw bytes of the public key. */
export function publicKeyOfSeed(seed: Uint8Array): Uint8Array {
  const spki = createPublicKey(privateKeyOf(seed)).export({ format: 'der', type: 'spki' });
  return new Uint8Array(spki.subarray(spki.length - 32));
}

/**
 * Writes a seed, for the owner alone (mode 0600), followed by its public key, so that a damaged file is noticed instead
 * of making the peer somebody else. Never overwrites.
 * @throws CodedError `E_IDENTITY_EXISTS`, `E_DISK_FULL`, `E_DIR_UNWRITABLE`
 */
export function saveIdentity(path: string, seed: Uint8Array): void {
  const draft = `${path}.new-${process.pid}-${threadId}${TEMPORARY_ENDING}`;
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    writeFileAtomicSync(draft, [seed, publicKeyOfSeed(seed)]);
    // link, not rename: it fails when the name is taken
    linkSync(draft, path);
    syncFolder(dirname(path));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'EEXIST') {
      throw new CodedError<IdentityErrorCode>(
        'E_IDENTITY_EXISTS',
        `${path} exists; a peer's key is never overwritten`,
        { cause },
      );
    }
    throw diskError(cause, path);
  } finally {
    removeQuietly(draft);
  }
}

/**
 * @returns the 32-byte seed, `undefined` if there is no file
 * @throws CodedError `E_IDENTITY_DAMAGED`
 */
export function loadIdentity(path: string): Uint8Array | undefined {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(path);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new CodedError<IdentityErrorCode>(
      'E_IDENTITY_DAMAGED',
      `cannot read the key in ${path}; check its permissions`,
      { cause },
    );
  }
  const seed = bytes.slice(0, SEED_BYTES);
  const whole = bytes.length === 2 * SEED_BYTES && equalBytes(publicKeyOfSeed(seed), bytes.subarray(SEED_BYTES));
  if (whole) return new Uint8Array(seed);
  const message = `the key in ${path} is damaged; restore it from a copy, or remove it to take part as a new peer`;
  throw new CodedError<IdentityErrorCode>('E_IDENTITY_DAMAGED', message);
}
