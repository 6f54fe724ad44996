import { createHash, createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import { peerIdOf, type Signer } from '../protocol/identity.ts';

/** DER frames of an Ed25519 key (RFC 8410): the key's 32 bytes follow. */
const PKCS8_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex');
const SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex');

/** Signatures whose verdict is remembered. */
const VERDICTS_KEPT = 1 << 16;

interface Verdict {
  publicKey: Uint8Array;
  bytes: Uint8Array;
  holds: boolean;
}

/**
 * Real Ed25519 identities that share what they verified: the same message reaches all peers of a simulation, and its
 * signature holds for all or for none.
 */
export class Identities {
  readonly #keys = new Map<string, KeyObject>();
  /** by signature */
  #verdicts = new Map<string, Verdict>();

  /** @param seed 32 bytes, as a real peer keeps them in its identity file */
  fromSeed(seed: Uint8Array): Signer {
    const key = createPrivateKey({ key: Buffer.concat([PKCS8_PREFIX, seed]), format: 'der', type: 'pkcs8' });
    const publicKey = createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(-32);
    return {
      self: peerIdOf(publicKey),
      sign: (bytes) => {
        const signature = new Uint8Array(sign(null, bytes, key));
        // what the key has just made needs no second look
        this.#remember(signature, { publicKey, bytes, holds: true });
        return signature;
      },
      verify: (author, bytes, signature) => this.#verify(author, bytes, signature),
    };
  }

  /** The identities of a simulated swarm: the same for the same seed. */
  swarm(seed: number, count: number): Signer[] {
    const identity = (i: number) => createHash('sha256').update(`outerloop/sim/${seed}/${i}`).digest();
    return Array.from({ length: count }, (_, i) => this.fromSeed(identity(i)));
  }

  #verify(publicKey: Uint8Array, bytes: Uint8Array, signature: Uint8Array): boolean {
    const known = this.#verdicts.get(nameOf(signature));
    if (known && equalBytes(known.publicKey, publicKey) && equalBytes(known.bytes, bytes)) return known.holds;
    let holds = false;
    try {
      holds = signature.length === 64 && verify(null, bytes, this.#keyOf(publicKey), signature);
    } catch {
      // not a public key, so nobody can have signed
    }
    this.#remember(signature, { publicKey, bytes, holds });
    return holds;
  }

  #remember(signature: Uint8Array, verdict: Verdict): void {
    if (this.#verdicts.size >= VERDICTS_KEPT) this.#verdicts = new Map();
    this.#verdicts.set(nameOf(signature), verdict);
  }

  #keyOf(publicKey: Uint8Array): KeyObject {
    const name = Buffer.from(publicKey).toString('base64');
    let key = this.#keys.get(name);
    if (!key) {
      key = createPublicKey({ key: Buffer.concat([SPKI_PREFIX, publicKey]), format: 'der', type: 'spki' });
      this.#keys.set(name, key);
    }
    return key;
  }
}

function nameOf(signature: Uint8Array): string {
  return Buffer.from(signature.buffer, signature.byteOffset, signature.length).toString('latin1');
}

function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
