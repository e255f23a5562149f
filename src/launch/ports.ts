/** Ports of the loopback address for servers that can't choose one themselves. */
import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';
import { LaunchError } from './progress.ts';

/**
 * Below the range from which Linux (32768 and up) and others take ports for outgoing connections and for listeners that
 * leave the choice to the system: one of those, freed, is soon given away again, before our server has it.
 */
const PORT_MIN = 20_000;
const PORT_MAX = 32_000;
const ATTEMPTS = 100;

const handedOut = new Set<number>();

/** Throws when the port is taken. */
async function tryBind(port: number): Promise<void> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => server.close(() => resolve()));
  });
}

/** A port nobody listens on now; never the same twice in one process. */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    const port = randomInt(PORT_MIN, PORT_MAX);
    if (handedOut.has(port)) continue;
    try {
      await tryBind(port);
      handedOut.add(port);
      return port;
    } catch {
      continue;
    }
  }
  throw new LaunchError(`no free port between ${PORT_MIN} and ${PORT_MAX} on 127.0.0.1 in ${ATTEMPTS} tries`);
}

/** The port asked for, or a free one when none was; throws when somebody listens there already. */
export async function choosePort(wanted: number | undefined, forWhat: string): Promise<number> {
  if (wanted === undefined) return freePort();
  try {
    await tryBind(wanted);
    return wanted;
  } catch (error) {
    throw new LaunchError(`${forWhat}: port ${wanted} on 127.0.0.1 can't be used (${(error as Error).message})`);
  }
}
