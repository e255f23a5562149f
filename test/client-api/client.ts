/** A client listener over accounts in a database of the test, and requests to it. */
import { type AddressInfo } from 'node:net';
import { pino } from 'pino';
import { onTestFinished } from 'vitest';
import { createAccounts } from '../../src/accounts/accounts.ts';
import { type Accounts } from '../../src/accounts/contract.ts';
import { type AppServices } from '../../src/app-services/contract.ts';
import { createPasswords } from '../../src/accounts/passwords.ts';
import { createSecretRegistration } from '../../src/accounts/shared-secret.ts';
import { type ClientServerOptions, createClientServer } from '../../src/client-api/server.ts';
import { type Clock } from '../../src/clock.ts';
import { type Devices } from '../../src/devices/contract.ts';
import { createDevices } from '../../src/devices/devices.ts';
import { type Passing } from '../../src/edus/contract.ts';
import { type RunningPassing, startPassing } from '../../src/edus/passing.ts';
import { type FederationClient } from '../../src/federation/contract.ts';
import { type ServerName } from '../../src/matrix/identifiers.ts';
import { type ClientActs, type ClientReads } from '../../src/rooms/client-contract.ts';
import { defaultResyncPolicy } from '../../src/resync/policy.ts';
import { createDirectory } from '../../src/rooms/directory/directory.ts';
import { RoomError } from '../../src/rooms/error.ts';
import { clientActs } from '../../src/rooms/send/client-acts.ts';
import { type ProfileTeller, startTellingProfiles } from '../../src/rooms/send/tell-profile.ts';
import { type SendContext } from '../../src/rooms/send/send-event.ts';
import { silent } from '../federation/tls-server.ts';
import { keyOf } from '../matrix/sample-event.ts';
import { clientReads } from '../../src/rooms/read/for-clients.ts';
import { type Notifier, createNotifier } from '../../src/store/notify.ts';
import { type Sync } from '../../src/sync/contract.ts';
import { createSync } from '../../src/sync/sync.ts';
import { type Store, openStore } from '../../src/store/open-store.ts';
import { startTakingTurns } from '../support/taking-turns.ts';

export const SERVER_NAME = 'here.test' as ServerName;
export const SECRET = 'a secret that is shared with tests';
export const PASSWORD = 'correct horse';

/** How many processes the clients of a test meet. */
export const LISTENERS = Number(process.env['REJOINDER_TESTS_LISTENERS'] ?? 1);

/** Where none is registered. */
const NO_APP_SERVICES: AppServices = {
  ofToken: () => undefined,
  isUserTaken: () => false,
  isAliasTaken: () => false,
  provideUser: () => Promise.resolve(false),
  provideAlias: () => Promise.resolve(false),
  mayProvideAlias: () => false,
  ping: () => Promise.resolve({ outcome: 'no-url' }),
};

/** Time that stands still until a test moves it. */
export class TestClock {
  at = 1_700_000_000_000;
  now = (): number => this.at;
}

export interface Answer {
  readonly status: number;
  readonly body: Record<string, unknown>;
  readonly headers: Headers;
}

export interface TestClient {
  readonly url: string;
  /** What its requests wait by. */
  readonly notifier: Notifier;
  /** What passes in rooms. */
  readonly passing: RunningPassing;
  readonly clock: TestClock;
  readonly log: readonly string[];
  /** `body`: as JSON, or a string or bytes as they are. */
  ask(method: string, path: string, body?: unknown, token?: string, headers?: Record<string, string>): Promise<Answer>;
  /** Makes a user and logs him in. */
  user(name: string, over?: { readonly isAdmin?: boolean; readonly deviceId?: string }): Promise<string>;
  /** Logs a user in on a device of his own, and makes him where he is not there. */
  login(name: string): Promise<string>;
}

/** What a listener needs at the least; no account, and no room. */
export function bareOptions(clock: Clock = new TestClock()): ClientServerOptions {
  return {
    serverName: SERVER_NAME,
    // Whoever asks for one of them has to bring his own.
    accounts: {} as Accounts,
    appServices: NO_APP_SERVICES,
    devices: {} as Devices,
    passing: {} as Passing,
    reads: {} as ClientReads,
    acts: {} as ClientActs,
    directory: {} as ClientServerOptions['directory'],
    purges: {} as ClientServerOptions['purges'],
    sync: {} as Sync,
    publicBaseUrl: null,
    defaultRoomVersion: '11',
    stateWaitMaxMs: 10_000,
    isRegistrationOpen: false,
    secretRegistration: null,
    isBehindProxy: false,
    rateLimits: { loginByAddress: null, loginByAccount: null, registration: null, sending: null, joining: null },
    clock,
    logger: pino({ level: 'silent' }),
  };
}

/** What use cases are given in a server that knows no other. */
export function roomsContextOf(store: Store, clock: Clock): SendContext {
  return {
    ...{ serverName: SERVER_NAME, signingKey: keyOf(SERVER_NAME), store, clock, random: Math.random, logger: silent },
    policy: defaultResyncPolicy,
    ring: () => Promise.resolve(),
  };
}

/** Whoever would have to be asked is not. */
export function actsOf(
  store: Store,
  clock: Clock,
  profiles: Pick<ProfileTeller, 'poke'> = tellProfiles(store, clock),
  followRoom?: Accounts['followRoom'],
): ClientActs {
  const unknown = (): RoomError => new RoomError('unknown-room', 'nobody is known who could be asked');
  const outside = {
    invite: () => Promise.reject(unknown()),
    inviteByIdentifier: () => Promise.reject(unknown()),
    decline: () => Promise.resolve(false),
    knock: () => Promise.reject(unknown()),
  };
  return clientActs(roomsContextOf(store, clock), {
    join: () => Promise.reject(unknown()),
    outside,
    profileChanged: () => profiles.poke(),
    ...(followRoom === undefined ? {} : { followRoom }),
  });
}

/** Over connections of its own, as another process has it; until the test is over. */
function anotherStore({ serverName, connection }: Store): Store {
  const store = openStore({
    ...{ serverName, databaseUrl: connection.connectionString!, poolSizeMax: 3, applicationName: 'another listener' },
  });
  onTestFinished(() => store.close());
  return store;
}

/** Until the test is over. */
async function inTurn(ports: readonly number[]): Promise<number> {
  const { port, stop } = await startTakingTurns(ports);
  onTestFinished(stop);
  return port;
}

/** Until the test is over. */
function tellProfiles(store: Store, clock: Clock): ProfileTeller {
  const teller = startTellingProfiles(roomsContextOf(store, clock));
  onTestFinished(() => teller.close());
  return teller;
}

/** As one process listens, with nothing that another has in memory. */
async function listen(store: Store, clock: Clock, log: string[], over: Partial<ClientServerOptions>) {
  const notifier = createNotifier(store);
  onTestFinished(() => notifier.close());
  const passing = startPassing({ ...roomsContextOf(store, clock), onSaid: () => undefined });
  onTestFinished(() => passing.close());
  const accounts = createAccounts({
    store,
    clock,
    passwords: createPasswords({ ln: 1, r: 1, p: 1 }),
    accessTokenMs: 300_000,
    devicesMax: 1_000,
  });
  const app = createClientServer({
    ...bareOptions(clock),
    accounts,
    // Whoever asks other servers has to bring a client that does.
    devices: createDevices({
      ...{ ...roomsContextOf(store, clock), federation: {} as FederationClient },
      onSaid: () => undefined,
    }),
    passing,
    acts: over.acts ?? actsOf(store, clock, undefined, (...room) => accounts.followRoom(...room)),
    reads: clientReads({ store, notifier, clock }),
    directory: createDirectory({ serverName: SERVER_NAME, store, clock }),
    sync: createSync({ store, notifier, clock }),
    isRegistrationOpen: true,
    secretRegistration: createSecretRegistration(SECRET, clock),
    logger: pino({ level: 'trace' }, { write: (line: string) => void log.push(line) }),
    ...over,
  });
  await app.listen({ host: '127.0.0.1', port: 0 });
  onTestFinished(() => app.close());
  return { notifier, passing, accounts, port: (app.server.address() as AddressInfo).port };
}

/**
 * Listens until the test is over, as so many processes would, each over connections of its own, that are asked in turn. `listeners`: 1
 * where a test looks at one process, or at what a proxy has a word in. Passwords are hashed for no cost.
 */
export async function startClientApi(
  store: Store,
  over: Partial<ClientServerOptions> = {},
  listeners = LISTENERS,
): Promise<TestClient> {
  const log: string[] = [];
  const clock = new TestClock();
  const first = await listen(store, clock, log, over);
  const { passing, accounts } = first;
  const all = [first];
  // Each process counts for itself who says too much.
  const wanted = over.rateLimits === undefined ? listeners : 1;
  while (all.length < wanted) all.push(await listen(anotherStore(store), clock, log, over));
  const ports = all.map(({ port }) => port);
  const url = `http://127.0.0.1:${ports.length === 1 ? first.port : await inTurn(ports)}`;
  const notifier: TestClient['notifier'] = {
    ...first.notifier,
    get waiting() {
      return all.reduce((sum, { notifier: { waiting } }) => sum + waiting, 0);
    },
  };

  const ask: TestClient['ask'] = async (method, path, body, token, headers = {}) => {
    const isRaw = typeof body === 'string' || body instanceof Uint8Array;
    const response = await fetch(`${url}${path}`, {
      method,
      headers: {
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: isRaw ? (body as string) : JSON.stringify(body) }),
    });
    const text = await response.text();
    return {
      status: response.status,
      body: (text === '' ? {} : JSON.parse(text)) as Record<string, unknown>,
      headers: response.headers,
    };
  };
  return {
    url,
    notifier,
    passing,
    clock,
    log,
    ask,
    user: async (name, { isAdmin = false, deviceId } = {}) => {
      const userId = await accounts.createUser({ name, password: PASSWORD, isAdmin });
      const { accessToken } = await accounts.startSession(userId, {
        deviceId,
        refreshable: false,
        address: '192.0.2.1',
      });
      return accessToken;
    },
    login: async (name) => {
      await accounts.createUser({ name, password: PASSWORD, isAdmin: false }).catch(() => undefined);
      const body = { type: 'm.login.password', user: name, password: PASSWORD };
      return (await ask('POST', '/_matrix/client/v3/login', body)).body['access_token'] as string;
    },
  };
}
