import { CodedError } from '../../protocol/errors.ts';
import type { TrainErrorCode } from './errors.ts';
import type { Ops } from './ops.ts';
import type { ParameterSettings, ParameterStore } from './parameters.ts';

export const BACKEND_NAMES = ['tfjs-node-gpu', 'tfjs-node', 'webgpu', 'wasm', 'cpu'] as const;
export type BackendName = (typeof BACKEND_NAMES)[number];
/** Same bits on every run and thread, and with `wasm` on every CPU; best first. */
export const DETERMINISTIC_BACKENDS = ['wasm', 'cpu'] as const satisfies BackendName[];

export type TensorFlow = typeof import('@tensorflow/tfjs-core');

/** What computes: TF.js with one of its backends, and the operations and parameter memory that suit it. */
export interface Backend {
  readonly name: BackendName;
  /** for people, at start-up: which kernels or which device */
  readonly detail: string;
  readonly tf: TensorFlow;
  /** Makes this the current backend of TF.js, which has one at a time in a thread. */
  activate(): Promise<void>;
  createOps(): Ops;
  createParameters(settings: ParameterSettings): ParameterStore;
}

/**
 * Makes `name` TF.js's current backend. `setBackend` merely returns false where it fails, and TF.js goes on with another.
 * @throws CodedError `E_BACKEND`
 */
export async function useBackend(tf: TensorFlow, name: string): Promise<void> {
  if (tf.getBackend() === name) return;
  tf.enableProdMode();
  const taken = await tf.setBackend(name);
  if (!taken || tf.getBackend() !== name) {
    throw new CodedError<TrainErrorCode>('E_BACKEND', `TF.js could not start its '${name}' backend on this machine`);
  }
}
