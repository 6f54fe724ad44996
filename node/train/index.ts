export { BACKEND_NAMES, type BackendName } from './backend.ts';
export { type BackendReport, reportBackends } from './backends.ts';
export type { SnapshotFile } from './checkpoints.ts';
export { createEngine } from './engine.ts';
export { generate } from './generate.ts';
export type { PeerWorker } from './peer-worker.ts';
export { connect, type Remote } from './rpc.ts';
export { spawnWorker } from './spawn-worker.ts';
export { NO_PROGRESS, type StepReport, Trainer } from './trainer.ts';
export type {
  AppliedState,
  Contribution,
  Opened,
  RestoredState,
  StepNotice,
  TrainedOn,
  WorkerNotice,
} from './worker-calls.ts';
