/** The client listener as the configuration says it. */
import { type FastifyInstance } from 'fastify';
import { type Accounts } from '../../accounts/contract.ts';
import { type AppServices } from '../../app-services/contract.ts';
import { createSecretRegistration } from '../../accounts/shared-secret.ts';
import { type ClientContext } from '../../client-api/context.ts';
import { createClientServer } from '../../client-api/server.ts';
import { type Clock } from '../../clock.ts';
import { type Devices } from '../../devices/contract.ts';
import { type Config } from '../../config.ts';
import { type Passing } from '../../edus/contract.ts';
import { type Logger } from '../../logging.ts';
import { type ClientActs, type ClientReads } from '../../rooms/client-contract.ts';
import { type Sync } from '../../sync/contract.ts';
import { readCertificate } from './certificate.ts';

export interface ClientServerParts {
  readonly config: Config;
  readonly accounts: Accounts;
  readonly appServices: AppServices;
  readonly devices: Devices;
  readonly passing: Passing;
  readonly reads: ClientReads;
  readonly acts: ClientActs;
  readonly directory: ClientContext['directory'];
  readonly purges: ClientContext['purges'];
  readonly sync: Sync;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** The server, not yet listening. Throws `CliError` for a certificate that cannot be read. */
export async function buildClientServer({
  config,
  accounts,
  appServices,
  devices,
  passing,
  reads,
  acts,
  directory,
  purges,
  sync,
  clock,
  logger,
}: ClientServerParts): Promise<FastifyInstance> {
  const { serverName, clientApi } = config;
  const { tls, xForwarded } = config.listeners.client;
  const { registrationSharedSecret: secret } = clientApi;
  return createClientServer({
    ...clientApi,
    serverName,
    tls: await readCertificate('client', tls),
    isBehindProxy: xForwarded,
    secretRegistration: secret === null ? null : createSecretRegistration(secret, clock),
    accounts,
    appServices,
    devices,
    passing,
    reads,
    acts,
    directory,
    purges,
    sync,
    clock,
    logger,
  });
}
