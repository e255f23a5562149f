/** Opens a listener, and says what is in the way where it cannot be opened. */
import { createServer } from 'node:net';
import { type FastifyInstance } from 'fastify';
import { type Config, type ListenerConfig } from '../../config.ts';
import { CliError } from '../failure.ts';

type ListenerName = keyof Config['listeners'];

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
