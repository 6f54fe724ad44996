import './polyfill.ts';
import { createPublicKey, type KeyObject, randomBytes, sign, verify } from 'node:crypto';
import { privateKeyFromRaw } from '@libp2p/crypto/keys';
import type { PrivateKey } from '@libp2p/interface';
import { peerIdOf, type Signer } from '../../protocol/identity.ts';
import { privateKeyOf, publicKeyOfSeed } from '../store/identity.ts';
import { networkError } from './errors.ts';

/**
 * Who this peer is: an Ed25519 key. It signs for the protocol and proves the peer id to libp2p. The libp2p key inside
 * is for `node/net` only; everybody else sees the peer id, the raw public key and `Signer`.
 */
export interface Identity extends Signer {
  /** 32 raw bytes */
  readonly publicKey: Uint8Array;
  readonly privateKey: PrivateKey;
}

const SEED_BYTES = 32;

export function createIdentity(): Identity {
  return identityFromBytes(randomBytes(SEED_BYTES));
}

/**
 * @param seed 32 bytes, as `identityToBytes` gives them
 * @throws CodedError `E_IDENTITY`
 */
export function identityFromBytes(seed: Uint8Array): Identity {
  if (seed.length !== SEED_BYTES) {
    throw networkError('E_IDENTITY', `an identity is a seed of ${SEED_BYTES} bytes, not ${seed.length}: restore it`);
  }
  const key = privateKeyOf(seed);
  const publicKey = publicKeyOfSeed(seed);
  return {
    self: peerIdOf(publicKey),
    publicKey,
    // libp2p keeps the two halves together
    privateKey: privateKeyFromRaw(Buffer.concat([seed, publicKey])),
    sign: (bytes) => new Uint8Array(sign(null, bytes, key)),
    verify: verifySignature,
  };
}

/** The 32-byte Ed25519 seed. Secret: whoever has it is this peer. */
export function identityToBytes(identity: Identity): Uint8Array {
  return identity.privateKey.raw.slice(0, SEED_BYTES);
}

/**
 * RFC 8032, without the cofactor; false for a wrong signature, for a public key that is not one, and where the key or R is of
 * small order. Of those OpenSSL refuses some, from 3.5 on, and took all before: peers would not agree on a certificate.
 */
export function verifySignature(publicKey: Uint8Array, bytes: Uint8Array, signature: Uint8Array): boolean {
  if (publicKey.length !== 32 || signature.length !== 64) return false;
  if (isSmallOrder(publicKey) || isSmallOrder(signature.subarray(0, 32))) return false;
  try {
    return verify(null, bytes, verifyingKey(publicKey), signature);
  } catch {
    return false;
  }
}

/** The y of the eight points of small order, also where it is not reduced, little-endian; the sign of x is in the last bit. */
const SMALL_ORDER_Y: ReadonlySet<string> = new Set([
  '0000000000000000000000000000000000000000000000000000000000000000',
  '0100000000000000000000000000000000000000000000000000000000000000',
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
]);

function isSmallOrder(point: Uint8Array): boolean {
  const y = Buffer.from(point);
  y.writeUInt8(y.readUInt8(31) & 0x7f, 31);
  return SMALL_ORDER_Y.has(y.toString('hex'));
}

/** Making a key object costs about as much as a verification; bounded, since strangers' keys pass here too. */
const KEYS_CACHED = 4096;
const keys = new Map<string, KeyObject>();

function verifyingKey(publicKey: Uint8Array): KeyObject {
  const x = base64url(publicKey);
  const known = keys.get(x);
  if (known) return known;
  const key = createPublicKey({ format: 'jwk', key: { kty: 'OKP', crv: 'Ed25519', x } });
  if (keys.size >= KEYS_CACHED) keys.clear();
  keys.set(x, key);
  return key;
}

function base64url(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64url');
}
