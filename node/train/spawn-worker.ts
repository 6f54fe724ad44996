import { Worker, type WorkerOptions } from 'node:worker_threads';

/** Starts a TypeScript module in a worker thread. Its `workerData` and everything else is as with `new Worker`. */
export function spawnWorker(module: URL, options: Omit<WorkerOptions, 'argv' | 'eval'> = {}): Worker {
  return new Worker(new URL('./worker-boot.js', import.meta.url), { ...options, argv: [module.href] });
}
