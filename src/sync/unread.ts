/**
 * How many events of a room a user has not read, of those that his push rules notify him of and nobody has taken back. He has
 * read what his clients said he has, and what was shown before he came or spoke last. Where threads are counted apart (unread-threads.ts), that
 * is so of each thread and of what is in none.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#receiving-notifications and #threading
 */
import { readPushRules } from '../accounts/account-data.ts';
import { atLeast, levelAt, powerLevelsOf } from '../matrix/auth/power-levels.ts';
import { type PushFacts, askPushRules } from '../matrix/client/ask-push-rules.ts';
import { ownString, ownValue } from '../matrix/content.ts';
import { type RoomId, type UserId } from '../matrix/identifiers.ts';
import { isJsonObject } from '../matrix/json/strict-json.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { roomVersionRules } from '../matrix/room-versions.ts';
import { stateMapKey } from '../matrix/state-map.ts';
import { readRedacted } from '../store/events/redactions.ts';
import {
  type NumberedBody,
  type SeenRoom,
  type ShownPdu,
  type TimelineSpan,
  readNumbered,
  readTimelines,
} from '../store/journal/seen-by-clients.ts';
import { type Transaction } from '../store/open-store.ts';
import { type StateRead, readStates } from '../store/snapshots/many-snapshots.ts';
import { type TrieKey } from '../store/snapshots/snapshot-trie.ts';
import { readStateKeys } from '../store/snapshots/state-keys.ts';
import { type RoomUnread } from './contract.ts';
import { type Counted, type CountedEvents } from './counted-events.ts';
import { TIMELINE_BYTES } from './read-rooms.ts';
import { type RoomSpan, type RoomsQuery } from './read-spans.ts';
import { stateEvent } from './show-events.ts';
import { type ReadInRoom, UnreadTally, readInRooms } from './unread-threads.ts';

/** No client shows more than that there are many. */
const UNREAD_MAX = 100;
/** Events that one look reads to count, shared by its rooms. */
const EVENTS_MAX = 10_000;
const NOTIFICATION_LEVEL_DEFAULT = 50;

const NO_FACTS: Omit<PushFacts, 'joined'> = { displayName: null, mayNotify: () => false };

const REDACTION = 'm.room.redaction';
const CREATE = { type: 'm.room.create', stateKey: '' } as const;
const POWER = { type: 'm.room.power_levels', stateKey: '' } as const;

/** The counts of the rooms that the user is joined to, at most `UNREAD_MAX` each. */
export async function readUnread(
  tx: Transaction,
  spans: readonly RoomSpan[],
  { userId, head, ignored, filter }: Pick<RoomsQuery, 'userId' | 'head' | 'ignored' | 'filter'>,
  counted: CountedEvents,
): Promise<ReadonlyMap<RoomId, RoomUnread>> {
  const joined = spans.filter(({ section }) => section === 'join');
  if (joined.length === 0) return new Map();
  const rules = await readPushRules(tx, userId);
  const user = counted.numberOf(userId, rules, ignored);
  const byThread = filter.timeline.countsThreads;
  const read = await readInRooms(tx, userId, joined, byThread);
  const rooms = joined.map(({ roomId, room }) => {
    const readIn = read(roomId);
    return { roomId, room, readIn, known: before(room, readIn, counted.get(user, roomId, byThread), head) };
  });
  const known = new Map<RoomId, Counted>(rooms.map((one) => [one.roomId, one.known]));
  const behind = rooms.flatMap(({ roomId, room, readIn, known: { upTo: after } }) =>
    room.newest > after ? [{ roomId, room, readIn, after, upTo: head }] : [],
  );
  const events = await readBehind(tx, behind, ignored);
  // Of what is taken back now some was counted before.
  const toRecount = behind.filter(
    ({ roomId, readIn, after }) => after > readIn.from && events.get(roomId)?.some(isRedaction) === true,
  );
  const recounted = toRecount.map((span) => ({ ...span, after: span.readIn.from }));
  for (const { roomId, room, readIn } of toRecount) known.set(roomId, before(room, readIn, undefined, head));
  for (const [roomId, pdus] of await readBehind(tx, recounted, ignored)) events.set(roomId, pdus);
  const redacted = await readRedacted(tx, [...events.values()].flat());
  const { factsOf, isActive } = await readAround(tx, behind, events, userId);
  const ask = askPushRules(rules);
  for (const { roomId, room, readIn } of behind) {
    const facts = { ...factsOf(roomId), joined: room.joined };
    const tally = new UnreadTally(readIn, known.get(roomId));
    for (const pdu of events.get(roomId) ?? []) {
      if (pdu.sender === userId) {
        if (isActive(pdu)) tally.speak(stateEvent(pdu, roomId));
      } else if (!redacted.has(pdu.eventId)) {
        const event = stateEvent(pdu, roomId);
        const notice = ask(event, facts);
        if (notice.isNotified) tally.count(pdu, event, notice.isHighlighted);
      }
    }
    const now = { ...countedOf(room, readIn), upTo: head, ...tally.counts(UNREAD_MAX) };
    known.set(roomId, now);
    counted.set(user, roomId, now);
  }
  return new Map(
    Array.from(known, ([roomId, { notified, highlighted, threads }]) => [roomId, { notified, highlighted, threads }]),
  );
}

/** The newest events of each span. */
async function readBehind(
  tx: Transaction,
  spans: readonly TimelineSpan[],
  ignored: readonly UserId[],
): Promise<Map<RoomId, readonly ShownPdu[]>> {
  const limit = Math.max(1, Math.min(UNREAD_MAX, Math.floor(EVENTS_MAX / Math.max(1, spans.length))));
  const { events } = await readTimelines(tx, spans, {
    ...{ limit, ignored, types: null, notTypes: [], senders: null, notSenders: [], bytesMax: TIMELINE_BYTES },
  });
  return new Map(events);
}

function isRedaction({ json }: ShownPdu): boolean {
  return json.includes(REDACTION) && (JSON.parse(json) as JsonObject)['type'] === REDACTION;
}

/** What is counted already; of a room of which something else was read meanwhile, nothing. */
function before(room: SeenRoom, readIn: ReadInRoom, counted: Counted | undefined, head: number): Counted {
  const nothing = countedOf(room, readIn);
  const isGood =
    counted !== undefined &&
    counted.from === nothing.from &&
    counted.partial === nothing.partial &&
    counted.threadsRead === nothing.threadsRead &&
    counted.upTo <= head;
  return isGood ? counted : nothing;
}

/** Of a room of which nothing is counted yet. */
function countedOf({ readUpTo, partial }: SeenRoom, { from, threads, said }: ReadInRoom): Counted {
  return {
    ...{ from: readUpTo, upTo: from, partial, notified: 0, highlighted: 0 },
    ...{ threads: threads === null ? null : new Map(), threadsRead: said },
  };
}

interface Around {
  readonly factsOf: (roomId: RoomId) => Omit<PushFacts, 'joined'>;
  /** Whether an event of the user's own says that he was there: the news of what he is called now does not. */
  readonly isActive: (pdu: ShownPdu) => boolean;
}

/** What rules ask of the rooms, as they are now. */
async function readAround(
  tx: Transaction,
  spans: readonly Pick<RoomSpan, 'roomId' | 'room'>[],
  events: ReadonlyMap<RoomId, readonly ShownPdu[]>,
  userId: UserId,
): Promise<Around> {
  const places = [CREATE, POWER, { type: 'm.room.member', stateKey: userId }];
  const found = events.size === 0 ? new Map<string, TrieKey>() : await readStateKeys(tx, places);
  const [create, power, own] = places.map(({ type, stateKey }) => found.get(stateMapKey(type, stateKey)));
  const keys = new Set([create, power, own].filter((key) => key !== undefined));
  const rooms = spans.filter(({ roomId }) => events.has(roomId));
  const changes = [...events.values()].flat().filter(({ key }) => key !== null && key === own);
  const states = await readStates(tx, [
    ...rooms.map(({ roomId, room: { state } }): StateRead => ({ roomId, state, selection: { keys } })),
    ...changes.map(({ roomId, stateBefore: state }): StateRead => ({ roomId, state, selection: { keys } })),
  ]);
  const bodies = await readNumbered(
    tx,
    states.flatMap((state) => [...state.values()]),
  );
  const bodyAt = (state: number, key: TrieKey | undefined): NumberedBody | undefined =>
    key === undefined ? undefined : bodies.get(states[state]?.get(key) ?? -1);
  const facts = new Map(
    rooms.map(({ roomId }, i) => [
      roomId,
      {
        displayName: ownString(contentOf(bodyAt(i, own)), 'displayname') ?? null,
        mayNotify: mayNotify(bodyAt(i, create), bodyAt(i, power)),
      },
    ]),
  );
  const renamed = new Set(
    changes.flatMap(({ nid }, i) => (bodyAt(rooms.length + i, own)?.membership === 'join' ? [nid] : [])),
  );
  return { factsOf: (roomId) => facts.get(roomId) ?? NO_FACTS, isActive: ({ nid }) => !renamed.has(nid) };
}

/** By the room's power levels: https://spec.matrix.org/v1.16/client-server-api/#mroompower_levels (`notifications`) */
function mayNotify(create: NumberedBody | undefined, power: NumberedBody | undefined): PushFacts['mayNotify'] {
  if (create === undefined) return NO_FACTS.mayNotify;
  const created = JSON.parse(create.json) as { readonly sender: UserId; readonly content: JsonObject };
  const rules = roomVersionRules(ownString(created.content, 'room_version') ?? '1');
  if (rules === undefined) return NO_FACTS.mayNotify;
  const content = power && contentOf(power);
  const levels = powerLevelsOf(created, () => content && { content }, rules);
  const notifications = content && ownValue(content, 'notifications');
  return (sender, key) => {
    const isStated = isJsonObject(notifications) && Object.hasOwn(notifications, key);
    const needed = isStated ? levelAt(notifications, key) : NOTIFICATION_LEVEL_DEFAULT;
    return atLeast(levels.ofUser(sender), needed);
  };
}

function contentOf(body: NumberedBody | undefined): JsonObject {
  const content = body && (JSON.parse(body.json) as JsonObject)['content'];
  return isJsonObject(content) ? content : {};
}
