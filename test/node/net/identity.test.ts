import { readFileSync } from 'node:fs';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createIdentity, identityFromBytes, identityToBytes, verifySignature } from '../../../node/net/index.ts';
import { hexToBytes } from '../../../protocol/hash.ts';
import { publicKeyOf } from '../../../protocol/identity.ts';

describe('identity', () => {
  it('is the same peer for libp2p and for the protocol, and again from its bytes', () => {
    const identity = createIdentity();
    expect(peerIdFromPrivateKey(identity.privateKey).toString()).toBe(identity.self);
    expect(publicKeyOf(identity.self)).toEqual(identity.publicKey);
    expect(identityFromBytes(identityToBytes(identity)).self).toBe(identity.self);
    expect(createIdentity().self).not.toBe(identity.self);
  });

  it('signs as RFC 8032 says (section 7.1, test 2)', () => {
    const seed = Buffer.from('4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb', 'hex');
    const identity = identityFromBytes(seed);
    expect(Buffer.from(identity.sign(Uint8Array.of(0x72))).toString('hex')).toBe(
      '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da' +
        '085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00',
    );
  });

  it('verifies what implementations do not agree on as docs/protocol.md says, for one that does not hold voids a certificate', () => {
    const page = readFileSync(new URL('../../../docs/protocol.md', import.meta.url), 'utf8');
    const lines = /^```signatures\n([^`]*)^```/m.exec(page)?.[1]?.trim().split('\n') ?? [];
    const answers = lines.map((line) => {
      const [key = '', message = '', signature = '', answer] = line.split(' ');
      const bytes = new TextEncoder().encode(message.replaceAll('_', ' '));
      const holds = verifySignature(hexToBytes(key), bytes, hexToBytes(signature));
      return [answer, holds ? 'holds' : 'void'];
    });
    expect(answers).toHaveLength(10);
    for (const [told, found] of answers) expect(found).toBe(told);
  });

  it('verifies only the very bytes, signature and key', () => {
    const [identity, other] = [createIdentity(), createIdentity()];
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 1, maxLength: 99 }),
        fc.nat(63),
        fc.integer({ min: 1, max: 255 }),
        (bytes, at, flip) => {
          const signature = identity.sign(bytes);
          expect(identity.verify(identity.publicKey, bytes, signature)).toBe(true);
          expect(verifySignature(other.publicKey, bytes, signature)).toBe(false);
          const forged = signature.slice();
          forged[at]! ^= flip;
          expect(verifySignature(identity.publicKey, bytes, forged)).toBe(false);
          const altered = bytes.slice();
          altered[at % bytes.length]! ^= flip;
          expect(verifySignature(identity.publicKey, altered, signature)).toBe(false);
        },
      ),
      { numRuns: 30 },
    );
    expect(verifySignature(new Uint8Array(3), Uint8Array.of(1), new Uint8Array(64))).toBe(false);
    expect(() => identityFromBytes(new Uint8Array(31))).toThrow(expect.objectContaining({ code: 'E_IDENTITY' }));
  });
});
