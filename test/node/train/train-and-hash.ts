import { createHash } from 'node:crypto';
import { parentPort, workerData } from 'node:worker_threads';
import { createEngine } from '../../../node/train/engine.ts';
import { initialParameters } from '../../../protocol/model.ts';
import { INNER, MICRO, randomBatch } from './settings.ts';

/** SHA-256 of the parameters after ten steps of the micro model on wasm. In a worker thread it is posted. */
export async function trainAndHash(deterministic: boolean): Promise<string> {
  const engine = await createEngine({ model: MICRO, inner: INNER, backend: 'wasm', deterministic });
  await engine.writeParameters(initialParameters(MICRO, 1));
  for (let i = 0; i < 10; i++) await engine.step(randomBatch(MICRO, 4, i), { learningRate: 1e-3 });
  const parameters = new Float32Array(engine.layout.length);
  await engine.readParameters(parameters);
  engine.dispose();
  return createHash('sha256').update(new Uint8Array(parameters.buffer)).digest('hex');
}

// vitest's own workers have a parent port too, but not this data
if (workerData?.deterministic !== undefined) {
  parentPort!.postMessage(await trainAndHash(workerData.deterministic));
}
