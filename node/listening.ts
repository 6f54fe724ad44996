import { DEFAULT_LISTEN } from './net/index.ts';
import { listenFault } from './probe.ts';

/** `/ip4|ip6|dns…/<host>/tcp/<port>` in its parts */
const ADDRESS = /^\/(\w+)\/([^/]+)\/tcp\/(\d+)/;
/** Hosts that stand for all of this machine. */
const ANY_HOST: readonly string[] = ['0.0.0.0', '::'];

export interface Listening {
  /** what this peer is asked to listen on, and will look for at its next start too */
  wanted: readonly string[];
  /** the same with any free port where another program has the wanted one */
  listen: string[];
}

/**
 * The user's choice; else what this peer was asked to listen on before, so that others find it, and nobody whom it was not
 * meant for.
 * @param listen what the user asks for now, as it is
 * @param before what this peer listened on before, as `withPorts` gave it
 */
export async function listenAddresses(
  listen: readonly string[] | undefined,
  before: readonly string[] = [],
): Promise<Listening> {
  if (listen) return { wanted: listen, listen: [...listen] };
  const wanted = before.length > 0 ? before : DEFAULT_LISTEN;
  const free: string[] = [];
  for (const address of wanted) free.push((await isTaken(address)) ? withPort(address, '0') : address);
  return { wanted, listen: free };
}

/** What was asked for, with the ports that were got where any would do. @param listening what it came to, host by host */
export function withPorts(asked: readonly string[], listening: readonly string[]): string[] {
  const named = asked.map((address) => partsOf(address)?.host);
  return asked.map((address) => {
    const wanted = partsOf(address);
    if (wanted?.port !== '0') return address;
    const got = listening.map(partsOf).find((each) => {
      if (each?.protocol !== wanted.protocol) return false;
      if (each.host === wanted.host) return true;
      return ANY_HOST.includes(wanted.host) && !named.includes(each.host);
    });
    return withPort(address, got?.port ?? '0');
  });
}

function withPort(address: string, port: string): string {
  return address.replace(/\/tcp\/\d+/, `/tcp/${port}`);
}

function partsOf(address: string): { protocol: string; host: string; port: string } | undefined {
  const [, protocol, host, port] = ADDRESS.exec(address) ?? [];
  return protocol && host && port ? { protocol, host, port } : undefined;
}

/** Whether another program listens there; whatever else is wrong with an address is told by who listens. */
async function isTaken(address: string): Promise<boolean> {
  const { host, port } = partsOf(address) ?? { host: '', port: '0' };
  return port !== '0' && (await listenFault(host, Number(port))) === 'EADDRINUSE';
}
