/**
 * Holds the simulator against real peers on loopback behind shaped links: first its parameters against what real networks
 * send, then the time and the bytes of a round in the same worlds. Five minutes or so; nothing is left behind.
 *
 *   npm run calibrate:sim
 *   npm run calibrate:sim -- --worlds 0,1,2,3 --slow 6  (see slow-clock.ts: the busier the machine, the slower the clock)
 *   npm run calibrate:sim -- --no-parameters --rounds 8
 */
import { NETWORK_PARAMETERS } from '../sim/gossip-parameters.ts';
import { readArguments } from './arguments.ts';
import { measureBlob, measureCopies, measureOverhead, measureRoundTrips } from './calibrate/parameters.ts';
import { makeWorld, median, type Outcome, runReal, runSimulated, type WorldChoices } from './calibrate/worlds.ts';

const { values: options } = readArguments(import.meta.url, {
  options: {
    parameters: { type: 'boolean', default: true },
    worlds: { type: 'string', default: '0,1,3' },
    slow: { type: 'string', default: '4' },
    rounds: { type: 'string', default: '4' },
  },
  allowNegative: true,
});

const training = { innerSteps: 10, stepMs: 100 };
const WORLDS: readonly Omit<WorldChoices, 'rounds'>[] = [
  { peers: 4, codec: 'topk', oneWayMs: 40, mbit: 20, ...training },
  { peers: 4, codec: 'int8', oneWayMs: 40, mbit: 20, ...training },
  { peers: 4, codec: 'fp32', oneWayMs: 40, mbit: 20, ...training },
  { peers: 6, codec: 'int8', oneWayMs: 100, mbit: 10, ...training },
];
/** What the simulator's rounds may differ by. */
const TARGET = 0.1;
const SWARMS = [4, 6, 8, 12, 24];

function row(...cells: (string | number)[]): void {
  const text = cells.map((cell) => (typeof cell === 'number' ? String(Math.round(cell * 100) / 100) : cell));
  console.log(text.map((cell, i) => (i === 0 ? cell.padEnd(48) : cell.padStart(12))).join(''));
}

/** Links that a peer of the simulator has in its mesh, on average: each peer grafts half of the degree at random. */
function meshOf(peers: number): number {
  const others = peers - 1;
  const grafted = Math.min(1, NETWORK_PARAMETERS.meshDegree / 2 / others);
  return others * (1 - (1 - grafted) ** 2);
}

async function compareParameters(): Promise<void> {
  const { copiesAMeshNeighbour, ...configured } = NETWORK_PARAMETERS;
  row('', 'measured', 'configured');
  for (const peers of SWARMS) {
    const { mesh, relayed, flooded } = await measureCopies(peers);
    const expected = meshOf(peers);
    const copies = (factor: number) => Math.min(factor * expected, peers - 1);
    row(`mesh of a peer, ${peers} peers`, mesh, expected);
    row(`copies of a relayed message, ${peers} peers`, relayed, copies(copiesAMeshNeighbour.relayed));
    row(`copies of a flooded message, ${peers} peers`, flooded, copies(copiesAMeshNeighbour.flooded));
  }
  const overhead = await measureOverhead();
  row('around a gossiped message of 400 bytes', overhead.gossip, configured.gossipEnvelopeBytes);
  row('around a gossiped message of 12 000 bytes', overhead.relayed, configured.gossipEnvelopeBytes);
  row('around a direct message, bytes', overhead.direct, configured.frameBytes);
  row('sent by two idle peers, bytes a second', overhead.idleASecond, 0);
  const { dial, streamOpen } = await measureRoundTrips();
  row("dial to admission, round trips, with TCP's one", dial + 1, configured.dialRoundTrips);
  row('opening a stream, round trips', streamOpen, configured.streamOpenRoundTrips);
  const blob = await measureBlob();
  row('chunks asked of one provider at a time', blob.inFlight, configured.chunksAskedPerProvider);
  row('from the asker for a chunk, bytes', blob.requestBytes, configured.chunkRequestBytes);
  row('from the provider besides a chunk, bytes', blob.answerBytes, configured.chunkAnswerBytes);
}

const listed = ({ roundsMs }: Outcome): string => roundsMs.map((ms) => ms.toFixed(0)).join(' ');

async function compareWorld(choices: WorldChoices, slow: number): Promise<void> {
  const { peers, codec, oneWayMs, mbit } = choices;
  const world = makeWorld(choices);
  const real = await runReal(world, slow);
  const simulated = await runSimulated(world, real);
  // the middle one: a round in which this machine had other things to do says nothing of the network
  const ratio = median(simulated.roundsMs) / median(real.roundsMs);
  const within = Math.abs(ratio - 1) <= TARGET ? 'within' : 'NOT within';
  console.log(`\n${peers} peers, nano ${codec}, ${oneWayMs} ms one way, ${mbit} Mbit/s up`);
  console.log(
    `  told: step ${real.stepMs.toFixed(1)} ms, encode ${real.encodeMs.toFixed(1)}, disk ${real.diskMs.toFixed(1)}`,
  );
  console.log(
    `  real rounds      ${listed(real)} ms; ${kilobytes(real)} sent by a peer, ${real.cpuMs.toFixed(0)} ms of CPU`,
  );
  console.log(`  simulated rounds ${listed(simulated)} ms; ${kilobytes(simulated)}`);
  const bytes = simulated.bytesARound / real.bytesARound;
  console.log(
    `  simulated / real: time of the median round ${ratio.toFixed(3)} (${within} ${TARGET * 100} %), bytes ${bytes.toFixed(3)}`,
  );
}

const kilobytes = ({ bytesARound }: Outcome): string => `${(bytesARound / 1000).toFixed(1)} kB`;

if (options.parameters) await compareParameters();
for (const index of options.worlds.split(',')) {
  const choices = WORLDS[Number(index)];
  if (choices) await compareWorld({ ...choices, rounds: Number(options.rounds) }, Number(options.slow));
}
process.exit(0);
