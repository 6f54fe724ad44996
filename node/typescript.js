/**
 * How this program runs without a step to build it: its TypeScript, and the libraries that it imports, are made into a few
 * files of JavaScript when they are first needed, and again when a file has changed. Loading a thousand small modules, and
 * asking a loader about each, takes a peer longer than all else that it does before it trains.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import module from 'node:module';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { threadId } from 'node:worker_threads';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const LIBRARIES = join(ROOT, 'node_modules', sep);
/** Beside the code: in a folder that all users of a machine share, others could put something else there. */
const CACHE = join(LIBRARIES, '.cache', 'outerloop');
const COMPILED = join(CACHE, 'compiled');
/** They look for files of theirs beside their own modules, or may not be installed. */
const NOT_BUNDLED = ['@tensorflow/*', 'webgpu', 'tsx'];
/** Of CommonJS libraries. */
const REQUIRE =
  "import { createRequire as requireFrom } from 'node:module'; const require = requireFrom(import.meta.url);";
/** What was made of older sources stays so long: a process that began with it may not have loaded all of it. */
const KEPT_MS = 7 * 24 * 3600 * 1000;

/**
 * Imports a TypeScript module of this program.
 * @param {string} url of the source
 * @returns {Promise<any>} what it exports
 */
export async function importTypeScript(url) {
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
  if (known?.files?.every(([path, stamp]) => stampOf(path) === stamp)) return join(CACHE, known.entry);
  return build(source, list);
}

/** What was written when the module was last made; nothing where that did not survive a power cut. */
function read(list) {
  try {
    return JSON.parse(readFileSync(list, 'utf8'));
  } catch {
    return undefined;
  }
}

async function build(source, list) {
  const { build: bundle } = await import('esbuild');
  const { metafile, outputFiles } = await bundle({
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
    plugins: [OWN_ADDRESS],
    sourcemap: 'linked',
    metafile: true,
    write: false,
    logLevel: 'silent',
  });
  const sources = Object.keys(metafile.inputs).map((path) => resolve(ROOT, path));
  // npm writes it whenever it changes a package
  const packages = join(LIBRARIES, '.package-lock.json');
  const inputs = [...sources.filter(isOwn), fileURLToPath(import.meta.url), packages];
  const outputs = outputFiles.map(({ path }) => path);
  mkdirSync(CACHE, { recursive: true });
  // their names are made of what is in them, so that nobody's files are ever replaced by others
  for (const { path, contents } of outputFiles) if (sizeOf(path) !== contents.length) place(path, contents);
  const files = [...inputs, ...outputs].map((path) => [path, stampOf(path)]);
  // modules that are imported when they are needed have files of their own
  const isEntry = ([, { entryPoint }]) => entryPoint !== undefined && resolve(ROOT, entryPoint) === source;
  const entry = resolve(ROOT, Object.entries(metafile.outputs).find(isEntry)[0]);
  place(list, JSON.stringify({ entry: relative(CACHE, entry), files }));
  dropOld(new Set([list, ...outputs]));
  return entry;
}

/** A module that asks for its own address, to find files beside it, is told where its source is. */
const OWN_ADDRESS = {
  name: 'own-address',
  setup(builder) {
    builder.onLoad({ filter: /[.]ts$/ }, ({ path }) => {
      if (!isOwn(path)) return undefined;
      const address = JSON.stringify(pathToFileURL(path).href);
      const contents = readFileSync(path, 'utf8').replaceAll('import.meta.url', address);
      return { contents, loader: 'ts', resolveDir: dirname(path) };
    });
  },
};

function isOwn(path) {
  return path.startsWith(ROOT) && !path.startsWith(LIBRARIES);
}

function sizeOf(path) {
  return statSync(path, { throwIfNoEntry: false })?.size;
}

/** Changes when a file does. */
function stampOf(path) {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat ? `${stat.mtimeMs} ${stat.size}` : null;
}

/** Whole or not at all: another process or thread may be at the same. */
function place(path, contents) {
  const temporary = `${path}.${process.pid}.${threadId}.tmp`;
  writeFileSync(temporary, contents);
  renameSync(temporary, path);
}

function dropOld(needed) {
  rmSync(COMPILED, { recursive: true, force: true });
  for (const name of readdirSync(CACHE)) {
    const path = join(CACHE, name);
    const stat = statSync(path, { throwIfNoEntry: false });
    const isOld = stat?.isFile() && stat.mtimeMs < Date.now() - KEPT_MS;
    if (isOld && !needed.has(path)) rmSync(path, { force: true });
  }
}
