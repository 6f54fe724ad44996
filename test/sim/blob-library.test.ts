import { expect, test } from 'vitest';
import { hashOf } from '../../protocol/hash.ts';
import { BlobLibrary } from '../../sim/blob-library.ts';

const BYTES = new Uint8Array([1, 2, 3]);
const BLOB = hashOf(BYTES);

test('a payload is on a disk until that peer drops it, also where others hear of it again in a later round', () => {
  const library = new BlobLibrary(3, () => null);
  library.putPayload(0, BLOB, BYTES, 4);
  library.put(1, BLOB, BYTES);
  // a liar names it once more, and one who goes on drops what it has heard of meanwhile
  library.putPayload(2, BLOB, BYTES, 9);
  library.dropPayloads(2, 20);
  expect([0, 1, 2].map((peer) => library.has(peer, BLOB))).toEqual([true, true, false]);
  expect(library.bytes(BLOB)).toEqual(BYTES);
  library.dropPayloads(0, 20);
  library.dropPayloads(1, 20);
  expect(library.bytes(BLOB)).toBeUndefined();
});
