/**
 * A client listener in a process of its own, as `serve` has it, over a database that others write to; or, to compare it with, a bare
 * HTTP server that holds every request and answers none. Run with --expose-gc: it tells its heap without what is garbage.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type ServerResponse, createServer } from 'node:http';
import { type AddressInfo } from 'node:net';
import { createAccounts } from '../../src/accounts/accounts.ts';
import { createAppServices } from '../../src/app-services/app-services.ts';
import { createMatching } from '../../src/app-services/matching.ts';
import { createServiceClient } from '../../src/app-services/ask-service.ts';
import { createPasswords } from '../../src/accounts/passwords.ts';
import { createClientServer } from '../../src/client-api/server.ts';
import { systemClock } from '../../src/clock.ts';
import { createLogger } from '../../src/logging.ts';
import { type ServerName } from '../../src/matrix/identifiers.ts';
import { generateSigningKey } from '../../src/matrix/signing/signing-key.ts';
import { defaultResyncPolicy } from '../../src/resync/policy.ts';
import { createDirectory } from '../../src/rooms/directory/directory.ts';
import { clientReads } from '../../src/rooms/read/for-clients.ts';
import { startPurging } from '../../src/rooms/purge/purges.ts';
import { clientActs } from '../../src/rooms/send/client-acts.ts';
import { createNotifier } from '../../src/store/notify.ts';
import { openStore } from '../../src/store/open-store.ts';
import { startPassing } from '../../src/edus/passing.ts';
import { type Devices } from '../../src/devices/contract.ts';
import { createSync } from '../../src/sync/sync.ts';
import { type ListenerReport } from './listener-report.ts';

const WAIT_MS = 600_000;
const [databaseUrl = '', serverName = ''] = process.argv.slice(2);

async function startClients(): Promise<() => Omit<ListenerReport, 'heapBytes' | 'cpuSeconds'>> {
  const store = openStore({
    databaseUrl,
    serverName: serverName as ServerName,
    poolSizeMax: 10,
    applicationName: 'rejoinder bench',
  });
  const notifier = createNotifier(store);
  const accounts = createAccounts({
    store,
    clock: systemClock,
    passwords: createPasswords(),
    accessTokenMs: WAIT_MS,
    devicesMax: 1_000,
  });
  const logger = createLogger({ level: 'warn' });
  const sending = {
    ...{ serverName: serverName as ServerName, store, clock: systemClock, random: Math.random, logger },
    // No other server is in the rooms that are made here, and none is asked about our keys.
    signingKey: generateSigningKey(randomBytes),
    policy: defaultResyncPolicy,
    ring: () => Promise.resolve(),
  };
  const app = createClientServer({
    serverName: serverName as ServerName,
    accounts,
    appServices: createAppServices({
      ...{ ...sending, services: [], client: createServiceClient('bench'), retry: () => undefined },
      matching: createMatching([]),
    }),
    // Nobody asks for keys here.
    devices: {} as Devices,
    passing: startPassing({ ...sending, onSaid: () => undefined }),
    reads: clientReads({ store, notifier, clock: systemClock }),
    directory: createDirectory({ ...sending, serverName: serverName as ServerName }),
    acts: clientActs(sending, {
      join: () => Promise.reject(new Error('nobody joins here')),
      outside: {
        invite: () => Promise.reject(new Error('nobody is elsewhere')),
        inviteByIdentifier: () => Promise.reject(new Error('nobody is invited here')),
        decline: () => Promise.resolve(false),
        knock: () => Promise.reject(new Error('nobody knocks here')),
      },
      profileChanged: () => undefined,
    }),
    purges: startPurging(sending),
    sync: createSync({ store, notifier, clock: systemClock }),
    publicBaseUrl: null,
    defaultRoomVersion: '11',
    stateWaitMaxMs: WAIT_MS,
    isRegistrationOpen: false,
    secretRegistration: null,
    isBehindProxy: false,
    rateLimits: { loginByAddress: null, loginByAccount: null, registration: null, sending: null, joining: null },
    clock: systemClock,
    logger,
  });
  const userId = await accounts.createUser({ name: 'bench', password: 'of no use', isAdmin: false });
  const { accessToken } = await accounts.startSession(userId, { refreshable: false, address: '127.0.0.1' });
  const url = await app.listen({ host: '127.0.0.1', port: 0 });
  return () => ({ url, accessToken, waiting: notifier.waiting });
}

async function startBare(): Promise<() => Omit<ListenerReport, 'heapBytes' | 'cpuSeconds'>> {
  const held = new Set<ServerResponse>();
  const server = createServer((_request, response) => void held.add(response));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return () => ({ url, accessToken: '', waiting: held.size });
}

const report = await (databaseUrl === 'bare' ? startBare() : startClients());
const tell = (): void => {
  globalThis.gc?.();
  globalThis.gc?.();
  const { user, system } = process.cpuUsage();
  const used = { heapBytes: process.memoryUsage().heapUsed, cpuSeconds: (user + system) / 1e6 };
  process.send?.({ ...report(), ...used } satisfies ListenerReport);
};
process.on('message', tell);
process.on('disconnect', () => process.exit());
tell();
