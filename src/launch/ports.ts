/** Ports of the loopback address for servers that can't choose one themselves. */
import { createServer } from 'node:net';
import { LaunchError } from './progress.ts';

async function bind(port: number): Promise<number> {
  const server = createServer();
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : port));
    });
  });
}

/** A port nobody listens on now. Another process may take it before it is used; the system hands them out in turn. */
export async function freePort(): Promise<number> {
  return bind(0);
}

/** The port asked for, or a free one when none was; throws when somebody listens there already. */
export async function choosePort(wanted: number | undefined, forWhat: string): Promise<number> {
  if (wanted === undefined) return freePort();
  try {
    return await bind(wanted);
  } catch (error) {
    throw new LaunchError(`${forWhat}: port ${wanted} on 127.0.0.1 can't be used (${(error as Error).message})`);
  }
}
