/**
 * Which rooms a response is about, and from where to where of each.
 *
 * A response ends before a stay that began in its span, in a room that the client has as joined: all of us were out, and what was said
 * meanwhile nobody here has. So the client is told of the leave, and with the next response, which comes at once, of the room as new.
 */
import { type EventId, type RoomId, type UserId } from '../matrix/identifiers.ts';
import { type SyncToken } from '../matrix/client/tokens.ts';
import { stateMapKey } from '../matrix/state-map.ts';
import { type SnapshotId } from '../resync/events.ts';
import {
  type SeenRoom,
  readNumbered,
  readShownSince,
  readStatesBefore,
  readStaysAround,
} from '../store/journal/seen-by-clients.ts';
import { type Transaction } from '../store/open-store.ts';
import { type StateRead, readStates } from '../store/snapshots/many-snapshots.ts';
import { readStateKeys } from '../store/snapshots/state-keys.ts';
import { type RoomBetween } from './device-lists.ts';
import { type SyncFilter, passesRoom } from '../matrix/client/filter.ts';
import { type Asked, type Place, placeOf } from './rooms-in-span.ts';

const MEMBER = 'm.room.member';

/** What the rooms are read for. */
export interface RoomsQuery {
  readonly userId: UserId;
  /** `null`: the client knows nothing. */
  readonly since: SyncToken | null;
  readonly head: number;
  readonly filter: SyncFilter;
  readonly isFullState: boolean;
  readonly isStateAfter: boolean;
  readonly ignored: readonly UserId[];
}

/** A room in the response, and from where to where. */
export interface RoomSpan extends Place {
  readonly room: SeenRoom;
  readonly roomId: RoomId;
  readonly membershipThen: string | null;
  /** Between these its timeline is given. */
  readonly after: number;
  readonly upTo: number;
  /** What the client knows; `null`: nothing. */
  readonly before: SnapshotId | null;
  /** The newest that the client is told. */
  readonly now: SnapshotId;
  /** The user is in the room, or was until the end of the span: he may know its state. */
  readonly mayKnowState: boolean;
}

/** What a response is about, and up to which position. */
export interface Spans {
  readonly spans: readonly RoomSpan[];
  /** All rooms that the user was or is in, with what he knew and is to know of them, whether they are shown or not. */
  readonly between: readonly RoomBetween[];
  readonly upTo: number;
}

/** The user's rooms that the response may be about; it ends at `query.head`, or before a stay that the client has to be told of apart. */
export async function readSpans(tx: Transaction, rooms: readonly SeenRoom[], query: RoomsQuery): Promise<Spans> {
  const { since, head, filter, userId } = query;
  const then = await readMembersThen(tx, userId, rooms);
  const asked = {
    isInitial: since === null,
    isEager: !filter.state.lazyLoadMembers,
    includeLeave: filter.includeLeave,
  };
  const upTo = await endOf(
    tx,
    rooms.filter(({ roomId }) => passesRoom(filter.rooms, roomId)),
    then,
    asked,
    query,
  );
  const seen = upTo === head ? rooms : await roomsAt(tx, rooms, userId, upTo);
  const wanted = seen.filter(({ roomId }) => passesRoom(filter.rooms, roomId));
  const spans = wanted.flatMap((room): RoomSpan[] =>
    spanOf(room, then.get(room.roomId) ?? NOBODY, asked, { ...query, head: upTo }),
  );
  const between = betweenOf(seen, then);
  return { spans: await withinStays(tx, await withLeftStates(tx, spans, userId)), between, upTo };
}

function spanOf(
  room: SeenRoom,
  { membership, eventId: memberEventIdThen }: Member,
  asked: Asked,
  { since, head, isFullState }: RoomsQuery,
): RoomSpan[] {
  const membershipThen = room.wasLeftSilently && membership === 'join' ? 'leave' : membership;
  const place = placeOf({ ...room, membershipThen, memberEventIdThen }, asked);
  if (place === undefined) return [];
  return [
    {
      ...place,
      room,
      roomId: room.roomId,
      membershipThen,
      after: place.isNew && place.section === 'join' ? 0 : (since?.position ?? 0),
      // By whatever he is out that is in no timeline: nothing more was said to him.
      upTo: place.section === 'leave' ? (room.memberShownAt ?? since?.position ?? 0) : head,
      before: place.isNew || isFullState ? null : room.stateThen,
      now: room.state,
      mayKnowState: place.section === 'join' || !place.isNew,
    },
  ];
}

/** What the user was in each room at the token. */
export function readMembersThen(
  tx: Transaction,
  userId: UserId,
  rooms: readonly SeenRoom[],
): Promise<ReadonlyMap<RoomId, Member>> {
  return membersAt(
    tx,
    userId,
    rooms.map((room) => ({ ...room, at: room.stateThen })),
  );
}

/** Of rooms what a user knew of them, and is to know, as who is in them. */
export function betweenOf(rooms: readonly SeenRoom[], then: ReadonlyMap<RoomId, Member>): RoomBetween[] {
  return rooms.map(({ roomId, state, stateThen, membership, wasLeftSilently }) => {
    const wasThere = then.get(roomId)?.membership === 'join' && !wasLeftSilently;
    return { roomId, before: wasThere ? stateThen : null, after: membership === 'join' ? state : null };
  });
}

interface Member {
  readonly membership: string | null;
  readonly eventId: EventId | null;
}

const NOBODY: Member = { membership: null, eventId: null };

/** What the user was in each room in an earlier state, `at`; only where that is another one it has to be looked up. */
async function membersAt(
  tx: Transaction,
  userId: UserId,
  rooms: readonly (SeenRoom & { readonly at: SnapshotId | null })[],
): Promise<ReadonlyMap<RoomId, Member>> {
  const members = new Map<RoomId, Member>();
  const reads: StateRead[] = [];
  const key = (await readStateKeys(tx, [{ type: MEMBER, stateKey: userId }])).get(stateMapKey(MEMBER, userId));
  for (const { roomId, state, at, membershipInState: membership, memberEventId } of rooms) {
    if (at === state) {
      members.set(roomId, { membership, eventId: memberEventId });
    } else if (at !== null && key !== undefined) {
      reads.push({ roomId, state: at, selection: { keys: new Set([key]) } });
    }
  }
  const places = await readStates(tx, reads);
  const events = await readNumbered(
    tx,
    places.flatMap((place) => [...place.values()]),
  );
  reads.forEach(({ roomId }, i) => {
    const [nid] = [...(places[i]?.values() ?? [])];
    const event = nid === undefined ? undefined : events.get(nid);
    if (event !== undefined) members.set(roomId, event);
  });
  return members;
}

/** Where the response ends: before the first stay that began in a room that the client has, or at the newest position. */
async function endOf(
  tx: Transaction,
  rooms: readonly SeenRoom[],
  then: ReadonlyMap<RoomId, Member>,
  { isEager }: Asked,
  { since, head }: RoomsQuery,
): Promise<number> {
  if (since === null) return head;
  const { position } = since;
  const changed = rooms.flatMap(({ roomId, state, stateThen, wasPartial }) => {
    const isKnown = then.get(roomId)?.membership === 'join' && !(isEager && wasPartial);
    return isKnown && state !== stateThen ? [{ roomId, position }] : [];
  });
  const stays = await readStaysAround(tx, changed);
  const ends = [...stays.values()].flatMap(({ next }) => (next === null ? [] : [next - 1]));
  return Math.min(head, ...ends.filter((end) => end > position));
}

/** The rooms that there were at an earlier position, as they were then. */
async function roomsAt(
  tx: Transaction,
  rooms: readonly SeenRoom[],
  userId: UserId,
  position: number,
): Promise<SeenRoom[]> {
  const states = await readStatesBefore(
    tx,
    rooms.map(({ roomId }) => ({ roomId, position: position + 1 })),
  );
  const were = rooms.flatMap((room) => {
    const was = states.get(room.roomId);
    return was === undefined ? [] : [{ ...room, at: was.state, partial: was.partial }];
  });
  const members = await membersAt(tx, userId, were);
  const shown = await readShownSince(
    tx,
    [...members.values()].flatMap(({ eventId }) => eventId ?? []),
  );
  return were.map(({ at, ...room }) => {
    const { membership, eventId } = members.get(room.roomId) ?? NOBODY;
    const memberShownAt = eventId === null ? null : (shown.get(eventId) ?? null);
    return { ...room, state: at, membership, membershipInState: membership, memberEventId: eventId, memberShownAt };
  });
}

/**
 * Who has left a room is told its state as it was then, whatever others do in it; and who was only invited, or kept out, nothing of it
 * (https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv3roomsroomidstate).
 */
async function withLeftStates(tx: Transaction, spans: readonly RoomSpan[], userId: UserId): Promise<RoomSpan[]> {
  const left = spans.filter(({ section }) => section === 'leave');
  const states = await readStatesBefore(
    tx,
    left.map(({ roomId, upTo }) => ({ roomId, position: upTo + 1 })),
  );
  const unknown = left.filter(({ mayKnowState }) => !mayKnowState);
  const before = await readStatesBefore(
    tx,
    unknown.map(({ roomId, upTo }) => ({ roomId, position: upTo })),
  );
  const members = await membersAt(
    tx,
    userId,
    unknown.map(({ roomId, room }) => ({ ...room, at: before.get(roomId)?.state ?? null })),
  );
  return spans.map((span) => {
    if (span.section !== 'leave') return span;
    const wasJoined = members.get(span.roomId)?.membership === 'join';
    return {
      ...span,
      now: states.get(span.roomId)?.state ?? span.now,
      mayKnowState: span.mayKnowState || wasJoined,
    };
  });
}

/** A timeline begins with the stay: what was said between two stays is not known, and would be missing in its midst. */
async function withinStays(tx: Transaction, spans: readonly RoomSpan[]): Promise<RoomSpan[]> {
  const begun = await readStaysAround(
    tx,
    spans.flatMap(({ roomId, isNew, upTo: position }) => (isNew ? [{ roomId, position }] : [])),
  );
  return spans.map((span) => ({ ...span, after: Math.max(span.after, (begun.get(span.roomId)?.begun ?? 0) - 1) }));
}
