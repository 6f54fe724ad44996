/**
 * How this program runs without a step to build it: its TypeScript, and the libraries that it imports, are made into a few
 * files of JavaScript when they are first needed, and again when a file has changed. Loading a thousand small modules, and
 * asking a loader about each, takes a peer longer than all else that it does before it trains.
 */
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import module from 'node:module';
import { dirname, join, resolve, sep } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { threadId } from 'node:worker_threads';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const LIBRARIES = join(ROOT, 'node_modules', sep);
/** Beside the code: in a folder that all users of a machine share, others could put something else there. */
const CACHE = join(LIBRARIES, '.cache', 'outerloop');
const COMPILED = join(CACHE, 'compiled');
/** They look for files of theirs beside their own modules, or may not be installed. */
const NOT_BUNDLED = ['@tensorflow/*', 'webgpu', 'tsx'];
/** CommonJS in files so large that Node takes a tenth of a second to find out what they export, where they are imported. */
const REQUIRED = /^@tensorflow\/tfjs-(core|backend-wasm)$/;
/** In `node_modules`: npm, pnpm and Yarn write theirs anew whenever they change a package. */
const PACKAGE_RECORDS = ['.package-lock.json', '.modules.yaml', '.yarn-integrity', '.yarn-state.yml'];
/** Of CommonJS libraries. */
const REQUIRE =
  "import { createRequire as requireFrom } from 'node:module'; const require = requireFrom(import.meta.url);";
/** What was replaced stays so long: a process that began with it may not have loaded all of it. */
const KEPT_MS = 7 * 24 * 3600 * 1000;

/**
 * Imports a TypeScript module of this program.
 * @param {string} url of the source
 * @returns {Promise<any>} what it exports
 */
export async function importTypeScript(url) {
  // so that the stack of an unexpected error names lines of the sources; every thread has to be told
  process.setSourceMapsEnabled(Boolean(process.env.OUTERLOOP_DEBUG));
  const built = await upToDate(fileURLToPath(url)).catch(() => undefined);
  if (built) {
    // what V8 makes of it, from Node 22 on
    module.enableCompileCache?.(COMPILED);
    return import(pathToFileURL(built).href);
  }
  // a folder that cannot be written, as of another user's installation
  const { register } = await import('tsx/esm/api');
  register();
  return import(url);
}

/** @returns the module as JavaScript, made anew unless there is one of these very files */
async function upToDate(source) {
  const key = createHash('sha256').update(`${source} ${process.versions.node}`).digest('hex').slice(0, 16);
  const list = join(CACHE, `${key}.json`);
  const known = read(list);
  if (!known || hasChanged(known)) return build(source, list, known);
  return join(CACHE, known.entry);
}

/**
 * What was noted when the module was last made: its first file, what it was made of, and all that was made.
 * @returns nothing where that cannot be read
 */
function read(list) {
  try {
    const { entry, inputs, outputs } = JSON.parse(fs.readFileSync(list, 'utf8'));
    // an older version of this file may have written something else
    if (inputs.length === 0 || outputs.length === 0) return undefined;
    return { entry, inputs: new Map(inputs), outputs: new Map(outputs) };
  } catch {
    return undefined;
  }
}

function hasChanged({ inputs, outputs }) {
  for (const [path, stamp] of inputs) if (stampOf(path) !== stamp) return true;
  for (const [name, size] of outputs) if (statOf(join(CACHE, name))?.size !== size) return true;
  return false;
}

async function build(source, list, previous) {
  // where this fails, nothing is made in vain
  fs.mkdirSync(CACHE, { recursive: true });
  fs.accessSync(CACHE, fs.constants.W_OK);
  const inputs = new Map([fileURLToPath(import.meta.url), ...packageRecords()].map((path) => [path, stampOf(path)]));
  const { outputFiles, metafile } = await bundle(source, inputs);
  const outputs = new Map();
  for (const { path, contents } of outputFiles) {
    // its name is made of what is in it, so that nobody's files are ever replaced by others
    if (!holds(path, contents)) place(path, contents);
    outputs.set(nameOf(path), contents.length);
  }
  // modules that are imported when they are needed have files of their own
  const isEntry = ([, { entryPoint }]) => entryPoint !== undefined && resolve(ROOT, entryPoint) === source;
  const entry = resolve(ROOT, Object.entries(metafile.outputs).find(isEntry)[0]);
  place(list, JSON.stringify({ entry: nameOf(entry), inputs: [...inputs], outputs: [...outputs] }));
  try {
    dropOld(previous);
  } catch {
    // another's files, or in use: what is left over must not decide how the program runs
  }
  return entry;
}

/** @param inputs gets the stamp of every file that is read, of before it was read: a change while this runs must show */
async function bundle(source, inputs) {
  const { build, stop } = await import('esbuild');
  const noting = {
    name: 'noting',
    setup(builder) {
      builder.onLoad({ filter: /./, namespace: 'file' }, ({ path }) => {
        inputs.set(path, stampOf(path));
        return isOwn(path) && path.endsWith('.ts') ? withOwnAddress(path) : undefined;
      });
    },
  };
  const requiring = {
    name: 'requiring',
    setup(builder) {
      builder.onResolve({ filter: REQUIRED }, ({ path, kind }) => {
        return kind === 'import-statement' ? { path, namespace: 'required' } : undefined;
      });
      builder.onLoad({ filter: REQUIRED, namespace: 'required' }, ({ path }) => ({
        contents: `module.exports = require(${JSON.stringify(path)});`,
      }));
    },
  };
  try {
    return await build({
      absWorkingDir: ROOT,
      entryPoints: [source],
      outdir: CACHE,
      entryNames: '[name]-[hash]',
      chunkNames: '[name]-[hash]',
      bundle: true,
      // what is imported when it is needed is loaded then
      splitting: true,
      format: 'esm',
      platform: 'node',
      target: `node${process.versions.node}`,
      external: NOT_BUNDLED,
      banner: { js: REQUIRE },
      plugins: [noting, requiring],
      sourcemap: 'linked',
      metafile: true,
      write: false,
      logLevel: 'silent',
    });
  } finally {
    // else its process lives, and keeps its memory, as long as this one
    await stop();
  }
}

/** A module that asks for its own address, to find files beside it, is told where its source is. */
function withOwnAddress(path) {
  const address = JSON.stringify(pathToFileURL(path).href);
  const contents = fs.readFileSync(path, 'utf8').replaceAll('import.meta.url', address);
  return { contents, loader: 'ts', resolveDir: dirname(path) };
}

function isOwn(path) {
  return path.startsWith(ROOT) && !path.startsWith(LIBRARIES);
}

/** Also further up: this program may be a package of another, or of a workspace. */
function packageRecords() {
  const records = [];
  for (let folder = resolve(ROOT); ; folder = dirname(folder)) {
    records.push(...PACKAGE_RECORDS.map((name) => join(folder, 'node_modules', name)));
    if (folder === dirname(folder)) return records;
  }
}

function statOf(path) {
  return fs.statSync(path, { throwIfNoEntry: false });
}

/** Changes when a file does. */
function stampOf(path) {
  const stat = statOf(path);
  return stat ? `${stat.mtimeMs} ${stat.size}` : null;
}

function nameOf(path) {
  return path.slice(CACHE.length + 1);
}

function holds(path, contents) {
  return statOf(path)?.size === contents.length && fs.readFileSync(path).equals(contents);
}

/** Whole or not at all, also after a power cut: another process or thread may be at the same. */
function place(path, contents) {
  const temporary = `${path}.${process.pid}.${threadId}.tmp`;
  try {
    fs.writeFileSync(temporary, contents, { flush: true });
    fs.renameSync(temporary, path);
  } catch (error) {
    fs.rmSync(temporary, { force: true });
    throw error;
  }
}

/** Drops what no list names any more, once it has not done so for a while. */
function dropOld(previous) {
  fs.rmSync(COMPILED, { recursive: true, force: true });
  const now = Date.now();
  // until now it may have been what processes began with
  for (const name of previous?.outputs.keys() ?? []) fs.utimesSync(join(CACHE, name), now / 1000, now / 1000);
  const names = fs.readdirSync(CACHE);
  const lists = names.filter((name) => name.endsWith('.json'));
  const named = new Set(lists.flatMap((name) => [name, ...(read(join(CACHE, name))?.outputs.keys() ?? [])]));
  for (const name of names) {
    const path = join(CACHE, name);
    const stat = statOf(path);
    if (stat?.isFile() && stat.mtimeMs < now - KEPT_MS && !named.has(name)) fs.rmSync(path, { force: true });
  }
}
