import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { CodedError } from '../../protocol/errors.ts';
import type { LinkShape, Links, Place } from './links.ts';

/** In the environment of a program that has network namespaces of its own to make peers' in. */
const INSIDE = 'OUTERLOOP_NAMESPACES';
/** `ip netns` keeps its list in /run, which is the whole machine's: here it is our own. */
const PREPARE = 'mount -t tmpfs outerloop /run';
const PORT = 4001;

/**
 * A network namespace for every peer, all of them on one bridge: peers are as apart as machines in one room. Unlike a
 * proxy, which breaks connections, a cut link lets packets vanish without a word, as a pulled cable does. For Linux, as
 * root or where users may have namespaces, with iproute2; `inNamespaces` first.
 */
export class NamespaceLinks implements Links {
  readonly #shape: LinkShape;
  readonly #peers: number[] = [];
  #closed = false;

  constructor(shape: LinkShape = {}) {
    this.#shape = shape;
    ip('link', 'add', 'name', BRIDGE, 'type', 'bridge');
    ip('link', 'set', BRIDGE, 'up');
  }

  async place(peer: number): Promise<Place> {
    const [space, host, end] = [namespaceOf(peer), linkOf(peer), 'eth0'];
    ip('netns', 'add', space);
    ip('link', 'add', 'name', host, 'type', 'veth', 'peer', 'name', end, 'netns', space);
    this.#peers.push(peer);
    ip('link', 'set', host, 'master', BRIDGE, 'up');
    ip('-n', space, 'address', 'add', `${addressOf(peer)}/16`, 'dev', end);
    ip('-n', space, 'link', 'set', end, 'up');
    ip('-n', space, 'link', 'set', 'lo', 'up');
    this.#form(host, []);
    this.#form(end, ['-n', space]);
    return {
      options: ['--listen', `/ip4/${addressOf(peer)}/tcp/${PORT}`],
      command: ['ip', 'netns', 'exec', space],
    };
  }

  cut(peer: number): void {
    ip('link', 'set', linkOf(peer), 'down');
  }

  heal(peer: number): void {
    ip('link', 'set', linkOf(peer), 'up');
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const peer of this.#peers.splice(0)) {
      // at once, with both its ends: the system takes its time over a namespace, and the next swarm has links of the same names
      ip('link', 'delete', linkOf(peer));
      ip('netns', 'delete', namespaceOf(peer));
    }
    ip('link', 'delete', BRIDGE);
  }

  /** What leaves through one end of a peer's link. */
  #form(device: string, where: readonly string[]): void {
    const { latencyMs = 0, bytesPerSecond = Number.POSITIVE_INFINITY } = this.#shape;
    if (latencyMs > 0) {
      const delay = ['delay', `${latencyMs / 2}ms`]; // an end of each peer's link is passed
      tool('tc', ...where, 'qdisc', 'add', 'dev', device, 'root', 'handle', '1:', 'netem', ...delay, 'limit', '100000');
    }
    if (bytesPerSecond === Number.POSITIVE_INFINITY) return;
    const parent = latencyMs > 0 ? ['parent', '1:'] : ['root'];
    const rate = ['rate', `${Math.round(8 * bytesPerSecond)}bit`, 'burst', '64kb', 'latency', '100ms'];
    tool('tc', ...where, 'qdisc', 'add', 'dev', device, ...parent, 'tbf', ...rate);
  }
}

const BRIDGE = 'outerloop';
const namespaceOf = (peer: number): string => `peer-${peer}`;
const linkOf = (peer: number): string => `link-${peer}`;
const addressOf = (peer: number): string => `10.77.${1 + (peer >> 7)}.${1 + (peer & 127)}`;

/** This program was begun by `againInNamespaces`. */
export function inNamespaces(): boolean {
  return process.env[INSIDE] !== undefined;
}

/** Why network namespaces cannot be had here; undefined where they can. */
export function namespacesMissing(): string | undefined {
  const trial = `${PREPARE} && ip netns add trial && ip link add name left type veth peer name right netns trial`;
  const { status, error, stderr } = spawnSync('unshare', [...apart(), 'sh', '-c', trial], { encoding: 'utf8' });
  if (status === 0) return undefined;
  return error ? `unshare: ${error.message}` : (stderr.trim().split('\n')[0] ?? '') || `status ${status}`;
}

/**
 * Runs this very command line once more, with a network of its own that ends with it.
 * @returns its exit code
 * @throws CodedError `E_NAMESPACES`
 */
export async function againInNamespaces(): Promise<number> {
  const missing = namespacesMissing();
  if (missing !== undefined) throw cannot(missing);
  const again = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
  const argv = [...apart(), 'sh', '-c', `${PREPARE} && exec "$@"`, 'sh', ...again];
  const child = spawn('unshare', argv, { stdio: 'inherit', env: { ...process.env, [INSIDE]: '1' } });
  // it knows what to do; Ctrl+C has reached it too, and once more changes nothing
  const passOn = (signal: NodeJS.Signals): void => void child.kill(signal);
  process.on('SIGINT', passOn).on('SIGTERM', passOn).on('SIGHUP', passOn);
  try {
    return await new Promise((resolve, reject) => {
      child.on('error', (cause) => reject(cannot(cause.message)));
      child.on('close', (code) => resolve(code ?? 1));
    });
  } finally {
    process.off('SIGINT', passOn).off('SIGTERM', passOn).off('SIGHUP', passOn);
  }
}

/** Root has the right to a network and mounts of its own; others where they may be root in a namespace of users. */
function apart(): string[] {
  return ['--net', '--mount', ...(process.getuid?.() === 0 ? [] : ['--user', '--map-root-user'])];
}

function ip(...args: string[]): void {
  tool('ip', ...args);
}

/** @throws CodedError `E_NAMESPACES` */
function tool(name: 'ip' | 'tc', ...args: string[]): void {
  try {
    execFileSync(name, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  } catch (cause) {
    const { stderr, message } = cause as { stderr?: Buffer; message: string };
    throw cannot(`${name} ${args.join(' ')}: ${stderr?.toString().trim().split('\n')[0] || message}`, cause);
  }
}

function cannot(why: string, cause?: unknown): CodedError<'E_NAMESPACES'> {
  const fix =
    'leave out --namespaces (or --latency, which needs the kernel module sch_netem), or try as root with iproute2';
  return new CodedError('E_NAMESPACES', `no network namespaces here (${why}): ${fix}`, { cause });
}
