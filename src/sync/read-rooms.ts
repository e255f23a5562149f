/**
 * Gathers what a response says of rooms: what was said in them, then what of their states is to be told.
 * Each step is a few statements for all rooms together.
 */
import { type RoomId, type UserId } from '../matrix/identifiers.ts';
import { type StateKey } from '../matrix/pdu.ts';
import { stateMapKey } from '../matrix/state-map.ts';
import {
  type CitedMember,
  type ShownPdu,
  type StateThen,
  type Timelines,
  readCitedMembers,
  readPlacesShown,
  readSpeakers,
  readStatesBefore,
  readTimelines,
} from '../store/journal/seen-by-clients.ts';
import { type Transaction } from '../store/open-store.ts';
import { type TrieDifference } from '../store/snapshots/compare-tries.ts';
import { type StatePair, type StateRead, diffStates, readStates } from '../store/snapshots/many-snapshots.ts';
import { type TrieKey } from '../store/snapshots/snapshot-trie.ts';
import { readStateKeys } from '../store/snapshots/state-keys.ts';
import { likePattern, passesRoom, passesType } from '../matrix/client/filter.ts';
import { type RoomSpan, type RoomsQuery } from './read-spans.ts';
import { type StateDelta, saidWrong, stateDelta } from './state-part.ts';

const MEMBER = 'm.room.member';
/** Of the timelines of one look, of all rooms together, and once more of what their events replaced. */
export const TIMELINE_BYTES = 16 * 1024 * 1024;
/** Places of one response that are put right; of more, which nobody has seen, the rest stays wrong until it changes. */
const OWED_MAX = 10_000;
/** Senders for whom memberships were made up for while a room was partial. */
const SPEAKERS_MAX = 20_000;

/** One more event than wanted of each room tells whether there are more. */
export async function readSpokenIn(
  tx: Transaction,
  spans: readonly RoomSpan[],
  { filter: { timeline }, ignored }: RoomsQuery,
): Promise<Timelines> {
  const spoken = spans.filter(
    ({ room, section, after, roomId }) =>
      (section === 'join' || section === 'leave') && room.newest > after && passesRoom(timeline, roomId),
  );
  return readTimelines(tx, spoken, {
    limit: timeline.limit + 1,
    types: timeline.types?.map(likePattern) ?? null,
    notTypes: timeline.notTypes.map(likePattern),
    senders: timeline.senders as readonly UserId[] | null,
    notSenders: timeline.notSenders as readonly UserId[],
    ignored,
    bytesMax: TIMELINE_BYTES,
  });
}

/** A room's timeline as it is given, and whose memberships have to be known besides. */
export interface SpokenSpan extends RoomSpan {
  readonly timeline: readonly ShownPdu[];
  /** Whose names a client shows besides those of senders. */
  readonly heroes: readonly UserId[];
}

/** What of a room's state is to be told. */
export interface ToldState extends Pick<StateDelta, 'events'> {
  /** Places that the client may know an event of, and that are empty now. */
  readonly removed: ReadonlySet<TrieKey>;
  /** Places that the next response has to put right. */
  readonly owed: ReadonlySet<TrieKey>;
}

const NOTHING_TOLD: ToldState = { events: new Map(), removed: new Set(), owed: new Set() };

/** The state parts of all rooms. `hasMember`: whether a lazy client has a membership already. */
export async function readStateParts(
  tx: Transaction,
  all: readonly SpokenSpan[],
  query: RoomsQuery,
  hasMember: (span: RoomSpan, key: TrieKey, nid: number) => boolean,
): Promise<ReadonlyMap<RoomId, ToldState>> {
  const { isStateAfter, filter, since } = query;
  const spans = all.filter(({ mayKnowState }) => mayKnowState);
  const isLazy = filter.state.lazyLoadMembers;
  const wantsMembers = passesType(filter.state, MEMBER);
  const beforeTimelines = isStateAfter ? new Map<RoomId, StateThen>() : await readStatesBeforeTimelines(tx, spans);
  const members = await relevantMembers(tx, spans, query);
  const owed = await readOwed(tx, spans, query);
  const drafts = spans.map((span) => {
    const { roomId, before, room, timeline } = span;
    const middle = timeline.length === 0 || isStateAfter ? null : (beforeTimelines.get(roomId)?.state ?? before);
    const said = lastOfPlaces(timeline);
    // Of a room that has become whole a lazy client is told of those that it may know, and not of a hundred thousand.
    const isCompleted = before !== null && room.wasPartial && !room.partial;
    const withMembers = wantsMembers && !(isLazy && (before === null || isCompleted));
    const relevant = members.get(roomId) ?? new Set<TrieKey>();
    return {
      span,
      middle,
      said,
      isCompleted,
      withMembers,
      relevant,
      owed: owed.get(roomId) ?? new Set<TrieKey>(),
    };
  });
  type Draft = (typeof drafts)[number];

  const pairs: StatePair[] = drafts.flatMap(({ span: { roomId, before, now }, middle, withMembers }) => [
    { roomId, before: middle ?? before, after: now, members: withMembers },
    ...(middle === null ? [] : [{ roomId, before, after: middle, members: withMembers }]),
  ]);
  const differences = await diffStates(tx, pairs);
  const known = await membersKnown(
    tx,
    drafts.filter(({ isCompleted }) => isLazy && isCompleted && wantsMembers),
  );
  const looks = drafts.flatMap(({ span: { roomId, now }, middle, said, relevant, owed: ofRoom }): StateRead[] => {
    const keys = new Set([...relevant, ...said.keys(), ...ofRoom, ...(known.get(roomId)?.keys() ?? [])]);
    return [
      { roomId, state: now, selection: { keys } },
      ...(middle === null ? [] : [{ roomId, state: middle, selection: { keys: relevant } }]),
    ];
  });
  const places = await readStates(tx, looks);
  const cited = isLazy ? await readCited(tx, spans) : new Map<RoomId, CitedMember[]>();

  let at = 0;
  return new Map([
    ...all.map(({ roomId }) => [roomId, NOTHING_TOLD] as const),
    ...drafts.map((draft) => {
      const hasMiddle = draft.middle !== null;
      const [toNow, toTimeline] = [differences[at], hasMiddle ? differences[at + 1] : undefined];
      const [current, earlier] = [places[at], hasMiddle ? places[at + 1] : undefined];
      at += hasMiddle ? 2 : 1;
      return [draft.span.roomId, told(draft, { toNow, toTimeline, current, earlier })] as const;
    }),
  ]);

  interface Read {
    readonly toNow: ReadonlyMap<TrieKey, TrieDifference> | undefined;
    readonly toTimeline: ReadonlyMap<TrieKey, TrieDifference> | undefined;
    readonly current: ReadonlyMap<TrieKey, number> | undefined;
    readonly earlier: ReadonlyMap<TrieKey, number> | undefined;
  }

  function told(
    draft: Draft,
    { toNow = new Map(), toTimeline, current = new Map(), earlier = new Map() }: Read,
  ): ToldState {
    const { span, said, relevant, owed: ofRoom } = draft;
    const { roomId, before } = span;
    const delta = stateDelta({ toTimeline, toNow, timeline: said }, isStateAfter);
    const events = new Map(delta.events);
    const removed = new Set(delta.removed.keys());
    const wasThere = (key: TrieKey): boolean => ((toTimeline?.get(key) ?? toNow.get(key))?.before ?? null) !== null;
    if (isLazy) {
      for (const key of events.keys()) {
        if (key % 2 === 0 || relevant.has(key)) continue;
        // Of whom a partial state says nothing, the client may know something by what he has said.
        if (before === null || (!wasThere(key) && !span.room.wasPartial)) events.delete(key);
      }
    }
    for (const [key, was] of known.get(roomId) ?? []) {
      if (said.has(key) && !isStateAfter) continue;
      const is = current.get(key);
      if (is === undefined) removed.add(key);
      else if (is !== was) events.set(key, is);
    }
    if (isLazy && wantsMembers) {
      for (const key of relevant) {
        if (events.has(key)) continue;
        const isSaid = said.has(key) && !isStateAfter;
        const nid =
          (isSaid ? earlier.get(key) : current.get(key)) ??
          (isSaid ? undefined : cited.get(roomId)?.findLast((member) => member.key === key)?.nid);
        if (nid === undefined) continue;
        // A partial state may lack who speaks: his place is not empty for that.
        removed.delete(key);
        if (before === null || !hasMember(span, key, nid)) events.set(key, nid);
      }
    }
    for (const key of ofRoom) {
      if (said.has(key) && !isStateAfter) continue;
      const is = current.get(key);
      if (is !== undefined) events.set(key, is);
      else if (!relevant.has(key) || !cited.get(roomId)?.some((member) => member.key === key)) removed.add(key);
    }
    const wrong = isStateAfter || span.section !== 'join' ? new Set<TrieKey>() : saidWrong(said, current);
    return { events, removed, owed: wrong };
  }

  /** Of rooms that the client has: places of which it may have been shown what is not the current event there. */
  async function readOwed(
    sql: Transaction,
    all: readonly SpokenSpan[],
    { since: token }: RoomsQuery,
  ): Promise<ReadonlyMap<RoomId, ReadonlySet<TrieKey>>> {
    const byRoom = new Map<RoomId, Set<TrieKey>>();
    if (token?.owedSince == null || since === null) return byRoom;
    const roomIds = all.flatMap(({ roomId, section, isNew }) => (section === 'join' && !isNew ? [roomId] : []));
    const rows = await readPlacesShown(sql, roomIds, { after: token.owedSince, upTo: token.position }, OWED_MAX);
    for (const { roomId, key } of rows) {
      byRoom.set(roomId, (byRoom.get(roomId) ?? new Set<TrieKey>()).add(key));
    }
    return byRoom;
  }

  /** Of rooms that have become whole: the memberships that a lazy client may know, by place; `null`: it was made up for. */
  async function membersKnown(
    sql: Transaction,
    completed: readonly Draft[],
  ): Promise<ReadonlyMap<RoomId, ReadonlyMap<TrieKey, number | null>>> {
    const states = await readStates(
      sql,
      completed.flatMap(({ span: { roomId, before } }) =>
        before === null ? [] : [{ roomId, state: before, selection: { members: true } as const }],
      ),
    );
    const byRoom = new Map<RoomId, Map<TrieKey, number | null>>();
    completed.forEach(({ span, relevant }, i) => {
      const held = new Map<TrieKey, number | null>([...relevant].map((key) => [key, null]));
      for (const [key, nid] of states[i] ?? []) if (key % 2 === 1) held.set(key, nid);
      byRoom.set(span.roomId, held);
    });
    return byRoom;
  }
}

/** Of each place, the last event of a timeline, by number. */
export function lastOfPlaces(timeline: readonly ShownPdu[]): ReadonlyMap<TrieKey, number> {
  return new Map(timeline.flatMap(({ key, nid }) => (key === null ? [] : [[key, nid] as const])));
}

async function readStatesBeforeTimelines(
  tx: Transaction,
  spans: readonly SpokenSpan[],
): Promise<ReadonlyMap<RoomId, StateThen>> {
  return readStatesBefore(
    tx,
    spans.flatMap(({ roomId, timeline: [first] }) =>
      first === undefined ? [] : [{ roomId, position: first.shownAt }],
    ),
  );
}

/** Whose memberships a lazy client needs in each room: of who speaks, of the user, of those that the room is called after. */
async function relevantMembers(
  tx: Transaction,
  spans: readonly SpokenSpan[],
  { userId, filter, since }: RoomsQuery,
): Promise<ReadonlyMap<RoomId, ReadonlySet<TrieKey>>> {
  if (!filter.state.lazyLoadMembers) return new Map();
  const completed = spans.filter(({ isNew, room }) => !isNew && room.wasPartial && !room.partial);
  const speakers = await readSpeakers(
    tx,
    completed.map(({ roomId }) => roomId),
    since?.position ?? 0,
    SPEAKERS_MAX,
  );
  const users = new Map<RoomId, Set<UserId>>(
    spans.map(({ roomId, before, timeline, heroes }) => [
      roomId,
      new Set([...(before === null ? [userId] : []), ...heroes, ...timeline.map(({ sender }) => sender)]),
    ]),
  );
  for (const { roomId, sender } of speakers) users.get(roomId)?.add(sender);
  const places = [...new Set([...users.values()].flatMap((ofRoom) => [...ofRoom]))].map((stateKey): StateKey => ({
    type: MEMBER,
    stateKey,
  }));
  const keys = await readStateKeys(tx, places);
  return new Map(
    Array.from(users, ([roomId, ofRoom]) => [
      roomId,
      new Set([...ofRoom].flatMap((user) => keys.get(stateMapKey(MEMBER, user)) ?? [])),
    ]),
  );
}

/** The memberships that events of partial rooms are, or cite: there the state may lack those of their senders. */
async function readCited(tx: Transaction, spans: readonly SpokenSpan[]): Promise<Map<RoomId, CitedMember[]>> {
  const partial = spans.filter(({ room }) => room.partial);
  const rows = await readCitedMembers(
    tx,
    partial.flatMap(({ timeline }) => timeline.flatMap(({ eventId, authEvents }) => [eventId, ...authEvents])),
  );
  const byRoom = new Map<RoomId, CitedMember[]>();
  for (const row of rows) byRoom.set(row.roomId, [...(byRoom.get(row.roomId) ?? []), row]);
  return byRoom;
}
