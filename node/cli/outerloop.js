#!/usr/bin/env node
/**
 * The `outerloop` program: checks the platform and hands over to main.ts.
 *
 * Written so that an old Node can parse it, and without static imports, which would fail before the check could speak.
 */
const NODE_NEEDED = [20, 19];
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

async function explain(error) {
  const { code, message } = Object(error);
  if (code === 'ERR_MODULE_NOT_FOUND' && /Cannot find package/.test(message)) {
    const [, name] = /package '([^']+)'/.exec(message) || [];
    const { fileURLToPath } = await import('node:url');
    const home = fileURLToPath(new URL('../..', import.meta.url));
    fail(`the package ${name} is not installed; run \`npm install\` in ${home}`);
    return;
  }
  console.error(error);
  finish(1);
}

async function launch() {
  const argv = process.argv.slice(2);
  // worker threads, and the processes that a command starts, are to hear of it too
  if (argv.includes('--debug')) process.env.OUTERLOOP_DEBUG = '1';
  const { importTypeScript } = await import('../typescript.js');
  const { main } = await importTypeScript(new URL('./main.ts', import.meta.url).href);
  finish(await main(argv));
}

if (isOldNode(process.versions.node)) {
  fail(`Node ${NODE_NEEDED.join('.')} or newer is needed, this is ${process.versions.node}; get one at nodejs.org`);
} else {
  launch().catch(explain);
}
