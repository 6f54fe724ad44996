import { makeWorld, mean, runReal, runSimulated, type WorldChoices } from './calibrate/worlds.ts';

const common = { rounds: 4, innerSteps: 10, stepMs: 100 };
const WORLDS: WorldChoices[] = [
  { peers: 4, codec: 'int8', oneWayMs: 40, mbit: 20, ...common },
  { peers: 4, codec: 'fp32', oneWayMs: 40, mbit: 20, ...common },
  { peers: 6, codec: 'int8', oneWayMs: 100, mbit: 10, ...common },
  { peers: 4, codec: 'topk', oneWayMs: 40, mbit: 20, ...common },
];

for (const choices of WORLDS) {
  if (process.argv[3] && !process.argv[3].split(',').includes(String(WORLDS.indexOf(choices)))) continue;
  const world = makeWorld(choices);
  const real = await runReal(world, Number(process.argv[2] ?? 4));
  const simulated = await runSimulated(world, real);
  console.log(JSON.stringify(choices));
  console.log(
    'real',
    real.roundsMs.map((v) => v.toFixed(0)).join(' '),
    'mean',
    mean(real.roundsMs).toFixed(0),
    'bytes',
    real.bytesARound.toFixed(0),
    JSON.stringify({ ...real, roundsMs: 0 }),
  );
  console.log(
    'sim ',
    simulated.roundsMs.map((v) => v.toFixed(0)).join(' '),
    'mean',
    mean(simulated.roundsMs).toFixed(0),
    'bytes',
    simulated.bytesARound.toFixed(0),
    'ratio',
    (mean(simulated.roundsMs) / mean(real.roundsMs)).toFixed(3),
  );
}
process.exit(0);
