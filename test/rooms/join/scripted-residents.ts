/**
 * Residents that answer as a test says, in a room of a few members, over a real database: for what becomes of a join, between
 * their answers. A resident takes every join and leave honestly unless a script stands in the way.
 */
import { onTestFinished } from 'vitest';
import { type SendJoinHeader, type SendJoinStream, type TemplateAnswer } from '../../../src/federation/contract.ts';
import { FederationError, errorOfAnswer } from '../../../src/federation/error.ts';
import { type EventId, type RoomId, type ServerName, type UserId } from '../../../src/matrix/identifiers.ts';
import { type Json, type JsonObject } from '../../../src/matrix/pdu.ts';
import { eventIdOf } from '../../../src/matrix/signing/hashes.ts';
import { signEvent } from '../../../src/matrix/signing/signatures.ts';
import { defaultResyncPolicy } from '../../../src/resync/policy.ts';
import { type FailureClass } from '../../../src/resync/events.ts';
import { type RoomsContext } from '../../../src/rooms/context.ts';
import { createNotifier } from '../../../src/store/notify.ts';
import { createVerificationPool } from '../../../src/verification/pool.ts';
import { silent } from '../../federation/tls-server.ts';
import { keyOf, rulesOf } from '../../matrix/sample-event.ts';
import { createTestDatabase } from '../../support/postgres.ts';

export const US = 'us.test' as ServerName;
export const ME = '@me:us.test' as UserId;
export const [R1, R2, R3] = ['r1.test', 'r2.test', 'r3.test'] as ServerName[] as [ServerName, ServerName, ServerName];

type Request = 'make_join' | 'send_join' | 'make_leave' | 'send_leave';
/** Called instead of the honest answer; `honest` gives that. */
export type Script = (honest: () => Promise<unknown>) => unknown;

/** The room as its residents have it. */
export class ScriptedRoom {
  readonly roomId: RoomId;
  readonly version: string;
  /** Every event by id. */
  readonly events = new Map<EventId, JsonObject>();
  /** Of the room's state, by type and state key. */
  readonly state = new Map<string, EventId>();
  head: EventId[] = [];
  #time = 1_600_000_000_000;

  constructor(localpart = 'room', version = '11', content: JsonObject = {}) {
    this.roomId = `!${localpart}:r1.test` as RoomId;
    this.version = version;
    const owner = '@owner:r1.test';
    this.add(owner, 'm.room.create', '', { room_version: version, ...content });
    this.add(owner, 'm.room.member', owner, { membership: 'join' });
    this.add(owner, 'm.room.power_levels', '', { users: { [owner]: 100 } });
    this.add(owner, 'm.room.join_rules', '', { join_rule: 'public' });
  }

  /** Adds a state event on top of the room. */
  add(sender: string, type: string, stateKey: string, content: JsonObject): EventId {
    const server = sender.slice(sender.indexOf(':') + 1) as ServerName;
    const unsigned = { ...this.place(sender, type, stateKey, content), origin_server_ts: (this.#time += 1) };
    return this.take(signEvent(unsigned, rulesOf(this.version), server, keyOf(server)));
  }

  /** Takes a signed state event in. */
  take(event: JsonObject): EventId {
    const eventId = eventIdOf(event, rulesOf(this.version));
    this.events.set(eventId, event);
    this.state.set(keyed(event['type'], event['state_key']), eventId);
    this.head = [eventId];
    return eventId;
  }

  /** An event on top of the room, not yet timed, hashed or signed. */
  place(sender: string, type: string, stateKey: string, content: JsonObject): JsonObject {
    const cited = [
      ['m.room.create', ''],
      ['m.room.power_levels', ''],
      ...(content['membership'] === 'join' ? [['m.room.join_rules', '']] : []),
      ['m.room.member', sender],
      ...(type === 'm.room.member' && stateKey !== sender ? [['m.room.member', stateKey]] : []),
    ];
    const authEvents = cited.flatMap(([of, key]) => this.state.get(keyed(of, key)) ?? []);
    const base = { room_id: this.roomId, type, sender, state_key: stateKey, content };
    return { ...base, prev_events: this.head, auth_events: authEvents, depth: this.events.size + 1 };
  }

  template(userId: string, membership: string): TemplateAnswer {
    return { roomVersion: this.version, event: this.place(userId, 'm.room.member', userId, { membership }) };
  }

  membershipOf(userId: string): Json | undefined {
    const event = this.events.get(this.state.get(keyed('m.room.member', userId)) ?? ('' as EventId));
    return (event?.['content'] as JsonObject | undefined)?.['membership'];
  }

  raw(eventId: EventId): Uint8Array {
    return Buffer.from(JSON.stringify(this.events.get(eventId)));
  }

  /** What is answered to send_join: the state that stood before, with or without memberships. */
  answer(joinEventId: EventId, before: ReadonlyMap<string, EventId>, omitMembers: boolean): SendJoinStream {
    const given = [...before].filter(([key]) => !omitMembers || !key.includes('m.room.member')).map(([, id]) => id);
    const chain = [...this.events.keys()].filter((id) => id !== joinEventId && !given.includes(id));
    return streamOf(
      [
        { array: 'state', events: given.map((id) => this.raw(id)) },
        { array: 'auth_chain', events: chain.map((id) => this.raw(id)) },
      ],
      {
        membersOmitted: omitMembers,
        serversInRoom: [R1, R2, R3],
        event: undefined,
      },
    );
  }
}

function keyed(type: unknown, stateKey: unknown): string {
  return JSON.stringify([type, stateKey]);
}

export function streamOf(
  batches: readonly { readonly array: 'state' | 'auth_chain'; readonly events: readonly Uint8Array[] }[],
  header: SendJoinHeader,
): SendJoinStream {
  return {
    async *[Symbol.asyncIterator]() {
      for (const batch of batches) yield await Promise.resolve(batch);
    },
    summary: () => ({ bytes: 0, events: {}, dropped: 0, rest: new Map() }),
    header: () => header,
  };
}

/** A failure as the client would throw it. */
export function failing(kind: FailureClass, reason: string = kind, details = {}): Script {
  return () => Promise.reject(new FederationError(R1, kind, reason, details));
}

/** What a server answers that is no success, or a proxy before it: that one has no errcode. */
export function answering(status: number, errcode?: string, error?: string): Script {
  return () => Promise.reject(answerOf(status, errcode, error));
}

function answerOf(status: number, errcode?: string, error?: string): FederationError {
  const body = errcode === undefined ? undefined : { errcode, error };
  return errorOfAnswer(R1, 'the request', status, body, undefined, 0);
}

/** The resident does what it is asked, and the answer is lost. */
export const losing: Script = async (honest) => {
  await honest();
  throw new FederationError(R1, 'unreachable', 'the connection was cut');
};

export interface Stage {
  readonly context: RoomsContext;
  readonly room: ScriptedRoom;
  /** What was asked of whom, in order: `r1.test make_join`, `r2.test send_join $…`. */
  readonly asked: string[];
  /** Milliseconds since the Unix epoch; tests move it. */
  now: number;
  /** What the next requests of this kind at this server meet, one script each; then it is honest again. */
  script(server: ServerName, request: Request, ...scripts: Script[]): void;
  /** Rooms that the residents have beside the first. */
  host(room: ScriptedRoom): void;
}

/** Ends with the test. */
export async function startStage(room = new ScriptedRoom()): Promise<Stage> {
  const database = await createTestDatabase();
  const store = database.openStore({ serverName: US });
  const notifier = createNotifier(store);
  const verification = createVerificationPool({ threads: 1 });
  onTestFinished(async () => {
    await Promise.all([verification.close(), notifier.close()]);
    await database.drop();
  });
  const rooms = new Map([[room.roomId, room]]);
  const scripts = new Map<string, Script[]>();
  const asked: string[] = [];
  const ask = async (server: ServerName, request: Request, what: string, honest: () => unknown): Promise<never> => {
    asked.push(`${server} ${request}${what}`);
    const script = scripts.get(`${server} ${request}`)?.shift();
    return (await (script === undefined ? honest() : script(() => Promise.resolve().then(honest)))) as never;
  };
  const roomOf = (roomId: RoomId): ScriptedRoom => {
    const found = rooms.get(roomId);
    if (found === undefined) throw answerOf(404, 'M_NOT_FOUND');
    return found;
  };
  const template = (roomId: RoomId, userId: UserId, membership: string): TemplateAnswer => {
    const from = roomOf(roomId).membershipOf(userId);
    if (from === 'ban') throw answerOf(403, 'M_FORBIDDEN', `${userId} is banned from the room`);
    if (membership === 'leave' && from !== 'join') throw answerOf(403, 'M_FORBIDDEN');
    return roomOf(roomId).template(userId, membership);
  };
  const federation: Partial<RoomsContext['federation']> = {
    makeJoin: (server, roomId, userId) => ask(server, 'make_join', '', () => template(roomId, userId, 'join')),
    makeLeave: (server, roomId, userId) => ask(server, 'make_leave', '', () => template(roomId, userId, 'leave')),
    sendLeave: (server, roomId, _eventId, event) =>
      ask(server, 'send_leave', '', () => void roomOf(roomId).take(event)),
    sendJoin: (server, roomId, eventId, event, { omitMembers }) =>
      ask(server, 'send_join', ` ${eventId}`, () => {
        const hosted = roomOf(roomId);
        const before = new Map(hosted.state);
        if (!hosted.events.has(eventId)) hosted.take(event);
        else before.delete(keyed('m.room.member', event['state_key']));
        return hosted.answer(eventId, before, omitMembers);
      }),
  };
  const stage: Stage = {
    context: {
      serverName: US,
      signingKey: keyOf(US),
      store,
      notifier,
      federation: federation as RoomsContext['federation'],
      keyRing: {
        resolve: (requests) =>
          Promise.resolve(
            requests.map(({ serverName, keyId }) => {
              const { publicKey } = keyOf(serverName);
              return {
                serverName,
                keyId,
                publicKey,
                validUntilTs: Number.MAX_SAFE_INTEGER,
                renewableUntilTs: Number.MAX_SAFE_INTEGER,
              };
            }),
          ),
      },
      verification,
      clock: { now: () => stage.now },
      random: () => 0.5,
      logger: silent,
      policy: defaultResyncPolicy,
      ring: () => Promise.resolve(),
    },
    room,
    asked,
    now: 1_700_000_000_000,
    script: (server, request, ...more) => {
      const key = `${server} ${request}`;
      scripts.set(key, [...(scripts.get(key) ?? []), ...more]);
    },
    host: (other) => void rooms.set(other.roomId, other),
  };
  return stage;
}
