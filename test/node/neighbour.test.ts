import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { neighbour } from '../../node/neighbour.ts';
import { identityFromBytes } from '../../node/net/index.ts';
import { openDirectory } from '../../node/store/directory.ts';
import { createSeed, saveIdentity } from '../../node/store/identity.ts';
import { saveWhereabouts } from '../../node/store/whereabouts.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

it('finds a peer that another process is, and how to join by it once that is known', () => {
  const base = temporaryFolder();
  const path = join(base, 'a-run-1');
  const seed = createSeed();
  expect(neighbour(base)).toBeUndefined();
  const { paths, release } = openDirectory(path, new TextEncoder().encode('a genesis'));
  saveIdentity(paths.identity, seed);
  expect(neighbour(base)).toEqual({ path });
  const listen = ['/ip4/192.168.1.7/tcp/4001', '/ip4/127.0.0.1/tcp/4001'];
  saveWhereabouts(paths.whereabouts, { listen, peers: [] });
  expect(neighbour(base)).toEqual({ path, address: `${listen[1]}/p2p/${identityFromBytes(seed).self}` });
  saveWhereabouts(paths.whereabouts, { listen: listen.slice(0, 1), peers: [] });
  expect(neighbour(base)?.address).toMatch(/^\/ip4\/192/);
  writeFileSync(paths.identity, 'damaged');
  expect(neighbour(base)).toEqual({ path });
  release();
  expect(neighbour(base)).toBeUndefined();
});
