/**
 * Simulated swarms under drawn faults and lies, each checked against what correct peers must keep (docs/testing.md):
 *
 *   npm run swarm -- --seeds 200              seeds 0 to 199, two at a time
 *   npm run swarm -- --seed 17                one seed; when it fails, with the faults that are needed and the last events
 *   npm run swarm -- --seeds 50 --from 1000 --workers 1
 *
 *   npm run swarm -- --fuzz 1000000           until so many messages have come to a decoder of which a piece is another
 *   npm run swarm -- --fuzz 1 --seed 17       one of those again
 *
 * Exits with 1 when a seed fails, after printing how to run it again. Ctrl+C ends it when the seeds under way are over.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describeFault, drawPlan, fuzzing, type Plan } from '../sim/swarm/plan.ts';
import { shrink } from '../sim/swarm/shrink.ts';
import { type Outcome, type Seen, Swarm } from '../sim/swarm/swarm.ts';
import { readArguments, wholeNumber } from './arguments.ts';

const { values: options } = readArguments(import.meta.url, {
  options: {
    seeds: { type: 'string', default: '200' },
    from: { type: 'string', default: '0' },
    seed: { type: 'string' },
    workers: { type: 'string', default: '2' },
    events: { type: 'string', default: '40' },
    fuzz: { type: 'string' },
    /** stop at the first failure, without looking for a smaller schedule: for `swarm:bugs` */
    first: { type: 'boolean', default: false },
  },
});

/** What is told of a seed; one at which its process ended or hung has been through nothing. */
type Told = Pick<Outcome, 'seed' | 'failure'> & { seen?: Seen };

/** Real minutes that one swarm may take: the slowest of thousands take half a minute on a busy machine. */
const MINUTES_MAX = 10;

function planOf(seed: number): Plan {
  const plan = drawPlan(seed);
  return options.fuzz === undefined ? plan : fuzzing(plan);
}

async function runSeed(seed: number): Promise<Told> {
  const { failure, seen } = await new Swarm(planOf(seed)).run();
  return { seed, failure, seen };
}

/** In a child process: one seed at a time, as they are sent. */
function serve(): void {
  // Ctrl+C is for who hands out the seeds: what is under way is told yet
  process.on('SIGINT', () => undefined);
  process.on('message', async (seed: number) => {
    process.send?.(await runSeed(seed));
  });
}

/**
 * Hands out seeds to processes and gathers what they tell; ends early when `enough` says so. A process that dies over a
 * seed, or takes too long for it, has found something as well.
 */
async function runAll(seeds: number[], workers: number, enough: (told: Told) => boolean): Promise<Told[]> {
  const all: Told[] = [];
  const waiting = [...seeds];
  let over = false;
  const next = (): number | undefined => (over ? undefined : waiting.shift());
  const work = async (): Promise<void> => {
    let child: ChildProcess | undefined;
    for (let seed = next(); seed !== undefined; seed = next()) {
      // what it died of is told with the seed that it had
      child ??= fork(fileURLToPath(import.meta.url), SERVING).on('error', () => undefined);
      const told = await askFor(child, seed);
      if (child.exitCode !== null || child.killed || child.signalCode !== null) child = undefined;
      all.push(told);
      over ||= enough(told);
    }
    child?.kill();
  };
  await Promise.all(Array.from({ length: Math.min(workers, seeds.length) }, work));
  return all.sort((a, b) => a.seed - b.seed);
}

const SERVING = ['--seed', 'served', ...(options.fuzz === undefined ? [] : ['--fuzz', options.fuzz])];

function askFor(child: ChildProcess, seed: number): Promise<Told> {
  return new Promise((resolve) => {
    const settle = (told: Told): void => {
      clearTimeout(timer);
      child.off('message', settle).off('exit', onExit);
      resolve(told);
    };
    const crash = (message: string) => settle({ seed, failure: { checker: 'crash', message } });
    const onExit = (code: number | null, signal: string | null) => crash(`its process ended with ${signal ?? code}`);
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      crash(`it was not over after ${MINUTES_MAX} minutes`);
    }, MINUTES_MAX * 60_000);
    child.on('message', settle).on('exit', onExit);
    if (child.connected) child.send(seed);
    else crash('its process had ended before');
  });
}

function printSums(all: readonly Told[]): void {
  const sum = (pick: (seen: Seen) => number) => all.reduce((total, { seen }) => total + (seen ? pick(seen) : 0), 0);
  console.log(
    `${all.length} swarms: ${sum(({ finalRounds }) => finalRounds)} final and ` +
      `${sum(({ unfinalRounds }) => unfinalRounds)} unfinal rounds applied, ` +
      `${sum(({ membershipBlocks }) => membershipBlocks)} membership blocks, ${sum(({ evictions }) => evictions)} evictions, ` +
      `${sum(({ laterViews }) => laterViews)} blocks certified after the first view, ` +
      `${sum(({ drawn }) => drawn)} after which only a committee votes, ` +
      `${sum(({ restored }) => restored)} states restored, ${sum(({ crashes }) => crashes)} crashes, ` +
      `${sum(({ segments }) => segments)} histories cut short, ${sum(({ leaps }) => leaps)} taken up in their middle, ` +
      `${sum(({ lies }) => lies)} lies, ${sum(({ fuzzed }) => fuzzed)} of them fuzzed, ${sum(({ refusedMessages }) => refusedMessages)} messages refused`,
  );
  const [overrun, noQuorum] = [sum(({ overrun }) => Number(overrun)), sum(({ noQuorum }) => Number(noQuorum))];
  console.log(
    `${overrun} came to have too many liars, ${noQuorum} ended without a quorum: there progress is not asked for; ` +
      `${sum(({ endedAgain }) => Number(endedAgain))} whose runs had ended were started again`,
  );
}

function againOf(seed: number): string {
  return `npm run swarm --${options.fuzz === undefined ? '' : ' --fuzz 1'} --seed ${seed}`;
}

/** A failing seed: how to have it again, and what is needed for it to fail. */
async function explain(seed: number): Promise<boolean> {
  const plan = planOf(seed);
  const failed = await new Swarm(plan).run();
  if (!failed.failure) return false;
  console.log(`\nseed ${seed} fails: ${failed.failure.checker}: ${failed.failure.message}`);
  console.log(`again: ${againOf(seed)}`);
  const { plan: small, outcome } = await shrink(plan, failed);
  const { peers, liars, leftDown, genesis } = small;
  console.log(`${peers} peers, ${liars} of them may lie, ${genesis.codec.name}, wait for ${genesis.waitFor}`);
  if (leftDown.length > 0) console.log(`not healed: ${leftDown.join(', ')}`);
  console.log(`${plan.faults.length} faults, of which it needs ${small.faults.length}:`);
  for (const fault of small.faults) console.log(`  ${describeFault(fault)}`);
  console.log(`then ${outcome.failure?.checker}: ${outcome.failure?.message}\nlast events:`);
  for (const line of outcome.diary.slice(-Number(options.events))) console.log(`  ${line}`);
  return true;
}

/** Each is some ten thousand messages. */
const FUZZED_SEEDS_MAX = 2000;

async function main(): Promise<void> {
  if (options.seed !== undefined) {
    if (await explain(wholeNumber('--seed', options.seed, 0))) process.exitCode = 1;
    else console.log(`seed ${options.seed} holds`);
    return;
  }
  const from = wholeNumber('--from', options.from, 0);
  const toFuzz = options.fuzz === undefined ? 0 : wholeNumber('--fuzz', options.fuzz);
  // with fuzzing it ends when there was enough of it, and only swarms with liars do any
  const count = toFuzz > 0 ? FUZZED_SEEDS_MAX : wholeNumber('--seeds', options.seeds);
  const drawn = Array.from({ length: count }, (_, i) => from + i);
  const seeds = toFuzz > 0 ? drawn.filter((seed) => drawPlan(seed).liars > 0) : drawn;
  let [done, fuzzed] = [0, 0];
  let isStopped = false;
  process.once('SIGINT', () => {
    isStopped = true;
  });
  const all = await runAll(seeds, wholeNumber('--workers', options.workers), ({ failure, seed, seen }) => {
    fuzzed += seen?.fuzzed ?? 0;
    if (++done % (toFuzz > 0 ? 5 : 100) === 0) console.log(`${done} of ${seeds.length}`);
    if (toFuzz > 0 && fuzzed >= toFuzz) return true;
    if (!failure) return isStopped;
    // at once: a long run that is cut short has told what it found
    if (!options.first)
      console.log(`seed ${seed} fails: ${failure.checker}: ${failure.message}\nagain: ${againOf(seed)}`);
    else console.log(`FOUND ${JSON.stringify({ seed, ...failure })}`);
    return options.first || isStopped;
  });
  printSums(all);
  const failures = all.filter(({ failure }) => failure !== undefined);
  console.log(
    `${failures.length} failed${failures.length > 0 ? `: ${failures.map(({ seed }) => seed).join(' ')}` : ''}`,
  );
  if (toFuzz > fuzzed && !failures.length) {
    console.log(`only ${fuzzed} fuzzed messages in ${seeds.length} seeds; go on with another --from`);
    process.exitCode = 1;
  }
  const [first] = failures;
  if (!first) return;
  process.exitCode = 1;
  if (options.first) return;
  if (first.seen) await explain(first.seed);
  else console.log(`\nseed ${first.seed}: ${first.failure?.message}\nagain: ${againOf(first.seed)}`);
}

if (options.seed === 'served') serve();
else await main();
