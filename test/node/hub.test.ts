import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import type { PeerEvent } from '../../node/peer-events.ts';
import { openRun, type StartOptions } from '../../node/run.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';
import { eventually } from './net/swarm.ts';

const ROUNDS = 4;

/** A peer of a run of three whose updates are too large to ride in their headers. */
async function peer(options: Partial<StartOptions>) {
  const events: PeerEvent[] = [];
  const common: StartOptions = {
    bootstrap: [],
    choices: {},
    dir: join(temporaryFolder(), 'peer'),
    backend: 'auto',
    deterministic: false,
  };
  const running = await openRun({ ...common, ...options }, (event) => events.push(event));
  onTestFinished(() => running.close());
  running.run().catch(() => undefined); // ended by the test
  const rounds = () => events.flatMap((event) => (event.event === 'round' ? [event] : []));
  return { rounds, addresses: events.flatMap((event) => (event.event === 'ready' ? event.addresses : [])) };
}

it('two who can reach a third alone, as behind routers, have their updates in every round', async () => {
  const choices = { model: 'micro', codec: 'fp32', innerSteps: 2, batch: 1, rounds: ROUNDS, waitFor: 3 } as const;
  const hub = await peer({ listen: ['/ip4/127.0.0.1/tcp/0'], choices });
  // they listen nowhere, so nobody can dial them
  const bootstrap = hub.addresses.slice(0, 1);
  const spokes = [await peer({ listen: [], bootstrap }), await peer({ listen: [], bootstrap })];
  const all = [hub, ...spokes];
  await eventually(() => all.every(({ rounds }) => rounds().length === ROUNDS), 'all rounds');
  for (const { rounds } of all) expect(rounds().map(({ contributors }) => contributors.length)).toEqual([3, 3, 3, 3]);
}, 120_000);
