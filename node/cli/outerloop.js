#!/usr/bin/env node
/**
 * The `outerloop` program: checks the platform, teaches Node to read TypeScript (tsx) and hands over to main.ts.
 *
 * Written so that an old Node can parse it, and without static imports, which would fail before the check could speak.
 */
const NODE_NEEDED = [20, 19];
/** The large ones, which are quicker to load before Node is taught TypeScript. */
const LIBRARIES = ['commander', 'zod', 'cborg'];
const NETWORK_LIBRARIES = [
  'libp2p',
  '@chainsafe/libp2p-gossipsub',
  '@libp2p/identify',
  '@libp2p/noise',
  '@libp2p/ping',
  '@libp2p/tcp',
  '@libp2p/yamux',
];
/** How long a handle that was left open may keep the process alive after the command is done. */
const LINGER_MS = 2000;

function isOldNode(version) {
  const [major, minor] = version.split('.').map(Number);
  return major < NODE_NEEDED[0] || (major === NODE_NEEDED[0] && minor < NODE_NEEDED[1]);
}

function fail(line) {
  console.error(`outerloop: ${line}`);
  process.exitCode = 1;
}

function finish(code) {
  process.exitCode = code;
  // unref: a process with nothing left to do ends at once, this fires only when something was left open
  setTimeout(() => process.exit(code), LINGER_MS).unref();
}

function explain(error) {
  const { code, message } = Object(error);
  if (code === 'ERR_MODULE_NOT_FOUND' && /Cannot find package/.test(message)) {
    const [, name] = /package '([^']+)'/.exec(message) || [];
    const home = decodeURIComponent(new URL('../..', import.meta.url).pathname);
    fail(`the package ${name} is not installed; run \`npm install\` in ${home}`);
    return;
  }
  console.error(error);
  finish(1);
}

async function launch() {
  const argv = process.argv.slice(2);
  const { learnTypeScript } = await import('../typescript.js');
  const isPeer = argv[0] === 'start' && !argv.includes('--help') && !argv.includes('-h');
  await learnTypeScript(isPeer ? [...LIBRARIES, ...NETWORK_LIBRARIES] : LIBRARIES);
  const { main } = await import('./main.ts');
  finish(await main(argv));
}

if (isOldNode(process.versions.node)) {
  fail(`Node ${NODE_NEEDED.join('.')} or newer is needed, this is ${process.versions.node}; get one at nodejs.org`);
} else {
  launch().catch(explain);
}
