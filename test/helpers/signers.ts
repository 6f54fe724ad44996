import { createHash, createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import { peerIdOf, type Signer } from '../../protocol/identity.ts';

const PKCS8 = Buffer.from('302e020100300506032b657004220420', 'hex');
const SPKI = Buffer.from('302a300506032b6570032100', 'hex');

/** A real Ed25519 identity from a label. Verified signatures are remembered: a swarm checks each of them many times. */
export function testSigner(label: string): Signer {
  const seed = createHash('sha256').update(label).digest();
  const key = createPrivateKey({ key: Buffer.concat([PKCS8, seed]), format: 'der', type: 'pkcs8' });
  const publicKey = createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(-32);
  return {
    self: peerIdOf(publicKey),
    sign: (bytes) => new Uint8Array(sign(null, bytes, key)),
    verify: verifyCached,
  };
}

const verdicts = new Map<string, boolean>();
const keys = new Map<string, KeyObject>();

function verifyCached(publicKey: Uint8Array, bytes: Uint8Array, signature: Uint8Array): boolean {
  const name = createHash('sha256').update(publicKey).update(signature).update(bytes).digest('base64');
  const known = verdicts.get(name);
  if (known !== undefined) return known;
  const hex = Buffer.from(publicKey).toString('hex');
  let key = keys.get(hex);
  if (!key) {
    key = createPublicKey({ key: Buffer.concat([SPKI, publicKey]), format: 'der', type: 'spki' });
    keys.set(hex, key);
  }
  const verdict = verify(null, bytes, key, signature);
  verdicts.set(name, verdict);
  return verdict;
}
