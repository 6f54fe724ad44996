import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { finalRoots, PeerProcess } from '../../node/chaos/peer-process.ts';
import { readChainLog } from '../../node/store/chain-log.ts';
import { readGenesisFile, runPaths } from '../../node/store/directory.ts';
import { leadersOf } from '../../protocol/chain.ts';
import { decodeGenesis, runIdOf } from '../../protocol/genesis.ts';
import { branchFromLog } from '../../protocol/history.ts';
import { leaderOf } from '../../protocol/roster.ts';
import { testSigner } from '../helpers/signers.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

/** Real processes, real sockets on loopback, real training of the smallest model. */

let folder: string;
let peers: PeerProcess[];

beforeEach(() => {
  folder = temporaryFolder();
  peers = [];
});

afterEach(async () => {
  await Promise.all(peers.map((peer) => peer.kill('SIGKILL')));
});

function start(name: string, options: string[]): PeerProcess {
  const peer = new PeerProcess(join(folder, name), ['--listen', '/ip4/127.0.0.1/tcp/0', ...options]);
  peers.push(peer);
  return peer;
}

/** A founder and joiners that wait for each other. */
async function startAll(count: number, options: string[]): Promise<PeerProcess[]> {
  const common = ['--model', 'micro', '--wait-for', String(count), ...options];
  const founder = start('peer-0', common);
  await founder.ready();
  const joiners = Array.from({ length: count - 1 }, (_, i) =>
    start(`peer-${i + 1}`, [...common, '--bootstrap', founder.address]),
  );
  return [founder, ...joiners];
}

function expectNoDivergence(): void {
  for (const [round, roots] of finalRoots(peers)) expect([round, roots.size]).toEqual([round, 1]);
}

const MINUTES = 60_000;

test.each(['fp32', 'fp16', 'int8', 'sparseloco', 'topk'])(
  'three peers, %s: the same root at every round',
  async (codec) => {
    const swarm = await startAll(3, ['--rounds', '5', '--codec', codec, '--inner-steps', '5']);
    expect(await Promise.all(swarm.map((peer) => peer.exited))).toEqual([0, 0, 0]);
    for (const peer of swarm) {
      expect(peer.rounds.map(({ round }) => round)).toEqual([1, 2, 3, 4, 5]);
      expect(peer.rounds.map(({ root }) => root)).toEqual(swarm[0]!.rounds.map(({ root }) => root));
      expect(peer.rounds.every(({ final }) => final)).toBe(true);
      expect(peer.lines.at(-1)).toEqual({ event: 'done', reason: 'rounds' });
    }
  },
  2 * MINUTES,
);

test(
  'a fourth joins while rounds go on, syncs, contributes and has the same roots',
  async () => {
    const swarm = await startAll(3, ['--inner-steps', '10']);
    await swarm[0]!.reached(3);
    const late = start('late', ['--bootstrap', swarm[1]!.address]);
    await late.until(() => late.contribution(late.id, 0) !== undefined);
    const { round } = late.contribution(late.id, 0)!;
    await Promise.all(swarm.map((peer) => peer.reached(round)));
    expect(late.lines.some((line) => line.event === 'synced')).toBe(true);
    expectNoDivergence();
  },
  2 * MINUTES,
);

test(
  'kill -9 of any of four in mid-round, the leader included: the others go on, it comes back within two rounds',
  async () => {
    const options = ['--inner-steps', '40'];
    const swarm = await startAll(4, options);
    for (const victim of ['leader', 0, 1, 2, 3] as const) {
      const live = swarm.filter((peer) => !!peer);
      await Promise.all(live.map((peer) => peer.reached(Math.max(...live.map((each) => each.last?.round ?? 0)) + 1)));
      const index = victim === 'leader' ? leaderIndex(swarm) : victim;
      const killed = swarm[index]!;
      await killed.kill('SIGKILL');
      const others = swarm.filter((peer) => peer !== killed);
      const before = Math.max(...others.map((peer) => peer.last!.round));
      await Promise.all(others.map((peer) => peer.reached(before + 1)));
      const back = start(`peer-${index}`, ['--bootstrap', others[0]!.address]);
      swarm[index] = back;
      await back.until(() => back.lines.some((line) => line.event === 'ready'));
      const atRestart = Math.max(...others.map((peer) => peer.last!.round));
      await others[0]!.until(() => others[0]!.contribution(back.id, atRestart) !== undefined);
      expect(others[0]!.contribution(back.id, atRestart)!.round - atRestart).toBeLessThanOrEqual(2);
      expect(others.every((peer) => peer.rounds.every(({ final }) => final))).toBe(true);
      await back.reached(others[0]!.contribution(back.id, atRestart)!.round);
    }
    expectNoDivergence();
  },
  8 * MINUTES,
);

/** Who proposes first at the height that the swarm is about to decide. */
function leaderIndex(swarm: readonly PeerProcess[]): number {
  const { dir } = swarm[0]!;
  const genesis = decodeGenesis(readGenesisFile(dir)!);
  const segments = readChainLog(runPaths(dir).chain);
  const branch = branchFromLog({ genesis, run: runIdOf(genesis), signer: testSigner('reader') }, segments);
  const head = branch.heads[branch.certifiedLength()]!;
  const leader = leaderOf(genesis.seed, head.height + 1, 0, leadersOf(head));
  return swarm.findIndex((peer) => peer.id === leader);
}

test.each([2, 3])(
  'kill -9 of one of %i: the rest go on in unfinal rounds and say so; it comes back, roots equal',
  async (count) => {
    const swarm = await startAll(count, ['--inner-steps', '40']);
    await Promise.all(swarm.map((peer) => peer.reached(2)));
    const killed = swarm[count - 1]!;
    await killed.kill('SIGKILL');
    const rest = swarm.slice(0, -1);
    await Promise.all(rest.map((peer) => peer.until(() => peer.last?.final === false)));
    expect(rest[0]!.lines).toContainEqual(expect.objectContaining({ event: 'warning', code: 'W_UNFINAL' }));
    // no --bootstrap: it remembers where the others were
    const back = start(`peer-${count - 1}`, []);
    await back.ready();
    const together = (peer: PeerProcess) => peer.last?.final === true && peer.last.contributors.length === count;
    await Promise.all([...rest, back].map((peer) => peer.until(() => together(peer))));
    expect(back.lines).toContainEqual({ event: 'peer', id: back.id, change: 'resumed', members: count });
    expectNoDivergence();
  },
  4 * MINUTES,
);

test(
  'kill -9 of one of two that may not go on alone: the other trains on, and that is in its next update',
  async () => {
    const options = ['--inner-steps', '20', '--quorum-wait', 'never'];
    const [stays, killed] = (await startAll(2, options)) as [PeerProcess, PeerProcess];
    await Promise.all([stays.reached(2), killed.reached(2)]);
    await killed.kill('SIGKILL');
    const isShort = () => stays.lines.some((line) => line.event === 'warning' && line.code === 'W_NO_QUORUM');
    await stays.until(isShort);
    const before = stays.last!.round;
    // said anew each time that it has trained
    let waits = 0;
    stays.watch((line) => {
      waits += Number(line?.event === 'progress' && line.phase === 'gathering');
    });
    await stays.until(() => waits >= 4);
    const back = start('peer-1', []);
    await Promise.all([stays.reached(before + 2), back.reached(before + 2)]);
    expect(stays.rounds.every(({ final }) => final)).toBe(true);
    const receipts = stays.lines.flatMap((line) =>
      line.event === 'receipt' && line.round === before + 1 ? [line] : [],
    );
    expect(receipts.map(({ payload, status, acceptedIn }) => [payload === null, status, acceptedIn])).toEqual(
      expect.arrayContaining([
        [true, 'late', undefined],
        [false, 'accepted', before + 1],
        [true, 'accepted', before + 2],
      ]),
    );
    const tokens = (round: number) => stays.rounds.find((each) => each.round === round)!.tokens;
    // of two: four times its own at least
    expect(tokens(before + 2)).toBeGreaterThan(2 * tokens(before));
    expectNoDivergence();
  },
  2 * MINUTES,
);

test(
  'Ctrl+C leaves the roster and exits 0; started again in its folder the peer goes on where it was',
  async () => {
    const [founder, joiner] = (await startAll(2, ['--inner-steps', '10'])) as [PeerProcess, PeerProcess];
    await Promise.all([founder.reached(2), joiner.reached(2)]);
    expect(await joiner.kill('SIGINT')).toBe(0);
    expect(joiner.lines.at(-1)).toEqual({ event: 'done', reason: 'left' });
    const before = founder.last!.round;
    await founder.reached(before + 3);
    expect(founder.rounds.every(({ final }) => final)).toBe(true);
    expect(await founder.kill('SIGTERM')).toBe(0);
    const again = start('peer-0', []);
    await again.reached(founder.last!.round + 2);
    expect(again.rounds[0]!.round).toBe(founder.last!.round + 1);
    expect(again.id).toBe(founder.id);
  },
  2 * MINUTES,
);

test(
  'a second process on the same folder is refused, the first goes on',
  async () => {
    const first = start('peer-0', ['--model', 'micro', '--inner-steps', '5']);
    await first.reached(1);
    const second = start('peer-0', []);
    expect(await second.exited).toBe(1);
    expect(second.stderr).toContain('[E_DIR_LOCKED]');
    await first.reached(first.last!.round + 1);
  },
  MINUTES,
);

test(
  'wrong input is one line with a code, and nothing is damaged',
  async () => {
    const first = start('peer-0', ['--model', 'micro', '--inner-steps', '5', '--rounds', '2']);
    expect(await first.exited).toBe(0);
    const cases: [string, string[], number?][] = [
      ['E_RUN_EXISTS', ['--model', 'nano']],
      ['E_MULTIADDR', ['--bootstrap', 'not an address'], 2],
      ['E_BOOTSTRAP', ['--dir', join(folder, 'new'), '--bootstrap', '/ip4/127.0.0.1/tcp/1']],
      ['E_DATA_NOT_FOUND', ['--dir', join(folder, 'other'), '--data', join(folder, 'missing.txt')]],
    ];
    for (const [code, options, exitCode = 1] of cases) {
      const wrong = start('peer-0', options);
      expect([code, await wrong.exited]).toEqual([code, exitCode]);
      expect(wrong.stderr.trim().split('\n')).toHaveLength(1);
      expect(wrong.stderr).toContain(`[${code}]`);
    }
  },
  2 * MINUTES,
);
