import { createServer } from 'node:net';

/** The user's choice; else where others will look for this peer: the ports that it had before, if they are free. */
export async function listenAddresses(listen: string[] | undefined, before: string[]): Promise<string[] | undefined> {
  if (listen || before.length === 0) return listen;
  const ports = new Set(before.map((address) => Number(/\/tcp\/(\d+)/.exec(address)?.[1] ?? 0)));
  const [port] = ports;
  if (ports.size !== 1 || !port || !(await isFree(port))) return undefined;
  return before.some((address) => !address.includes('/127.')) ? [`/ip4/0.0.0.0/tcp/${port}`] : before;
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(false));
    probe.listen(port, () => probe.close(() => resolve(true)));
  });
}
