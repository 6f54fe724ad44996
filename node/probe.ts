import { createServer } from 'node:net';

/** Listens for a moment. @returns the system's code for why that cannot be; undefined where it can */
export function listenFault(host: string, port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', ({ code }: NodeJS.ErrnoException) => resolve(code));
    probe.listen({ host, port }, () => probe.close(() => resolve(undefined)));
  });
}

/** Whether connections can be made from there. @param ip an address */
export async function isHere(ip: string): Promise<boolean> {
  return (await listenFault(ip, 0)) !== 'EADDRNOTAVAIL';
}
