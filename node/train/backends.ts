import util from 'node:util';
import { CodedError, isCoded } from '../../protocol/errors.ts';
import {
  BACKEND_NAMES,
  type Backend,
  type BackendName,
  DETERMINISTIC_BACKENDS,
  type TensorFlow,
  useBackend,
} from './backend.ts';
import type { TrainErrorCode } from './errors.ts';

export interface BackendRequest {
  /** @default 'auto' */
  backend?: BackendName | 'auto';
  /** same bits on every run and thread (and with `wasm`, on every CPU); rules out all backends but wasm and cpu */
  deterministic?: boolean;
}

/** What `auto` tries, best first. WebGPU is left out: software drivers pass for GPUs there and are slower than wasm. */
const AUTO_ORDER: readonly BackendName[] = ['tfjs-node-gpu', 'tfjs-node', 'wasm', 'cpu'];

/**
 * Loads the backend asked for, or with `auto` the best one this machine has.
 * @throws CodedError `E_BACKEND` if the one asked for is missing (with the install line) or not deterministic
 */
export async function openBackend({ backend = 'auto', deterministic = false }: BackendRequest): Promise<Backend> {
  if (backend !== 'auto') {
    if (deterministic && !DETERMINISTIC_BACKENDS.some((name) => name === backend)) {
      throw backendError(`'${backend}' is not bit-deterministic: use ${DETERMINISTIC_BACKENDS.join(' or ')}`);
    }
    return open(backend, deterministic);
  }
  const faults: string[] = [];
  for (const name of deterministic ? DETERMINISTIC_BACKENDS : AUTO_ORDER) {
    try {
      const opened = await open(name, deterministic);
      if (name !== 'tfjs-node-gpu' || reportsGpu(opened.tf)) return opened;
      // without a GPU it would be a slow start for a plain CPU; the name is freed for tfjs-node
      opened.tf.removeBackend(NODE_BACKEND);
      faults.push(`'${name}' reports no GPU`);
    } catch (error) {
      if (!isCoded(error)) throw error;
      faults.push(error.message);
    }
  }
  throw backendError(`no backend works on this machine: ${faults.join('; ')}`);
}

export interface BackendReport {
  name: BackendName;
  available: boolean;
  /** which device or kernels, or what is missing and how to install it */
  detail: string;
}

/** Tries every backend, for `outerloop doctor`: loads all it finds, so not for a process that goes on to train. */
export async function reportBackends(): Promise<BackendReport[]> {
  const reports: BackendReport[] = [];
  for (const name of BACKEND_NAMES) {
    try {
      const { detail } = await open(name, false);
      reports.push({ name, available: true, detail });
    } catch (error) {
      reports.push({ name, available: false, detail: error instanceof Error ? error.message : String(error) });
    }
  }
  return reports;
}

async function open(name: BackendName, deterministic: boolean): Promise<Backend> {
  switch (name) {
    case 'wasm':
      return (await import('./backend-wasm.ts')).openWasm(deterministic);
    case 'cpu':
      return composite(name, await import('@tensorflow/tfjs'), 'cpu', 'plain JavaScript, slow');
    case 'tfjs-node':
    case 'tfjs-node-gpu':
      return openNode(name);
    case 'webgpu':
      return openWebgpu();
    default:
      throw backendError(`there is no backend '${name satisfies never}': use ${BACKEND_NAMES.join(', ')} or auto`);
  }
}

/** The name under which both tfjs-node packages register. */
const NODE_BACKEND = 'tensorflow';

async function openNode(name: 'tfjs-node' | 'tfjs-node-gpu'): Promise<Backend> {
  // gone since Node 23, and the last tfjs-node that was released still calls it
  const legacy = util as { isNullOrUndefined?: (value: unknown) => boolean };
  legacy.isNullOrUndefined ??= (value) => value === null || value === undefined;
  const tf = (await importOptional(`@tensorflow/${name}`, `npm install @tensorflow/${name}@4.22.0`)) as TensorFlow;
  const opened = await composite(name, tf, NODE_BACKEND, '');
  return { ...opened, detail: reportsGpu(tf) ? 'libtensorflow on a GPU' : 'libtensorflow on the CPU' };
}

function reportsGpu(tf: TensorFlow): boolean {
  return (tf.backend() as { isUsingGpuDevice?: boolean }).isUsingGpuDevice === true;
}

/** Dawn from the `webgpu` package; TF.js looks for the browser's globals when it is loaded, so they must be there. */
async function openWebgpu(): Promise<Backend> {
  const install = 'npm install webgpu@0.6.2 @tensorflow/tfjs-backend-webgpu@4.22.0';
  const dawn = (await importOptional('webgpu', install)) as { create(options: string[]): unknown; globals: object };
  Object.assign(globalThis, dawn.globals);
  const navigator = { gpu: dawn.create([]), userAgent: 'node' };
  Object.defineProperty(globalThis, 'navigator', { value: navigator, configurable: true, writable: true });
  const tf = await import('@tensorflow/tfjs');
  await importOptional('@tensorflow/tfjs-backend-webgpu', install);
  return composite('webgpu', tf, 'webgpu', 'Dawn');
}

async function composite(name: BackendName, tf: TensorFlow, tfName: string, detail: string): Promise<Backend> {
  await useBackend(tf, tfName);
  const { createCompositeOps } = await import('./ops-composite.ts');
  const { createFlatParameters } = await import('./parameters-flat.ts');
  const activate = () => useBackend(tf, tfName);
  return { name, detail, tf, activate, createOps: createCompositeOps, createParameters: createFlatParameters };
}

/** A package that is not among our dependencies, as it is large or needs what many machines lack. */
async function importOptional(specifier: string, install: string): Promise<unknown> {
  try {
    const module = (await import(specifier)) as { default?: unknown };
    // CommonJS packages whose exports Node cannot list arrive as the default export alone
    return 'setBackend' in module || 'create' in module ? module : (module.default ?? module);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.split('\n')[0] : String(cause);
    throw backendError(`cannot load '${specifier}' (${reason}). Install it: ${install}`, cause);
  }
}

function backendError(message: string, cause?: unknown): CodedError<TrainErrorCode> {
  return new CodedError<TrainErrorCode>('E_BACKEND', message, { cause });
}
