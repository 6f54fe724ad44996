/**
 * First module of a worker thread: teaches the thread TypeScript, then runs the module named by its first argument.
 * Plain JavaScript, because Node 20 reads a worker's `--import tsx` too late for the worker's own entry.
 */
import { learnTypeScript } from '../typescript.js';

await learnTypeScript(['zod', 'cborg', '@tensorflow/tfjs', '@tensorflow/tfjs-backend-wasm']);
await import(process.argv[2]);
