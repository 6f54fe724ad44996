/** First module of a worker thread, in plain JavaScript: imports the TypeScript module named by its first argument. */
import { importTypeScript } from '../typescript.js';

await importTypeScript(process.argv[2]);
