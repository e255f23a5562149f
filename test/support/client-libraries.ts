/** Client libraries that we did not write, each in the words of a test: registered, and syncing until the test is over. */
import { createRequire } from 'node:module';
import loglevel from 'loglevel';
import { MsgType, createClient } from 'matrix-js-sdk';
import { onTestFinished } from 'vitest';

const PASSWORD = 'correct horse';

/** What a library does, and shows, in the words of a test. */
export interface LibraryClient {
  join(alias: string): Promise<string>;
  say(roomId: string, body: string): Promise<string>;
  /** Users who are joined. Waits while the room is partial. */
  joined(roomId: string): Promise<readonly string[]>;
  /** The same by the state of the room, which one who has left may still ask for. */
  membersOnceIn(roomId: string): Promise<readonly string[]>;
  joinedRooms(): Promise<readonly string[]>;
  leave(roomId: string): Promise<void>;
  /** Whether a sync has brought an event. */
  hasHeard(roomId: string, eventId: string): boolean;
  hasLeft(roomId: string): boolean;
}

export async function jsSdk(baseUrl: string, name: string, isLazy: boolean): Promise<LibraryClient> {
  const auth = { type: 'm.login.dummy' };
  const stranger = createClient({ baseUrl });
  const made = await stranger.registerRequest({ username: name, password: PASSWORD, auth });
  const [userId, accessToken, deviceId] = [made.user_id, made.access_token!, made.device_id!];
  const client = createClient({ baseUrl, userId, accessToken, deviceId });
  for (const logger of Object.values(loglevel.getLoggers())) logger.setLevel('silent', false);
  onTestFinished(() => client.stopClient());
  await client.startClient({ lazyLoadMembers: isLazy });
  return {
    join: async (alias) => (await client.joinRoom(alias)).roomId,
    say: async (roomId, body) => (await client.sendMessage(roomId, { msgtype: MsgType.Text, body })).event_id,
    joined: async (roomId) => Object.keys((await client.getJoinedRoomMembers(roomId)).joined),
    membersOnceIn: async (roomId) => {
      const { chunk } = await client.members(roomId, 'join');
      return (chunk ?? []).map((event) => event.state_key);
    },
    joinedRooms: async () => (await client.getJoinedRooms()).joined_rooms,
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
    getRoomMembersByMembership(roomId: string, membership: string): Promise<{ readonly membershipFor: string }[]>;
    getJoinedRooms(): Promise<string[]>;
    leaveRoom(roomId: string): Promise<void>;
  };
  readonly LogService: { setLogger(logger: object): void };
  readonly Appservice: new (options: object) => {
    on(event: 'room.event', take: (roomId: string, event: { readonly event_id: string }) => void): void;
    begin(): Promise<void>;
    stop(): void;
    getIntent(localpart: string): {
      ensureRegistered(): Promise<void>;
      joinRoom(alias: string): Promise<string>;
      sendText(roomId: string, text: string): Promise<string>;
      readonly underlyingClient: { getJoinedRoomMembers(roomId: string): Promise<string[]> };
    };
  };
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

function loadSilentBotSdk(): BotSdk {
  const sdk = loadBotSdk();
  const nothing = (): void => undefined;
  sdk.LogService.setLogger({ info: nothing, warn: nothing, error: nothing, debug: nothing, trace: nothing });
  return sdk;
}

/** A bridge's own server, in the words of a test. */
export interface LibraryBridge {
  join(localpart: string, alias: string): Promise<string>;
  say(localpart: string, roomId: string, body: string): Promise<string>;
  /** Waits while the room is partial. */
  joined(localpart: string, roomId: string): Promise<readonly string[]>;
  stop(): void;
}

/** Listens for what it is told. `onEvent`: of each event of each transaction that it takes. */
export async function botSdkBridge(
  { url, serverName, port, registration }: { url: string; serverName: string; port: number; registration: object },
  onEvent: (eventId: string) => void,
): Promise<LibraryBridge> {
  const { Appservice } = loadSilentBotSdk();
  const where = { port, bindAddress: '127.0.0.1', homeserverName: serverName, homeserverUrl: url };
  const bridge = new Appservice({ ...where, registration });
  bridge.on('room.event', (_, event) => onEvent(event.event_id));
  await bridge.begin();
  const as = async (localpart: string) => {
    const intent = bridge.getIntent(localpart);
    await intent.ensureRegistered();
    return intent;
  };
  return {
    join: async (localpart, alias) => (await as(localpart)).joinRoom(alias),
    say: async (localpart, roomId, body) => (await as(localpart)).sendText(roomId, body),
    joined: async (localpart, roomId) => (await as(localpart)).underlyingClient.getJoinedRoomMembers(roomId),
    stop: () => bridge.stop(),
  };
}

export async function botSdk(url: string, name: string, isLazy: boolean): Promise<LibraryClient> {
  const { MatrixAuth, MatrixClient } = loadSilentBotSdk();
  const { accessToken } = await new MatrixAuth(url).passwordRegister(name, PASSWORD);
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
    membersOnceIn: async (roomId) =>
      (await client.getRoomMembersByMembership(roomId, 'join')).map(({ membershipFor }) => membershipFor),
    joinedRooms: () => client.getJoinedRooms(),
    leave: (roomId) => client.leaveRoom(roomId),
    hasHeard: (_, eventId) => heard.has(eventId),
    hasLeft: (roomId) => left.has(roomId),
  };
}

export const LIBRARIES = [
  { library: 'matrix-js-sdk', start: jsSdk },
  { library: 'matrix-bot-sdk', start: botSdk },
] as const;
