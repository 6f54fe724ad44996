import { expect, test } from 'vitest';
import { PeerProcess } from '../../../node/chaos/peer-process.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

/** What runs instead of a peer. */
const program = (code: string): string[] => [process.execPath, '--eval', code];

test('a program that cannot be begun is a peer that ended, and says why', async () => {
  const peer = new PeerProcess(temporaryFolder(), [], ['/nowhere/at/all']);
  const message = expect.stringContaining('/nowhere/at/all ENOENT');
  await expect(peer.ready()).rejects.toMatchObject({ code: 'E_PEER_ENDED', message });
  expect(peer.ended).toBe(true);
  await peer.kill('SIGKILL');
});

test('lines that are no events are kept apart from those that are', async () => {
  const code = `
    console.log('{"event":"warning","code":"W","message":"w"}');
    for (const line of ['a word', 'null', '5', '{"no":"event"}', '{"event":"round","ro']) console.log(line);`;
  const peer = new PeerProcess(temporaryFolder(), [], program(code));
  expect(await peer.exited).toBe(0);
  expect(peer.lines).toEqual([{ event: 'warning', code: 'W', message: 'w' }]);
  expect(peer.stderr).toBe('a word\nnull\n5\n{"no":"event"}\n{"event":"round","ro\n');
});
