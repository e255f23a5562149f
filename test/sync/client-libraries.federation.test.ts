/**
 * Client libraries that we did not write live in a room of the simulated federation, from the first second: at a process that did not
 * write what they are told of, and that cannot hear of it either.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import loglevel from 'loglevel';
import { MsgType, createClient } from 'matrix-js-sdk';
import { describe, expect, onTestFinished, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { ensureCertificateFiles } from '../../src/launch/certificates.ts';
import { joinRoom } from '../../src/rooms/join/join.ts';
import { clientActs } from '../../src/rooms/send/client-acts.ts';
import { type Store, openStore } from '../../src/store/open-store.ts';
import { startClientApi } from '../client-api/client.ts';
import { type TestRejoinder, startTestRejoinder } from '../support/rejoinder.ts';
import { type TestSimulator, startTestSimulator, staticAddressesOf } from '../support/simulator.ts';

const MEMBERS = 60;
const PASSWORD = 'correct horse';
const SOON = { timeout: 15_000, interval: 50 };

/** What a library does, and shows, in the words of a test. */
interface Client {
  join(alias: string): Promise<string>;
  say(roomId: string, body: string): Promise<string>;
  /** Users whose membership it is told by `/members`. */
  joined(roomId: string): Promise<readonly string[]>;
  leave(roomId: string): Promise<void>;
  /** Whether a sync has brought an event. */
  hasHeard(roomId: string, eventId: string): boolean;
  hasLeft(roomId: string): boolean;
}

async function jsSdk(baseUrl: string, isLazy: boolean): Promise<Client> {
  const auth = { type: 'm.login.dummy' };
  const stranger = createClient({ baseUrl });
  const made = await stranger.registerRequest({ username: 'me', password: PASSWORD, auth });
  const [userId, accessToken, deviceId] = [made.user_id, made.access_token!, made.device_id!];
  const client = createClient({ baseUrl, userId, accessToken, deviceId });
  for (const logger of Object.values(loglevel.getLoggers())) logger.setLevel('silent', false);
  onTestFinished(() => client.stopClient());
  await client.startClient({ lazyLoadMembers: isLazy });
  return {
    join: async (alias) => (await client.joinRoom(alias)).roomId,
    say: async (roomId, body) => (await client.sendMessage(roomId, { msgtype: MsgType.Text, body })).event_id,
    joined: async (roomId) => {
      const { chunk } = await client.members(roomId, 'join');
      return (chunk ?? []).map((event) => event.state_key);
    },
    leave: async (roomId) => {
      await client.leave(roomId);
    },
    // It shows what it has sent at once; a status goes when the event comes back.
    hasHeard: (roomId, eventId) => client.getRoom(roomId)?.findEventById(eventId)?.status === null,
    hasLeft: (roomId) => client.getRoom(roomId)?.getMyMembership() === 'leave',
  };
}

/** As much of matrix-bot-sdk as is used here. */
interface BotSdk {
  readonly MatrixAuth: new (url: string) => {
    passwordRegister(name: string, password: string): Promise<{ readonly accessToken: string }>;
  };
  readonly MatrixClient: new (
    url: string,
    token: string,
  ) => {
    on(event: 'room.event' | 'room.leave', take: (roomId: string, event: { readonly event_id: string }) => void): void;
    start(filter: object | null): Promise<void>;
    stop(): void;
    joinRoom(alias: string): Promise<string>;
    sendText(roomId: string, text: string): Promise<string>;
    getJoinedRoomMembers(roomId: string): Promise<string[]>;
    leaveRoom(roomId: string): Promise<void>;
  };
  readonly LogService: { setLogger(logger: object): void };
}

/** Its cryptography is a library that is downloaded when it is installed; whoever encrypts nothing does without. */
function loadBotSdk(): BotSdk {
  const require = createRequire(import.meta.url);
  const path = require.resolve('@matrix-org/matrix-sdk-crypto-nodejs');
  const exports = new Proxy({}, { get: (_, name) => (name === '__esModule' ? true : {}) });
  require.cache[path] = { ...module(), id: path, filename: path, loaded: true, exports };
  return require('matrix-bot-sdk') as BotSdk;
}

function module(): NodeJS.Module {
  return {
    children: [],
    paths: [],
    path: '',
    parent: null,
    isPreloading: false,
    require: createRequire(import.meta.url),
  } as unknown as NodeJS.Module;
}

async function botSdk(url: string, isLazy: boolean): Promise<Client> {
  const { MatrixAuth, MatrixClient, LogService } = loadBotSdk();
  const nothing = (): void => undefined;
  LogService.setLogger({ info: nothing, warn: nothing, error: nothing, debug: nothing, trace: nothing });
  const { accessToken } = await new MatrixAuth(url).passwordRegister('me', PASSWORD);
  const client = new MatrixClient(url, accessToken);
  const heard = new Set<string>();
  const left = new Set<string>();
  client.on('room.event', (_, event) => void heard.add(event.event_id));
  client.on('room.leave', (roomId) => void left.add(roomId));
  onTestFinished(() => client.stop());
  await client.start(isLazy ? { room: { state: { lazy_load_members: true } } } : null);
  return {
    join: (alias) => client.joinRoom(alias),
    say: (roomId, body) => client.sendText(roomId, body),
    joined: (roomId) => client.getJoinedRoomMembers(roomId),
    leave: (roomId) => client.leaveRoom(roomId),
    hasHeard: (_, eventId) => heard.has(eventId),
    hasLeft: (roomId) => left.has(roomId),
  };
}

interface Stage {
  readonly simulator: TestSimulator;
  readonly ours: TestRejoinder;
  /** Of the other process, and its listener for clients. */
  readonly others: Store;
  readonly url: string;
}

async function stage(): Promise<Stage> {
  const folder = await mkdtemp(join(tmpdir(), 'rejoinder-libraries-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const certificates = await ensureCertificateFiles(folder, [], systemClock);
  const joinersAuthorityPem = await readFile(certificates.authorityFile, 'utf8');
  const simulator = await startTestSimulator({ members: MEMBERS, servers: 6 }, { joinersAuthorityPem });
  const ours = await startTestRejoinder(
    { certificates },
    {
      authorityPem: simulator.authorityPem,
      places: staticAddressesOf(simulator),
      notaries: simulator.residents.slice(0, 1),
    },
  );
  const { context } = ours;
  const { serverName } = context;
  const databaseUrl = context.store.connection.connectionString!;
  const others = openStore({ databaseUrl, serverName, poolSizeMax: 5, applicationName: 'another process' });
  onTestFinished(() => others.close());
  const acts = clientActs(context, { join: (request) => joinRoom(context, request) });
  const { url } = await startClientApi(others, { serverName, acts });
  return { simulator, ours, others, url };
}

/** The process hears of nothing any more, and cannot listen again. */
async function cutListening({ ours, others }: Stage): Promise<void> {
  const listening = (): Promise<{ readonly pid: number }[]> =>
    ours.context.store.query(
      `SELECT pid FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'another process' AND query LIKE 'LISTEN%'`,
    );
  await expect.poll(listening, SOON).toHaveLength(1);
  Object.assign(others.connection, { connectionString: 'postgres://127.0.0.1:1/nothing' });
  for (const { pid } of await listening()) await ours.context.store.query(`SELECT pg_terminate_backend($1)`, [pid]);
}

describe.each([
  { library: 'matrix-js-sdk', start: jsSdk },
  { library: 'matrix-bot-sdk', start: botSdk },
])('$library', ({ start }) => {
  test.each([
    { way: 'lazily', hearing: 'hears', isLazy: true, isCut: false },
    { way: 'eagerly', hearing: 'hears', isLazy: false, isCut: false },
    { way: 'lazily', hearing: 'cannot hear', isLazy: true, isCut: true },
    { way: 'eagerly', hearing: 'cannot hear', isLazy: false, isCut: true },
  ])(
    'registers, joins, syncs $way, speaks, asks for the members and leaves, at a process that $hearing of it',
    async ({ isLazy, isCut }) => {
      const here = await stage();
      const { simulator, ours, url } = here;
      const client = await start(url, isLazy);
      if (isCut) await cutListening(here);
      const roomId = await client.join(simulator.room.alias);
      const early = await client.say(roomId, 'while it is partial');
      if (isLazy) await expect.poll(() => client.hasHeard(roomId, early), SOON).toBe(true);
      let isTold = false;
      const told = client.joined(roomId).finally(() => (isTold = true));
      expect([client.hasHeard(roomId, early), isTold]).toEqual([isLazy, false]);

      expect(await ours.resync(simulator.room.roomId)).toBe('complete');
      expect(new Set(await told).size).toBe(MEMBERS + 1);
      await expect.poll(() => client.hasHeard(roomId, early), SOON).toBe(true);
      const late = await client.say(roomId, 'when it is whole');
      const [sender] = await simulator.speakers(simulator.room.roomId, 1);
      const content = { msgtype: 'm.text', body: 'and back' };
      const [answer] = await simulator.emit(simulator.room.roomId, [
        { sender: sender!, type: 'm.room.message', content },
      ]);
      for (const eventId of [late, answer!]) {
        await expect.poll(() => client.hasHeard(roomId, eventId), SOON).toBe(true);
      }
      await client.leave(roomId);
      await expect.poll(() => client.hasLeft(roomId), SOON).toBe(true);
    },
    60_000,
  );
});
