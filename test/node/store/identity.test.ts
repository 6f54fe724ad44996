import { sign, verify } from 'node:crypto';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createSeed, loadIdentity, privateKeyOf, publicKeyOfSeed, saveIdentity } from '../../../node/store/identity.ts';
import { bytesToHex, hexToBytes } from '../../../protocol/hash.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

describe('seed', () => {
  it('gives the keys and signatures of RFC 8032 §7.1, test 2', () => {
    const seed = hexToBytes('4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb');
    expect(bytesToHex(publicKeyOfSeed(seed))).toBe('3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c');
    const signature = sign(null, Uint8Array.of(0x72), privateKeyOf(seed));
    expect(bytesToHex(signature)).toMatch(/^92a009a9f0d4cab8720e820b5f642540/);
    expect(verify(null, Uint8Array.of(0x72), privateKeyOf(seed), signature)).toBe(true);
  });

  it('differs every time', () => {
    expect(createSeed()).toHaveLength(32);
    expect(createSeed()).not.toEqual(createSeed());
  });
});

describe('identity file', () => {
  it('is only the owner to read and gives the seed back', () => {
    const folder = temporaryFolder();
    const path = join(folder, 'peer', 'identity.key');
    const seed = createSeed();
    expect(loadIdentity(path)).toBeUndefined();
    saveIdentity(path, seed);
    expect(loadIdentity(path)).toEqual(seed);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readdirSync(join(folder, 'peer'))).toEqual(['identity.key']);
  });

  it('is never overwritten', () => {
    const path = join(temporaryFolder(), 'identity.key');
    const seed = createSeed();
    saveIdentity(path, seed);
    expect(() => saveIdentity(path, createSeed())).toThrow(expect.objectContaining({ code: 'E_IDENTITY_EXISTS' }));
    expect(loadIdentity(path)).toEqual(seed);
  });

  it('is noticed when it is damaged: cut short at any byte, longer, or with any byte changed', () => {
    const path = join(temporaryFolder(), 'identity.key');
    saveIdentity(path, createSeed());
    const whole = readFileSync(path);
    const changed = Array.from(whole, (byte, i) => whole.map((other, j) => (i === j ? byte ^ 1 : other)));
    const cut = Array.from(whole, (_, length) => whole.subarray(0, length));
    for (const bytes of [...changed, ...cut, Buffer.concat([whole, Buffer.of(0)]), Buffer.alloc(64)]) {
      writeFileSync(path, bytes);
      expect(() => loadIdentity(path)).toThrow(expect.objectContaining({ code: 'E_IDENTITY_DAMAGED' }));
    }
  });
});
