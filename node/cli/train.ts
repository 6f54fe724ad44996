import type { Command } from 'commander';
import { modelLayout } from '../../protocol/model.ts';
import type { RunChoices } from '../defaults.ts';
import type { StepReport } from '../train/index.ts';
import { type Baseline, type Evaluation, openBaseline, trainBaseline } from './baseline.ts';
import { formatBar, formatCount, formatDuration, formatLoss } from './format.ts';
import { printJson } from './json-lines.ts';
import {
  addDebugOption,
  addMachineOptions,
  addTrainingOptions,
  choicesOf,
  integer,
  type MachineFlags,
  machineOf,
} from './options.ts';
import { KILLED_EXIT_CODE, onStopRequest } from './signals.ts';
import { Terminal } from './terminal.ts';

interface TrainFlags extends MachineFlags, Pick<RunChoices, 'data' | 'model' | 'tokenizer' | 'batch' | 'seed'> {
  steps?: number;
  evalEvery: number;
  json?: boolean;
}

const EVAL_EVERY = 250;
const STATUS_INTERVAL_MS = 100;

const EXAMPLES = `
Examples:
  $ outerloop train --steps 500 --eval-every 100
  $ outerloop train --data moby-dick --model nano --steps 2000 --batch 12 --json
`;

export function addTrain(program: Command, finish: (code: number) => void): void {
  const command = program.command('train').description('train on this machine alone: the centralized baseline');
  addTrainingOptions(command);
  command
    .option('--steps <n>', "optimizer steps (default: the model's)", integer('--steps', 1, 1_000_000_000))
    .option(
      '--eval-every <steps>',
      'between two evaluations, each over the whole validation split',
      integer('--eval-every', 1, 1_000_000_000),
      EVAL_EVERY,
    );
  addMachineOptions(command);
  command.option('--json', 'one JSON object a line instead of the screen');
  addDebugOption(command).addHelpText('after', EXAMPLES);
  command.action(async (flags: TrainFlags) => finish(await train(flags)));
}

async function train(flags: TrainFlags): Promise<number> {
  const abort = new AbortController();
  const removeHandlers = onStopRequest({ stop: () => abort.abort(), kill: () => process.exit(KILLED_EXIT_CODE) });
  const view = flags.json ? jsonView() : new TrainScreen(new Terminal(process.stdout, process.env));
  try {
    const baseline = await openBaseline(choicesOf(flags), machineOf(flags), flags.steps);
    view.begin(baseline);
    let last: StepReport | undefined;
    const evaluations = trainBaseline(baseline, {
      evalEvery: flags.evalEvery,
      signal: abort.signal,
      onStep(report) {
        last = report;
        view.step(report);
      },
      onEvaluate: () => view.evaluating(),
    });
    for await (const evaluation of evaluations) view.evaluation(evaluation);
    view.done(abort.signal.aborted ? 'stopped' : 'steps', last);
    return 0;
  } finally {
    removeHandlers();
    view.close();
  }
}

interface TrainView {
  begin(baseline: Baseline): void;
  step(report: StepReport): void;
  evaluating(): void;
  evaluation(evaluation: Evaluation): void;
  /** @param last step that was done: the evaluations may be far behind it */
  done(reason: 'steps' | 'stopped', last: StepReport | undefined): void;
  close(): void;
}

function jsonView(): TrainView {
  return {
    begin: () => undefined,
    step: () => undefined,
    evaluating: () => undefined,
    evaluation: (evaluation) => printJson({ event: 'eval', ...evaluation }),
    done: (reason, last) =>
      printJson({ event: 'done', reason, step: last ? last.step + 1 : 0, loss: last?.loss ?? null }),
    close: () => undefined,
  };
}

class TrainScreen implements TrainView {
  readonly #terminal: Terminal;
  #steps = 0;
  #tokensAStep = 0;
  #startedMs = 0;
  #statusMs = 0;
  /** of the steps that the mean speed is taken from: since the evaluation before */
  #since = { step: 0, ms: 0 };
  #last: Evaluation | undefined;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  begin({ genesis, trainer, steps }: Baseline): void {
    const { engine } = trainer;
    this.#steps = steps;
    this.#tokensAStep = genesis.batch * genesis.model.context;
    this.#startedMs = performance.now();
    this.#since = { step: 0, ms: this.#startedMs };
    const size = formatCount(modelLayout(genesis.model).length);
    this.#terminal.line(`${this.#terminal.paint('bold', 'outerloop train')}  ${genesis.title}`);
    this.#terminal.line(`  ${size} parameters, ${engine.backend} (${engine.detail})`);
    this.#terminal.line(`  ${steps} steps of ${genesis.batch} x ${genesis.model.context} tokens, seed ${genesis.seed}`);
    this.#terminal.line();
  }

  step({ step, loss }: StepReport): void {
    const now = performance.now();
    if (now - this.#statusMs < STATUS_INTERVAL_MS) return;
    this.#statusMs = now;
    const done = step + 1;
    const rate = (1000 * (done - this.#since.step) * this.#tokensAStep) / (now - this.#since.ms);
    const bar = `${formatBar(done, this.#steps)} ${done}/${this.#steps}`;
    const left = formatDuration(this.#leftMs(done));
    this.#terminal.status(`${bar} · loss ${formatLoss(loss)} · ${formatCount(rate)} tok/s · ${left} left`);
  }

  evaluating(): void {
    this.#terminal.status('evaluating over the whole validation split');
  }

  evaluation(evaluation: Evaluation): void {
    const { step, trainLoss, valLoss, tokensPerSecond, skipped } = evaluation;
    this.#last = evaluation;
    this.#since = { step, ms: performance.now() };
    const parts = [
      this.#terminal.paint('bold', `step ${step}/${this.#steps}`),
      `train ${formatLoss(trainLoss)}`,
      this.#terminal.paint('green', `val ${formatLoss(valLoss)}`),
      `${formatCount(tokensPerSecond)} tok/s`,
      skipped > 0 ? this.#terminal.paint('yellow', `${skipped} skipped`) : undefined,
      step < this.#steps ? this.#terminal.paint('dim', `${formatDuration(this.#leftMs(step))} left`) : undefined,
    ];
    this.#terminal.line(parts.filter((part) => part !== undefined).join('  '));
  }

  done(reason: 'steps' | 'stopped', last: StepReport | undefined): void {
    this.#terminal.status('');
    const took = formatDuration(performance.now() - this.#startedMs);
    const evaluated = this.#last
      ? `; at step ${this.#last.step} the validation loss was ${formatLoss(this.#last.valLoss)}`
      : '';
    const stopped = last
      ? `stopped after step ${last.step + 1}, of loss ${formatLoss(last.loss)}`
      : 'stopped before the first step';
    this.#terminal.line(reason === 'steps' ? `done in ${took}${evaluated}` : `${stopped}${evaluated}`);
  }

  close(): void {
    this.#terminal.status('');
  }

  /** With the evaluations between, which take their share of what is left, too. */
  #leftMs(done: number): number {
    return ((performance.now() - this.#startedMs) / done) * (this.#steps - done);
  }
}
