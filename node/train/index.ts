export { BACKEND_NAMES, type BackendName } from './backend.ts';
export { type BackendReport, reportBackends } from './backends.ts';
export type { SnapshotFile } from './checkpoints.ts';
export { createEngine } from './engine.ts';
export { generate } from './generate.ts';
export type {
  AppliedState,
  Contribution,
  Opened,
  PeerWorker,
  StepNotice,
} from './peer-worker.ts';
export { connect, type Remote } from './rpc.ts';
export { spawnWorker } from './spawn-worker.ts';
export { type StepReport, Trainer } from './trainer.ts';
