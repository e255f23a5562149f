/**
 * A room made of signed events, residents that answer about it as a test wants, and a Rejoinder over a real database with real
 * verification that talks to them by function calls. Time stands still until a test moves it.
 */
import { onTestFinished } from 'vitest';
import { FederationError } from '../../src/federation/error.ts';
import { type EventBatch, type FederationClient, type SendJoinHeader } from '../../src/federation/contract.ts';
import { type EventId, type RoomId, type ServerName, type UserId } from '../../src/matrix/identifiers.ts';
import { type Json, type JsonObject } from '../../src/matrix/pdu.ts';
import { type RoomVersionRules } from '../../src/matrix/room-versions.ts';
import { eventIdOf } from '../../src/matrix/signing/hashes.ts';
import { signEvent } from '../../src/matrix/signing/signatures.ts';
import { defaultResyncPolicy } from '../../src/resync/policy.ts';
import { type ResyncState } from '../../src/resync/state.ts';
import { type RoomsContext } from '../../src/rooms/context.ts';
import { joinRoom } from '../../src/rooms/join/join.ts';
import { readResync } from '../../src/store/journal/rooms.ts';
import { createNotifier } from '../../src/store/notify.ts';
import { type Store, type StoreOptions } from '../../src/store/open-store.ts';
import { type KeyRequest } from '../../src/verification/contract.ts';
import { createVerificationPool } from '../../src/verification/pool.ts';
import { silent } from '../federation/tls-server.ts';
import { keyOf, rulesOf } from '../matrix/sample-event.ts';
import { driveResync } from './drive-resync.ts';
import { expectFoldsRebuilt } from './folds.ts';
import { createTestDatabase } from './postgres.ts';

export const US = 'us.test' as ServerName;
export const A = 'a.test' as ServerName;
export const B = 'b.test' as ServerName;
export const C = 'c.test' as ServerName;

const CREATED_AT = 1_600_000_000_000;

interface EventParts {
  readonly prev: readonly EventId[];
  readonly auth: readonly EventId[];
  /** Whose key signs it; absent: the sender's server's. */
  readonly signedBy?: string;
  /** Put over the event before it is signed. */
  readonly changes?: JsonObject;
}

/** Events by id, of a room of one version. */
export class ScriptedRoom {
  readonly rules: RoomVersionRules;
  readonly roomId: RoomId;
  readonly events = new Map<EventId, JsonObject>();
  readonly version: string;
  private depth = 0;

  constructor(version = '11') {
    this.version = version;
    this.rules = rulesOf(version);
    this.roomId = `!scripted:${A}` as RoomId;
  }

  /** Makes an event; a state event where `stateKey` is given. */
  make(sender: string, type: string, stateKey: string | undefined, content: JsonObject, parts: EventParts): EventId {
    this.depth += 1;
    const reference = (id: EventId): Json => (this.rules.eventIdFormat === 'given' ? [id, { sha256: 'AAAA' }] : id);
    const server = sender.slice(sender.indexOf(':') + 1);
    const unsigned: JsonObject = {
      type,
      sender,
      content,
      room_id: this.roomId,
      depth: this.depth,
      origin_server_ts: CREATED_AT + this.depth,
      prev_events: parts.prev.map(reference),
      auth_events: parts.auth.map(reference),
      ...(stateKey === undefined ? {} : { state_key: stateKey }),
      ...(this.rules.eventIdFormat === 'given' ? { event_id: `$event${this.depth}:${server}` } : {}),
      ...parts.changes,
    };
    const event = signEvent(unsigned, this.rules, server as ServerName, keyOf(parts.signedBy ?? server));
    const eventId = eventIdOf(event, this.rules);
    this.events.set(eventId, event);
    return eventId;
  }

  raw(eventId: EventId): Uint8Array {
    return Buffer.from(JSON.stringify(this.events.get(eventId)));
  }
}

/** Alice of a.test made the room; Bob of b.test is in it; `message` is the newest event. */
export interface SmallRoom {
  readonly room: ScriptedRoom;
  readonly create: EventId;
  readonly aliceJoin: EventId;
  readonly levels: EventId;
  readonly rule: EventId;
  readonly bobJoin: EventId;
  readonly message: EventId;
  /** The whole state, before and after `message`. */
  readonly state: readonly EventId[];
  /** What a join cites. */
  readonly auth: readonly EventId[];
}

export const ALICE = `@alice:${A}` as UserId;
export const BOB = `@bob:${B}` as UserId;
export const ME = `@me:${US}` as UserId;

export function smallRoom(version = '11'): SmallRoom {
  const room = new ScriptedRoom(version);
  const create = room.make(
    ALICE,
    'm.room.create',
    '',
    { room_version: version, creator: ALICE },
    { prev: [], auth: [] },
  );
  const aliceJoin = room.make(
    ALICE,
    'm.room.member',
    ALICE,
    { membership: 'join' },
    { prev: [create], auth: [create] },
  );
  const levels = room.make(
    ALICE,
    'm.room.power_levels',
    '',
    { users: { [ALICE]: 100 } },
    { prev: [aliceJoin], auth: [create, aliceJoin] },
  );
  const rule = room.make(
    ALICE,
    'm.room.join_rules',
    '',
    { join_rule: 'public' },
    { prev: [levels], auth: [create, aliceJoin, levels] },
  );
  const auth = [create, levels, rule];
  const bobJoin = room.make(BOB, 'm.room.member', BOB, { membership: 'join' }, { prev: [rule], auth });
  const message = room.make(
    ALICE,
    'm.room.message',
    undefined,
    { body: 'hello', msgtype: 'm.text' },
    { prev: [bobJoin], auth: [create, levels, aliceJoin] },
  );
  return {
    room,
    create,
    aliceJoin,
    levels,
    rule,
    bobJoin,
    message,
    state: [create, aliceJoin, levels, rule, bobJoin],
    auth,
  };
}

export interface StateIdsInTest {
  readonly state: readonly EventId[];
  readonly chain: readonly EventId[];
}

/** How the residents answer; each may be replaced, for one server or all. */
export interface Script {
  /** Of make_join. */
  prev: readonly EventId[];
  auth: readonly EventId[];
  /** Of send_join: the state without memberships, and its auth chain. */
  returned: readonly EventId[];
  returnedChain: readonly EventId[];
  serversInRoom: readonly ServerName[];
  /** Absent: memberships are left out of it. */
  isWhole?: boolean;
  /** `onReceived` says that an answer has begun. */
  stateIds: (
    server: ServerName,
    at: EventId,
    signal?: AbortSignal,
    onReceived?: (bytes: number) => void,
  ) => StateIdsInTest | Promise<StateIdsInTest>;
  /** What `/state` holds, of what `/state_ids` names. */
  state: (server: ServerName, at: EventId) => readonly Uint8Array[];
  event: (server: ServerName, eventId: EventId) => Uint8Array;
  /** Absent: every transaction is taken. */
  take?: (server: ServerName, txnId: string, content: JsonObject) => void;
}

export const refuse = (server: ServerName, kind: FederationError['kind'], details = {}): never => {
  throw new FederationError(server, kind, `${kind}, says the script`, { status: 500, ...details });
};

/** Residents that are honest about a small room. */
export function honestScript({ room, message, state, auth, aliceJoin, bobJoin }: SmallRoom): Script {
  const chain = [...auth, aliceJoin];
  return {
    prev: [message],
    auth,
    returned: auth,
    returnedChain: [aliceJoin, bobJoin],
    serversInRoom: [A, B],
    stateIds: (server, at) => (at === message ? { state, chain } : refuse(server, 'not-found')),
    state: () => [...new Set([...state, ...chain])].map((eventId) => room.raw(eventId)),
    event: (server, eventId) => (room.events.has(eventId) ? room.raw(eventId) : refuse(server, 'not-found')),
  };
}

export interface ScriptedRejoinder {
  readonly context: RoomsContext;
  readonly store: Store;
  /** Every request, as `server endpoint subject`. */
  readonly asked: string[];
  readonly rung: RoomId[];
  /** The test writes rows that no journal entry tells of: after it the folds are not compared with the journal. */
  readonly changedByHand: () => void;
  /** Moves the clock. */
  readonly wait: (ms: number) => void;
  readonly join: (userId?: UserId, via?: readonly ServerName[]) => Promise<EventId>;
  /** What the workflow does, until it would sleep or close; gives the state then. */
  readonly resync: (untilRound?: number) => Promise<ResyncState>;
  readonly state: () => Promise<ResyncState>;
}

export interface ScriptedOptions {
  /** Servers whose keys cannot be had. */
  readonly keyless?: ReadonlySet<string>;
  readonly onAppended?: StoreOptions['onAppended'];
}

export async function startScripted(
  room: ScriptedRoom,
  script: Script,
  { keyless = new Set(), onAppended }: ScriptedOptions = {},
): Promise<ScriptedRejoinder> {
  const database = await createTestDatabase();
  const store = database.openStore({ serverName: US, ...(onAppended === undefined ? {} : { onAppended }) });
  const notifier = createNotifier(store);
  const verification = createVerificationPool({ threads: 1 });
  let isChangedByHand = false;
  onTestFinished(async () => {
    await Promise.all([verification.close(), notifier.close()]);
    if (!isChangedByHand) await expectFoldsRebuilt(store);
    await database.drop();
  });
  const asked: string[] = [];
  const rung: RoomId[] = [];
  let now = 1_700_000_000_000;
  const resolve = (requests: readonly KeyRequest[]) =>
    Promise.resolve(
      requests
        .filter(({ serverName }) => !keyless.has(serverName))
        .map(({ serverName }) => {
          const { keyId, publicKey } = keyOf(serverName);
          return {
            serverName,
            keyId,
            publicKey,
            validUntilTs: Number.MAX_SAFE_INTEGER,
            renewableUntilTs: Number.MAX_SAFE_INTEGER,
          };
        }),
    );
  const context: RoomsContext = {
    serverName: US,
    signingKey: keyOf(US),
    store,
    notifier,
    federation: scriptedClient(room, script, asked),
    keyRing: { resolve },
    verification,
    clock: { now: () => now },
    random: () => 0,
    logger: silent,
    policy: defaultResyncPolicy,
    ring: (roomId) => Promise.resolve(void rung.push(roomId)),
  };
  const { roomId } = room;
  const state = async (): Promise<ResyncState> => (await readResync(store, roomId))!.state;
  return {
    context,
    store,
    asked,
    rung,
    state,
    changedByHand: () => {
      isChangedByHand = true;
    },
    wait: (ms) => {
      now += ms;
    },
    join: async (userId = ME, via = [A]) => {
      const { eventId } = await joinRoom(context, { room: roomId, userId, via, signal: new AbortController().signal });
      return eventId;
    },
    resync: async () => (await driveResync(context, roomId))!,
  };
}

function streamOf<Name extends string>(batches: readonly EventBatch<Name>[], header: Partial<SendJoinHeader> = {}) {
  return {
    async *[Symbol.asyncIterator]() {
      for (const batch of batches) yield await Promise.resolve(batch);
    },
    summary: () => ({ bytes: 0, events: {}, dropped: 0, rest: new Map() }),
    header: () => ({ membersOmitted: undefined, serversInRoom: undefined, event: undefined, ...header }),
  };
}

function scriptedClient(room: ScriptedRoom, script: Script, asked: string[]): FederationClient {
  const raws = (ids: readonly EventId[]): Uint8Array[] => ids.map((eventId) => room.raw(eventId));
  const reference = (id: EventId): Json => (room.rules.eventIdFormat === 'given' ? [id, { sha256: 'AAAA' }] : id);
  const answer = async <T>(what: string, make: () => T | Promise<T>): Promise<T> => {
    asked.push(what);
    return Promise.resolve().then(make);
  };
  const client: Partial<FederationClient> = {
    makeJoin: (server, _room, userId) =>
      answer(`${server} make_join ${userId}`, () => ({
        roomVersion: room.version,
        event: {
          type: 'm.room.member',
          room_id: room.roomId,
          sender: userId,
          state_key: userId,
          content: { membership: 'join' },
          depth: 50,
          prev_events: script.prev.map(reference),
          auth_events: script.auth.map(reference),
        },
      })),
    sendJoin: (server, _room, eventId, event) =>
      answer(`${server} send_join`, () => {
        room.events.set(eventId, event);
        return streamOf(
          [
            { array: 'state' as const, events: raws(script.returned) },
            { array: 'auth_chain' as const, events: raws(script.returnedChain) },
          ],
          script.isWhole === true ? {} : { membersOmitted: true, serversInRoom: [...script.serversInRoom] },
        );
      }),
    stateIds: (server, _room, at, _rules, { signal, onReceived }) =>
      answer(`${server} state_ids ${at}`, async () => {
        const { state, chain } = await script.stateIds(server, at, signal, onReceived);
        return { stateIds: state, authChainIds: chain };
      }),
    state: (server, _room, at) =>
      answer(`${server} state ${at}`, () => streamOf([{ array: 'pdus' as const, events: script.state(server, at) }])),
    event: (server, eventId) => answer(`${server} event ${eventId}`, () => script.event(server, eventId)),
    sendTransaction: (server, txnId, content) => answer(`${server} send`, () => script.take?.(server, txnId, content)),
  };
  return client as FederationClient;
}
