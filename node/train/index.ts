export { BACKEND_NAMES, type BackendName } from './backend.ts';
export { type BackendReport, type BackendRequest, openBackend, reportBackends } from './backends.ts';
export { type Batch, createEngine, type Engine, type EngineSettings, type StepResult } from './engine.ts';
export type { TrainErrorCode } from './errors.ts';
export { type GenerateOptions, generate } from './generate.ts';
export type { Moments } from './parameters.ts';
export { spawnWorker } from './spawn-worker.ts';
export {
  type EvaluateOptions,
  type RoundOptions,
  type RoundPlan,
  type RoundResult,
  type Splits,
  type StepReport,
  type Tokens,
  Trainer,
} from './trainer.ts';
