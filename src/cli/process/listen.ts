/** Opens a listener, and says what is in the way where it cannot be opened. */
import { createServer } from 'node:net';
import { type FastifyInstance } from 'fastify';
import { type ListenerConfig } from '../../config.ts';
import { type Settings, isSameAddress } from '../../config/settings.ts';
import { CliError } from '../failure.ts';

export type ListenerName = keyof Settings['listeners'];

const REASONS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'something else listens there',
  EACCES: 'this user may not listen there (ports below 1024 are for root)',
  EADDRNOTAVAIL: 'this machine does not have that address',
  ENOTFOUND: 'that host name has no address',
};

/** The port listened on. Throws `CliError`. `name` is the listener's key under `listeners`. */
export async function openListener(
  app: Pick<FastifyInstance, 'listen' | 'server'>,
  name: ListenerName,
  { host, port }: ListenerConfig,
): Promise<number> {
  await app.listen({ host, port }).catch((error: unknown) => {
    throw cannotOpen(error, name, { host, port });
  });
  const address = app.server.address();
  return typeof address === 'object' && address !== null ? address.port : port;
}

/** Throws the `CliError` that opening the listener would, and leaves the port free. */
export async function assertFree(name: ListenerName, { host, port }: ListenerConfig): Promise<void> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(cannotOpen(error, name, { host, port })));
    server.listen({ host, port }, () => server.close(() => resolve()));
  });
}

/** Throws `CliError` when two of these cannot be opened on one machine. */
export function assertApart(listeners: Readonly<Partial<Record<ListenerName, ListenerConfig>>>): void {
  const entries = Object.entries(listeners);
  entries.forEach(([name, listener], i) => {
    const other = entries.slice(0, i).find(([, earlier]) => isSameAddress(earlier, listener));
    if (other === undefined) return;
    throw new CliError(`listeners.${other[0]} and listeners.${name} have the same port, ${listener.port}`, {
      hint: `Server and worker run on one machine here: change listeners.${name}.port.`,
      exitCode: 2,
    });
  });
}

function cannotOpen(error: unknown, name: ListenerName, { host, port }: ListenerConfig): CliError {
  const code = error instanceof Error && 'code' in error ? String(error.code) : String(error);
  const reason = REASONS[code];
  return new CliError(
    `the ${name} listener cannot be opened at ${host}:${port}: ${reason === undefined ? code : `${reason} (${code})`}`,
    {
      hint:
        code === 'EADDRINUSE'
          ? `End what listens there (another Rejoinder?), or change listeners.${name}.port.`
          : `Correct listeners.${name}.host or .port.`,
      cause: error,
    },
  );
}
