/**
 * A room of signed events on several servers, of which we become a member, with the receiver that takes what they push: a
 * real database and real verification, and a federation whose answers are written here. Each answer may be replaced.
 */
import { onTestFinished, vi } from 'vitest';
import { type Clock, systemClock } from '../../../src/clock.ts';
import { FederationError } from '../../../src/federation/error.ts';
import {
  type EventBatch,
  type FederationClient,
  type MissingEventsQuery,
  type SendJoinStream,
} from '../../../src/federation/contract.ts';
import { type EventId, type RoomId, type ServerName, type UserId, domainOf } from '../../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../../src/matrix/pdu.ts';
import { type RoomVersionRules, roomVersionRules } from '../../../src/matrix/room-versions.ts';
import { eventIdOf } from '../../../src/matrix/signing/hashes.ts';
import { signEvent } from '../../../src/matrix/signing/signatures.ts';
import { defaultResyncPolicy } from '../../../src/resync/policy.ts';
import { type SnapshotId } from '../../../src/resync/events.ts';
import { type RoomsContext } from '../../../src/rooms/context.ts';
import { type PduResults, type TransactionAnswer } from '../../../src/rooms/contract.ts';
import { joinRoom } from '../../../src/rooms/join/join.ts';
import { type Receiver, startReceiver } from '../../../src/rooms/receive/receive.ts';
import { type StoredEventState, readEventStates } from '../../../src/store/events/event-states.ts';
import { type Gap, readGaps } from '../../../src/store/events/gaps.ts';
import { append } from '../../../src/store/journal/journal.ts';
import { lockRoom, readRoom } from '../../../src/store/journal/rooms.ts';
import { createNotifier } from '../../../src/store/notify.ts';
import { type Store, withTransaction } from '../../../src/store/open-store.ts';
import { createSnapshot } from '../../../src/store/snapshots/snapshots.ts';
import { type VerificationPool } from '../../../src/verification/pool.ts';
import { silent } from '../../federation/tls-server.ts';
import { keyOf } from '../../matrix/sample-event.ts';
import { transactionWith } from '../../support/bodies.ts';
import { FOREVER, keyOfServer } from '../../verification/signed-room.ts';

export const US = 'here.test' as ServerName;
export const A = 'a.test' as ServerName;
export const B = 'b.test' as ServerName;
export const EVIL = 'evil.test' as ServerName;
export const ALICE = '@alice:a.test' as UserId;
export const BOB = '@bob:b.test' as UserId;
export const MALLORY = '@mallory:evil.test' as UserId;
export const ME = '@me:here.test' as UserId;

export const signal = new AbortController().signal;

/** What other servers are asked, and what they answer. */
export type Answers = {
  -readonly [Name in 'event' | 'eventAuth' | 'getMissingEvents' | 'sendJoin']: FederationClient[Name];
};

let rooms = 0;

/** Events of one room, as its servers hold them. */
export class SignedRoom {
  readonly rules: RoomVersionRules;
  readonly roomId: RoomId;
  readonly events = new Map<EventId, JsonObject>();
  readonly create: EventId;
  readonly aliceJoin: EventId;
  readonly power: EventId;
  readonly joinRules: EventId;
  readonly bobJoin: EventId;
  /** What is newest before our join. */
  last: EventId;
  #depth = 0;

  /** Of the newest event. */
  get depth(): number {
    return this.#depth;
  }

  /** `state`: further state events of Alice's, by type. */
  constructor({ version = '11', state = {} }: { version?: string; state?: Record<string, JsonObject> } = {}) {
    this.rules = roomVersionRules(version) as RoomVersionRules;
    this.roomId = `!room-${(rooms += 1)}:a.test` as RoomId;
    this.create = this.say(ALICE, 'm.room.create', { room_version: version }, { stateKey: '', prev: [], auth: [] });
    // In version 12 the create event says nothing of the room, whose id is its own, and its sender stands above all levels.
    const { roomIdIsCreateHash } = this.rules;
    if (roomIdIsCreateHash) this.roomId = `!${this.create.slice(1)}` as RoomId;
    this.last = this.create;
    this.aliceJoin = this.say(ALICE, 'm.room.member', { membership: 'join' }, { stateKey: ALICE, auth: [this.create] });
    this.power = this.say(
      ALICE,
      'm.room.power_levels',
      { users: roomIdIsCreateHash ? {} : { [ALICE]: 100 } },
      { stateKey: '', auth: [this.create, this.aliceJoin] },
    );
    const bases = [this.create, this.aliceJoin, this.power];
    this.joinRules = this.say(ALICE, 'm.room.join_rules', { join_rule: 'public' }, { stateKey: '', auth: bases });
    this.bobJoin = this.join(BOB);
    for (const [type, content] of Object.entries(state)) this.say(ALICE, type, content, { stateKey: '' });
  }

  /** Makes an event; it follows the newest one, and is the newest then, unless `prev` says what it follows. */
  say(
    sender: UserId,
    type: string,
    content: JsonObject,
    about: { stateKey?: string; prev?: readonly EventId[]; auth?: readonly EventId[]; depth?: number } = {},
  ): EventId {
    const { stateKey, prev = [this.last], auth = this.authOf(sender) } = about;
    this.#depth += 1;
    const server = domainOf(sender);
    const { roomIdIsCreateHash } = this.rules;
    const event = {
      ...{ type, sender, content, depth: about.depth ?? this.#depth },
      ...(roomIdIsCreateHash && type === 'm.room.create' ? {} : { room_id: this.roomId }),
      ...{ origin_server_ts: 1_600_000_000_000 + this.#depth, prev_events: [...prev] },
      auth_events: this.auth(auth),
      ...(stateKey === undefined ? {} : { state_key: stateKey }),
    };
    const signed = signEvent(event, this.rules, server, keyOf(server));
    const eventId = eventIdOf(signed, this.rules);
    this.events.set(eventId, signed);
    if (about.prev === undefined || prev.length === 0) this.last = eventId;
    return eventId;
  }

  /** As this version of the room cites auth events. */
  auth(eventIds: readonly EventId[]): EventId[] {
    return eventIds.filter((eventId) => eventId !== this.create || !this.rules.roomIdIsCreateHash);
  }

  /** The event through which we are in. */
  joined(eventId: EventId, event: JsonObject): void {
    this.events.set(eventId, event);
    this.last = eventId;
    this.#depth += 1;
  }

  message(sender: UserId, body: string, prev?: readonly EventId[]): EventId {
    return this.say(sender, 'm.room.message', { body }, prev === undefined ? {} : { prev });
  }

  join(user: UserId): EventId {
    return this.say(
      user,
      'm.room.member',
      { membership: 'join' },
      { stateKey: user, auth: [this.create, this.power, this.joinRules] },
    );
  }

  authOf(sender: UserId): EventId[] {
    const newest = (type: string, stateKey: string): EventId[] => {
      const found = [...this.events].findLast(([, event]) => event['type'] === type && event['state_key'] === stateKey);
      return found === undefined ? [] : [found[0]];
    };
    return [this.create, ...newest('m.room.power_levels', ''), ...newest('m.room.member', sender)];
  }

  raw(eventId: EventId): Uint8Array {
    return Buffer.from(JSON.stringify(this.events.get(eventId)));
  }

  prevOf(eventId: EventId): EventId[] {
    return (this.events.get(eventId)?.['prev_events'] ?? []) as unknown as EventId[];
  }

  state(): EventId[] {
    return [...this.events].flatMap(([eventId, event]) => (event['state_key'] === undefined ? [] : [eventId]));
  }
}

export interface PushedRoom {
  readonly room: SignedRoom;
  readonly context: RoomsContext;
  readonly receiver: Receiver;
  readonly answers: Answers;
  /** `what server` of every request, in order. */
  readonly asked: string[];
  readonly rung: RoomId[];
  /** Joins the room as it is. */
  readonly join: (omitMembers?: boolean) => Promise<EventId>;
  /** Pushes events in one transaction; gives what was answered of each. */
  readonly push: (origin: ServerName, eventIds: readonly EventId[], from?: SignedRoom) => Promise<PduResults>;
  readonly send: (origin: ServerName, txnId: string, raws: readonly Uint8Array[]) => Promise<TransactionAnswer>;
  /** Waits until the timeline holds all of the events; gives them in the order asked. */
  readonly taken: (...eventIds: readonly EventId[]) => Promise<StoredEventState[]>;
  /** Waits until nothing is left of the events but their verdicts, or a reason why there is none; gives the reasons. */
  readonly settled: (...eventIds: readonly EventId[]) => Promise<(string | null)[]>;
  /** Waits until the room has that many open gaps. */
  readonly gaps: (count: number) => Promise<Gap[]>;
  /** The state at a gap has come from a resident: `state`, and then the event. */
  readonly closeGap: (eventId: EventId, state: readonly EventId[]) => Promise<void>;
  /** Nobody has the state at a gap. */
  readonly giveUpGap: (eventId: EventId, reason: string) => Promise<void>;
  readonly extremities: () => Promise<readonly EventId[]>;
}

export interface PushedRoomOptions {
  readonly room?: SignedRoom;
  /** Whose keys cannot be had: nobody answers. */
  readonly silentKeys?: ReadonlySet<ServerName>;
  readonly clock?: Clock;
}

/** Everything ends with the test, but for store and threads, which may serve several. */
export function openPushedRoom(
  store: Store,
  verification: VerificationPool,
  { room = new SignedRoom(), silentKeys = new Set(), clock = systemClock }: PushedRoomOptions = {},
): PushedRoom {
  const asked: string[] = [];
  const rung: RoomId[] = [];
  const answers = answersOf(room);
  const counted =
    (name: keyof Answers) =>
    (...args: unknown[]) => {
      asked.push(`${name} ${String(args[0])}`);
      return (answers[name] as (...given: unknown[]) => unknown)(...args);
    };
  const federation = {
    makeJoin: (_server: ServerName, _roomId: RoomId, userId: UserId) =>
      Promise.resolve({
        roomVersion: room.rules.version,
        event: templateOf(room, userId),
      }),
    sendJoin: counted('sendJoin'),
    event: counted('event'),
    eventAuth: counted('eventAuth'),
    getMissingEvents: counted('getMissingEvents'),
  } as unknown as FederationClient;
  const notifier = createNotifier(store);
  const context: RoomsContext = {
    ...{ serverName: US, signingKey: keyOf(US), store, notifier, federation, verification },
    keyRing: {
      resolve: (requests) => {
        if (requests.some(({ serverName }) => silentKeys.has(serverName))) return new Promise(() => undefined);
        return Promise.resolve(requests.map(({ serverName }) => keyOfServer(serverName, FOREVER)));
      },
    },
    ...{ clock, random: () => 0.5, logger: silent, policy: defaultResyncPolicy },
    ring: (roomId) => Promise.resolve(void rung.push(roomId)),
  };
  const receiver = startReceiver(context);
  onTestFinished(async () => {
    await receiver.close();
    await notifier.close();
  });
  let transactions = 0;
  const { roomId } = room;
  const until = async <Result>(look: () => Promise<Result | undefined>): Promise<Result> => {
    let found: Result | undefined;
    const isFound = async (): Promise<boolean> => (found = await look()) !== undefined;
    await vi.waitUntil(isFound, { timeout: 15_000, interval: 20 }).catch(() => undefined);
    if (found !== undefined) return found;
    const rows = await store.query<{ reason: string; count: number }>(
      `SELECT reason, dropped_at, count(*) FROM staged_pdus WHERE room_id = $1 GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 5`,
      [roomId],
    );
    throw new Error(`it did not come about; staged: ${JSON.stringify(rows)}`);
  };
  const send = (origin: ServerName, txnId: string, raws: readonly Uint8Array[]): Promise<TransactionAnswer> =>
    receiver.receiveTransaction(origin, txnId, transactionWith(raws));
  return {
    ...{ room, context, receiver, answers, asked, rung, send },
    join: async (omitMembers = true) =>
      (await joinRoom(context, { room: roomId, userId: ME, via: [A], signal, omitMembers })).eventId,
    push: async (origin, eventIds, from = room) => {
      const answer = await send(
        origin,
        `txn-${(transactions += 1)}-${roomId}`,
        eventIds.map((eventId) => from.raw(eventId)),
      );
      if (answer.outcome !== 'answered') throw new Error('the sender is to come back');
      return answer.response['pdus'] as unknown as PduResults;
    },
    taken: (...eventIds) =>
      until(async () => {
        const states = await readEventStates(store, roomId, eventIds);
        const found = eventIds.flatMap((eventId) => states.get(eventId) ?? []);
        return found.length === eventIds.length ? found : undefined;
      }),
    settled: (...eventIds) =>
      until(async () => {
        const rows = await store.query<{ eventId: EventId; reason: string; droppedAt: number | null }>(
          `SELECT event_id AS "eventId", reason, dropped_at AS "droppedAt" FROM staged_pdus
            WHERE room_id = $1 AND event_id = ANY ($2::text[])`,
          [roomId, eventIds],
        );
        if (rows.some(({ droppedAt }) => droppedAt === null)) return undefined;
        return eventIds.map((eventId) => rows.find((row) => row.eventId === eventId)?.reason ?? null);
      }),
    gaps: (count) =>
      until(async () => {
        const open = (await readGaps(store, roomId)).filter(({ wakeAt }) => wakeAt !== null);
        return open.length === count ? open : undefined;
      }),
    closeGap: async (eventId, state) => {
      const snapshotId: SnapshotId = await createSnapshot(store, roomId, state);
      const counts = { state: state.length, authChain: 0, members: 1, fetched: 0, alreadyHeld: 0, dropped: 0 };
      await withTransaction(store, async (tx) => {
        const locked = (await lockRoom(tx, roomId))!;
        const fetched = { resident: A, snapshotId, counts, digest: 'd'.repeat(64), at: 1 };
        await append(tx, locked, [{ type: 'GapClosed', eventId, ...fetched }]);
      });
    },
    giveUpGap: (eventId, reason) =>
      withTransaction(store, async (tx) => {
        const locked = (await lockRoom(tx, roomId))!;
        await append(tx, locked, [{ type: 'GapGivenUp', eventId, reason, at: 1 }]);
      }),
    extremities: () => withTransaction(store, async (tx) => (await lockRoom(tx, roomId))!.extremities),
  };
}

/** Whether the room is partial here. */
export async function isPartial(store: Store, roomId: RoomId): Promise<boolean> {
  return (await readRoom(store, roomId))!.partial;
}

function templateOf(room: SignedRoom, user: UserId): JsonObject {
  return {
    ...{ type: 'm.room.member', room_id: room.roomId, sender: user, state_key: user, content: { membership: 'join' } },
    ...{
      prev_events: [room.last],
      auth_events: room.auth([room.create, room.power, room.joinRules]),
      depth: room.depth + 1,
    },
  };
}

/** As servers answer that hold the whole room. */
function answersOf(room: SignedRoom): Answers {
  const missing = (server: ServerName): Error => new FederationError(server, 'not-found', 'there is no such event');
  return {
    event: (server, eventId) =>
      room.events.has(eventId) ? Promise.resolve(room.raw(eventId)) : Promise.reject(missing(server)),
    eventAuth: (server, _roomId, eventId) => {
      if (!room.events.has(eventId)) return Promise.reject(missing(server));
      const chain = new Set<EventId>();
      const toLook = [eventId];
      for (let next = toLook.pop(); next !== undefined; next = toLook.pop()) {
        for (const cited of (room.events.get(next)?.['auth_events'] ?? []) as unknown as EventId[]) {
          if (room.events.has(cited) && !chain.has(cited)) {
            chain.add(cited);
            toLook.push(cited);
          }
        }
      }
      return Promise.resolve([...chain].map((each) => room.raw(each)));
    },
    getMissingEvents: (_server, _roomId, query) => Promise.resolve(missingEvents(room, query)),
    sendJoin: (_server, _roomId, eventId, event, { omitMembers }) => {
      const isMember = (id: EventId): boolean => room.events.get(id)?.['type'] === 'm.room.member';
      const state = room.state();
      const given = omitMembers ? state.filter((id) => !isMember(id)) : state;
      room.joined(eventId, event);
      return Promise.resolve(
        joinStream(
          [
            { array: 'state', events: given.map((id) => room.raw(id)) },
            { array: 'auth_chain', events: state.map((id) => room.raw(id)) },
          ],
          { membersOmitted: omitMembers, serversInRoom: [A, B], event: undefined },
        ),
      );
    },
  };
}

/** Breadth first back from the latest, as the reference implementation does, oldest first in the answer. */
export function missingEvents(room: SignedRoom, { earliestEvents, latestEvents, limit }: MissingEventsQuery) {
  const seen = new Set<EventId>([...earliestEvents, ...latestEvents]);
  const found: EventId[] = [];
  let front: readonly EventId[] = latestEvents;
  while (front.length > 0 && found.length < limit) {
    const next = [...new Set(front.flatMap((eventId) => room.prevOf(eventId)))].filter(
      (eventId) => !seen.has(eventId) && room.events.has(eventId),
    );
    next.forEach((eventId) => seen.add(eventId));
    found.push(...next);
    front = next;
  }
  return found
    .slice(0, limit)
    .reverse()
    .map((eventId) => room.raw(eventId));
}

function joinStream(
  batches: readonly EventBatch<'state' | 'auth_chain'>[],
  header: ReturnType<SendJoinStream['header']>,
): SendJoinStream {
  return {
    // eslint-disable-next-line @typescript-eslint/require-await -- it is read as what a socket gives
    async *[Symbol.asyncIterator]() {
      yield* batches;
    },
    summary: () => ({ bytes: 0, events: {}, dropped: 0, rest: new Map() }),
    header: () => header,
  };
}
