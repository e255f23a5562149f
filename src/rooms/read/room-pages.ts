/**
 * A room's events, read on from a point, backwards or forwards: what its reader may see of them (who-may-read.ts), in the order in
 * which clients are shown them. It is read until there are as many as are wanted, or long enough.
 */
import { type EventFilter, likePattern, passes, passesRoom } from '../../matrix/client/filter.ts';
import { type RoomPoint, formatRoomPoint } from '../../matrix/client/tokens.ts';
import { type UserId } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import {
  type Direction,
  type PagedPdu,
  type RelatedTo,
  type Stay,
  readTimelinePage,
} from '../../store/journal/timeline-page.ts';
import { type SeenPdu, readVisibleEvents } from '../../store/journal/visible-events.ts';
import { readHistoryState } from '../../store/tables/history.ts';
import { RoomError } from '../error.ts';
import { type FullStateWaits } from './full-state.ts';
import { type HistoryContext, readBack, readForth } from './history-pages.ts';
import { type RoomReading } from './room-reading.ts';

/** How often it is read on where what is read is not to be seen, or not wanted. */
const ROUNDS_MAX = 10;
/** Of what state events replaced. */
const REPLACED_BYTES_MAX = 4 * 1024 * 1024;

export interface PagesContext extends HistoryContext {
  readonly waits: FullStateWaits;
}

export interface PageWish {
  readonly from: RoomPoint;
  /** Where reading ends at the latest; `null`: nowhere. */
  readonly to: RoomPoint | null;
  readonly direction: Direction;
  readonly limit: number;
  readonly filter: EventFilter;
  /** Only what relates to one of these events. */
  readonly related?: RelatedTo | undefined;
}

export interface RoomPage {
  readonly events: readonly SeenPdu[];
  /** Where it goes on; `null`: nothing more is there to be seen. */
  readonly next: RoomPoint | null;
  /** Nothing more is held, though others may have it. */
  readonly isAllHeld: boolean;
}

/** `undefined`: a membership decides that is not known by the end of the wait. */
export async function readPage(
  context: PagesContext,
  reading: RoomReading,
  wish: PageWish,
): Promise<RoomPage | undefined> {
  const { roomId, waitMs, signal } = reading.query;
  const events: SeenPdu[] = [];
  let at: RoomPoint | null = within(reading, wish.from);
  if (!passesRoom(wish.filter, roomId)) return { events, next: null, isAllHeld: true };
  for (let round = 0; round < ROUNDS_MAX && at !== null && events.length < wish.limit; round += 1) {
    let { rows, seen, next } = await readOn(context, reading, wish, at, wish.limit - events.length);
    let visible = await visibleOf(context, reading, rows);
    if (visible.unknown.length > 0) {
      const known = await Promise.all(
        visible.unknown.map((eventId) => unlessNeverKnown(context.waits.event(roomId, eventId, { waitMs, signal }))),
      );
      if (known.includes(undefined)) return undefined;
      // Some may have turned out to be rejected, and others come in their places: it goes on after those.
      ({ rows, seen, next } = await readOn(context, reading, wish, at, wish.limit - events.length));
      visible = await visibleOf(context, reading, rows);
    }
    events.push(...[...visible.seen, ...seen].filter(({ json }) => isWanted(wish.filter, json)));
    // Where nobody has what lies there, it may be had another time.
    if (next !== null && isSame(at, next)) return { events, next, isAllHeld: true };
    at = next;
  }
  return { events, next: at, isAllHeld: at === null };
}

/** Of one whose stay ended before the state at it was known nobody will ever know who may see it: it is left out, and the others are shown. */
async function unlessNeverKnown<Found>(known: Promise<Found>): Promise<Found | null> {
  try {
    return await known;
  } catch (error) {
    if (error instanceof RoomError && error.kind === 'unknown-room') return null;
    throw error;
  }
}

function isSame(one: RoomPoint, other: RoomPoint): boolean {
  return formatRoomPoint(one) === formatRoomPoint(other);
}

interface Rows {
  /** Of the timeline. */
  readonly rows: readonly PagedPdu[];
  /** Of what lies before a stay, as far as it is to be seen. */
  readonly seen: readonly SeenPdu[];
  readonly next: RoomPoint | null;
}

const NOTHING: Rows = { rows: [], seen: [], next: null };

async function readOn(
  context: PagesContext,
  reading: RoomReading,
  { direction, filter, to, related }: PageWish,
  at: RoomPoint,
  limit: number,
): Promise<Rows> {
  const { store } = context;
  const { query, ignored, stays } = reading;
  const selection = {
    ...{ roomId: query.roomId, direction, limit, ignored, related },
    types: filter.types?.map(likePattern) ?? null,
    notTypes: filter.notTypes.map(likePattern),
    senders: filter.senders as readonly UserId[] | null,
    notSenders: filter.notSenders as readonly UserId[],
  };
  if (to !== null && !isAhead(stays, direction, at, to)) return NOTHING;
  const end = to?.kind === 'timeline' ? to.position : null;
  if (at.kind === 'history') {
    const stay = stays.find(({ epoch }) => epoch === at.epoch);
    if (stay === undefined) return NOTHING;
    const read = direction === 'backwards' ? readBack : readForth;
    const until = to?.kind === 'history' && to.epoch === stay.epoch ? to.count : null;
    return { rows: [], ...(await read(context, reading, stay, { from: at.count, until }, selection)) };
  }
  if (direction === 'backwards') {
    const stay = stays.findLast(({ begun }) => begun <= at.position);
    const first = Math.max(end ?? 0, (stay?.begun ?? 1) - 1);
    const { rows, scannedTo } = await readTimelinePage(store, selection, { after: first, upTo: at.position });
    if (rows.length === limit) return { rows, seen: [], next: before(rows) };
    if (scannedTo !== null) return { rows, seen: [], next: { kind: 'timeline', position: scannedTo - 1 } };
    const isOver = stay === undefined || (end !== null && end >= stay.begun - 1);
    return { rows, seen: [], next: isOver ? null : { kind: 'history', epoch: stay.epoch, count: 0 } };
  }
  const stay = stays.find(({ begun }) => begun > at.position + 1);
  const upTo = Math.min(end ?? Number.MAX_SAFE_INTEGER, lastFor(reading), (stay?.begun ?? Number.MAX_SAFE_INTEGER) - 1);
  const { rows, scannedTo } = await readTimelinePage(store, selection, { after: at.position, upTo });
  if (rows.length === limit) return { rows, seen: [], next: after(rows) };
  if (scannedTo !== null) return { rows, seen: [], next: { kind: 'timeline', position: scannedTo } };
  const isOver = stay === undefined || upTo < stay.begun - 1;
  return { rows, seen: [], next: isOver ? null : await lastBefore(context, reading, stay) };
}

/** Whether the end still lies ahead of a point: what lies before a stay comes after the timeline of the stay before. */
export function isAhead(stays: readonly Stay[], direction: Direction, at: RoomPoint, end: RoomPoint): boolean {
  const orderOf = (point: RoomPoint): readonly [number, number] => {
    if (point.kind === 'timeline') return [point.position, 0];
    const begun = stays.find(({ epoch }) => epoch === point.epoch)?.begun ?? 0;
    // The point just before a stay follows what was read of its history in either direction.
    return [begun - (direction === 'backwards' ? 0.5 : 1.5), -point.count];
  };
  const [[one, behind], [other, behindOther]] = [orderOf(at), orderOf(end)];
  const difference = one - other || behind - behindOther;
  return direction === 'backwards' ? difference > 0 : difference < 0;
}

/** The oldest point that is held of what lies before a stay. */
async function lastBefore({ store, clock }: PagesContext, { query }: RoomReading, stay: Stay): Promise<RoomPoint> {
  const { last } = await readHistoryState(store, { roomId: query.roomId, epoch: stay.epoch }, clock.now());
  return { kind: 'history', epoch: stay.epoch, count: last };
}

function before(rows: readonly PagedPdu[]): RoomPoint {
  return { kind: 'timeline', position: (rows.at(-1)?.shownAt ?? 1) - 1 };
}

function after(rows: readonly PagedPdu[]): RoomPoint {
  return { kind: 'timeline', position: rows.at(-1)?.shownAt ?? 0 };
}

/** Who has left a room sees nothing of it that came later. */
function lastFor({ reader }: RoomReading): number {
  return reader.may === 'now' ? Number.MAX_SAFE_INTEGER : reader.left.position;
}

function within(reading: RoomReading, from: RoomPoint): RoomPoint {
  return from.kind === 'history' ? from : { ...from, position: Math.min(from.position, lastFor(reading)) };
}

function visibleOf({ store }: PagesContext, { query, reader }: RoomReading, rows: readonly PagedPdu[]) {
  const joinedSince = (position: number): boolean =>
    reader.may === 'now' ? reader.isJoined : position <= reader.left.position;
  return readVisibleEvents(
    store,
    rows.map((pdu) => ({ pdu, joinedSince: joinedSince(pdu.shownAt), isPartial: pdu.partial })),
    query.userId,
    REPLACED_BYTES_MAX,
  );
}

/** What SQL does not filter by. */
function isWanted(filter: EventFilter, json: string): boolean {
  return filter.containsUrl === null || passes(filter, JSON.parse(json) as JsonObject);
}
