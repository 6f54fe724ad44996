import { describe, expect, it } from 'vitest';
import { Screen } from '../../../node/cli/screen.ts';
import { Terminal } from '../../../node/cli/terminal.ts';
import type { PeerEvent } from '../../../node/peer-events.ts';

const PEER = '12D3KooWCm5r9MZAfj2yyPeRw2gTf5UCEYMkAAUccUZHHYnk1rni';

const READY: PeerEvent = {
  event: 'ready',
  runId: '61d7ce8f'.repeat(8),
  peerId: PEER,
  addresses: [`/ip4/127.0.0.1/tcp/4001/p2p/${PEER}`, `/ip4/192.168.1.7/tcp/4001/p2p/${PEER}`],
  backend: 'wasm (SIMD kernels)',
  parameters: 804_096,
  directory: '/home/ada/my runs/1',
  title: 'nano on \x1b[2Jmoby-dick',
  resumed: false,
};

function round(number: number, more: Partial<PeerEvent & { event: 'round' }> = {}): PeerEvent {
  return {
    event: 'round',
    round: number,
    root: '9c5b7255'.repeat(8),
    final: true,
    contributors: [PEER, `${PEER}2`],
    trainLoss: 2.41567,
    valLoss: 2.5,
    block: 'b'.repeat(64),
    tokens: 76_800,
    bytesSent: 21_400,
    bytesReceived: 1_204_997,
    computeFraction: 0.967,
    ...more,
  };
}

function training(number: number, more: Partial<PeerEvent & { event: 'progress' }> = {}): PeerEvent {
  return { event: 'progress', phase: 'training', round: number, rounds: 40, peers: 1, ...more };
}

/** A screen whose clock stands still until told otherwise. */
function screenOn(sink: { isTTY?: boolean; columns?: number }, environment = {}) {
  let written = '';
  let now = 0;
  const write = (text: string) => {
    written += text;
  };
  const screen = new Screen(new Terminal({ write, ...sink }, environment), () => now);
  return {
    screen,
    pass: (ms: number) => {
      now += ms;
    },
    /** what was written since the last time */
    take: () => {
      const text = written;
      written = '';
      return text;
    },
  };
}

describe('the screen without a terminal', () => {
  it('shows how to join', () => {
    const { screen, take } = screenOn({});
    screen.show(READY);
    expect(take()).toMatchInlineSnapshot(`
      "outerloop  nano on  [2Jmoby-dick  run 61d7ce8f
        peer   12D3KooWCm5r9MZAfj2yyPeRw2gTf5UCEYMkAAUccUZHHYnk1rni
        model  804k parameters, wasm (SIMD kernels)
        folder /home/ada/my runs/1
        join from another machine:
          node start --bootstrap /ip4/192.168.1.7/tcp/4001/p2p/12D3KooWCm5r9MZAfj2yyPeRw2gTf5UCEYMkAAUccUZHHYnk1rni
        join from this machine:
          node start --bootstrap /ip4/127.0.0.1/tcp/4001/p2p/12D3KooWCm5r9MZAfj2yyPeRw2gTf5UCEYMkAAUccUZHHYnk1rni

      "
    `);
  });

  it('shows a line a round, with the time left once a round was timed', () => {
    const { screen, take, pass } = screenOn({});
    screen.show(training(0));
    pass(4000);
    screen.show(round(1));
    screen.show(training(1));
    pass(2000);
    screen.show(round(2, { final: false, valLoss: null, contributors: [PEER], trainLoss: Number.NaN }));
    expect(take()).toMatchInlineSnapshot(`
      "round 1/40  loss 2.4157  val 2.5000  19.2k tok/s  2 peers  ↑ 21.4 kB ↓ 1.20 MB  compute 97%  final  2m 36s left
      round 2/40  loss -  38.4k tok/s  1 peer  ↑ 21.4 kB ↓ 1.20 MB  compute 97%  unfinal  2m 09s left
      "
    `);
  });

  it('does not count waiting and fetching as part of a round', () => {
    const { screen, take, pass } = screenOn({});
    screen.show(training(0, { phase: 'waiting', rounds: null, detail: 'for 2 more peers' }));
    pass(60_000);
    screen.show(training(0, { rounds: null }));
    pass(1000);
    screen.show(round(1));
    expect(take()).toMatchInlineSnapshot(`
      "waiting: for 2 more peers
      round 1  loss 2.4157  val 2.5000  76.8k tok/s  2 peers  ↑ 21.4 kB ↓ 1.20 MB  compute 97%  final
      "
    `);
  });

  it('does not tell a speed that it does not know', () => {
    const { screen, take, pass } = screenOn({});
    screen.show(round(7));
    pass(20);
    screen.show(round(8, { computeFraction: 0 })); // caught up with
    expect(take()).not.toContain('tok/s');
  });

  it('does not take the work of an earlier process for its own', () => {
    const { screen, take, pass } = screenOn({});
    screen.show({ ...READY, resumed: true });
    screen.show(training(7));
    pass(20);
    screen.show(round(8));
    expect(take()).not.toContain('tok/s');
    pass(1000);
    screen.show(round(9));
    expect(take()).toContain('76.8k tok/s');
  });

  it('tells of peers, syncing and warnings, and not of every step', () => {
    const { screen, take } = screenOn({});
    screen.show({ event: 'synced', round: 7, root: 'ab'.repeat(32), bytes: 3_200_000, ms: 2100 });
    screen.show({ event: 'synced', round: 0, root: 'ab'.repeat(32), bytes: 0, ms: 0 });
    screen.show({ event: 'peer', id: PEER, change: 'joined', members: 3 });
    screen.show({ event: 'peer', id: PEER, change: 'left', members: 7 });
    screen.show({ event: 'warning', code: 'W_RUN_SETTING', message: 'the run has\nother settings' });
    screen.show(training(7, { step: 3, steps: 50 }));
    expect(take()).toMatchInlineSnapshot(`
      "synced to round 7: 3.20 MB in 2s, root abababab
      peer …HYnk1rni joined: 3 members, all of them must vote (from four on, one may fail)
      peer …HYnk1rni left: 7 members, 2 of them may fail
      warning: the run has other settings [W_RUN_SETTING]
      "
    `);
  });

  it('answers for every contribution of this peer', () => {
    const { screen, take } = screenOn({});
    const payload = 'ab'.repeat(32);
    screen.show({ event: 'receipt', round: 3, payload, status: 'accepted', acceptedIn: 3 });
    screen.show(round(3));
    expect(take()).toMatch(/ final {2}own accepted\n$/);
    screen.show({ event: 'receipt', round: 4, payload, status: 'late' });
    screen.show(round(4));
    expect(take()).toMatch(/^round 4 ended without the update of this peer: .*\n.* final\n$/);
    screen.show({ event: 'receipt', round: 4, payload: null, status: 'late', code: 'training' });
    expect(take()).toMatch(/^round 4 ended before this peer had an update for it: /);
    screen.show({ event: 'receipt', round: 4, payload: null, status: 'late', code: 'beyond' });
    expect(take()).toMatch(/^what was learned after the update for round 4 goes into the next one\n$/);
    for (const late of [4, 5])
      screen.show({ event: 'receipt', round: late, payload, status: 'accepted', acceptedIn: 5 });
    screen.show(round(5));
    expect(take()).toMatch(/own accepted, with 1 from before\n$/);
    // what nobody could tell of as long as it was not final
    for (const before of [20, 21]) {
      screen.show({ event: 'receipt', round: before, payload, status: 'accepted', acceptedIn: before });
    }
    screen.show(round(23));
    expect(take()).toMatch(/ final {2}2 from before accepted\n$/);
    screen.show({ event: 'receipt', round: 6, payload, status: 'returned' });
    screen.show({ event: 'receipt', round: 7, payload: null, status: 'refused', code: 'W_DIVERGED_HERE' });
    expect(take()).toMatch(/^the update for round 6 was given back: .*\nno update for round 7 \(W_DIVERGED_HERE\)\n$/);
  });

  it('says at the end where the model is and how to try it', () => {
    const { screen, take } = screenOn({});
    screen.show(READY);
    take();
    screen.show({ event: 'done', reason: 'left' });
    expect(take()).toMatchInlineSnapshot(`
      "left the run
        model  in /home/ada/my runs/1
        try it npx outerloop generate --dir '/home/ada/my runs/1'
        go on  node start --dir '/home/ada/my runs/1'
      "
    `);
    screen.show({ event: 'done', reason: 'rounds' });
    expect(take()).not.toContain('go on');
  });
});

describe('the screen on a terminal', () => {
  it('writes the status over itself, no more often than it can be seen', () => {
    const { screen, take, pass } = screenOn({ isTTY: true, columns: 200 });
    screen.show(training(11, { step: 25, steps: 50, loss: 2.31, tokensPerSecond: 12_400, peers: 3 }));
    expect(take()).toBe(
      '\r\x1b[2Kround 12/40 training ██████████░░░░░░░░░░ 25/50 · loss 2.3100 · 3 other peers · 12.4k tok/s',
    );
    pass(50);
    screen.show(training(11, { step: 26, steps: 50 }));
    expect(take()).toBe('');
    pass(50);
    screen.show(training(11, { step: 27, steps: 50 }));
    expect(take()).toContain('27/50');
    screen.show(training(12, { phase: 'applying' }));
    expect(take()).toContain('round 12/40 applying');
  });

  it('says what a peer that is done with its part waits for, and for how long', () => {
    const { screen, take, pass } = screenOn({ isTTY: true, columns: 200 });
    const gathering = (here: number) => training(11, { phase: 'gathering', updates: { here, of: 4 } });
    screen.show(gathering(1));
    expect(take()).toContain('round 12/40 waiting for 3 of 4 updates · 1 other peer');
    pass(1000);
    screen.tick();
    expect(take()).toBe('');
    pass(7000);
    screen.tick();
    expect(take()).toContain('waiting for 3 of 4 updates · 8s · 1 other peer');
    screen.show(gathering(4));
    expect(take()).toContain('waiting for votes · 8s');
    screen.show(training(12, { phase: 'applying' }));
    expect(take()).toContain('round 12/40 applying · 1 other peer');
    screen.show(training(12, { phase: 'gathering', updates: { here: 1, of: 1 } }));
    expect(take()).toContain('round 13/40 gathering');
  });

  it('tells one that lost the others from one that has not met any', () => {
    const { screen, pass, take } = screenOn({ isTTY: true, columns: 120 });
    const shown = (peers: number): string => {
      pass(1000);
      screen.show(training(1, { step: 1, steps: 2, peers }));
      return take();
    };
    expect(shown(0)).toContain('no other peer yet');
    expect(shown(5)).toContain('5 other peers');
    expect(shown(0)).toContain('no other peer (5 before)');
  });

  it('says nothing more once it is done', () => {
    const { screen, take, pass } = screenOn({ isTTY: true });
    screen.show(training(11));
    screen.show({ event: 'done', reason: 'left' });
    take();
    pass(10_000);
    screen.tick();
    screen.show(training(12));
    expect(take()).toBe('');
  });

  it('keeps the status below the lines, and takes it away at the end', () => {
    const { screen, take } = screenOn({ isTTY: true, columns: 200 });
    screen.show(training(0, { phase: 'waiting' }));
    const status = take().replace('\r\x1b[2K', '');
    screen.show({ event: 'peer', id: PEER, change: 'connected' });
    expect(take()).toBe(`\r\x1b[2K\x1b[2mpeer …HYnk1rni connected\x1b[0m\n${status}`);
    screen.close();
    expect(take()).toBe('\r\x1b[2K');
  });

  it.each([
    [92, 'round 12/40 training ██████████░░░░░░░░░░ 25/50 · loss 2.3100 · 3 other peers · 12.4k tok/s'],
    [91, 'round 12/40 training █████░░░░░ 25/50 · loss 2.3100 · 3 other peers · 12.4k tok/s'],
    [80, 'round 12/40 training 25/50 · loss 2.3100 · 3 other peers · 12.4k tok/s'],
    [70, 'round 12/40 training 25/50 · loss 2.3100 · 3 other peers'],
    [50, 'round 12/40 training 25/50 · loss 2.3100'],
    [30, 'round 12/40 training 25/50'],
    [20, 'round 12/40 traini…'],
  ])('in %i columns leaves out what matters least, and never wraps', (columns, status) => {
    const { screen, take } = screenOn({ isTTY: true, columns });
    screen.show(training(11, { step: 25, steps: 50, loss: 2.31, tokensPerSecond: 12_400, peers: 3 }));
    expect(take()).toBe(`\r\x1b[2K${status}`);
    expect(status.length).toBeLessThan(columns);
  });

  it('believes no width of 0', () => {
    const { screen, take } = screenOn({ isTTY: true, columns: 0 });
    screen.show(training(0, { phase: 'loading' }));
    expect(take()).toBe('\r\x1b[2Kloading');
  });

  it('has no colours where they are not wanted', () => {
    const { screen, take } = screenOn({ isTTY: true, columns: 200 }, { NO_COLOR: '1' });
    screen.show(round(1));
    expect(take()).not.toContain('\x1b[');
    const coloured = screenOn({ isTTY: true, columns: 200 });
    coloured.screen.show(round(1));
    expect(coloured.take()).toContain('\x1b[32mfinal\x1b[0m');
  });

  it('has no status line where the terminal cannot write over one', () => {
    const { screen, take } = screenOn({ isTTY: true }, { TERM: 'dumb' });
    screen.show(training(0));
    expect(take()).toBe('');
  });
});
