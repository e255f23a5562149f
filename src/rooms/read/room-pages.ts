/**
 * A room's events, read on from a point, backwards or forwards: what its reader may see of them (who-may-read.ts), in the order in
 * which clients are shown them. It is read until there are as many as are wanted, or long enough.
 */
import { type EventFilter, likePattern, passes, passesRoom } from '../../matrix/client/filter.ts';
import { type RoomPoint } from '../../matrix/client/tokens.ts';
import { type UserId } from '../../matrix/identifiers.ts';
import { isJsonObject } from '../../matrix/json/strict-json.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import {
  type Direction,
  type PagedPdu,
  type Stay,
  readStays,
  readTimelinePage,
} from '../../store/journal/timeline-page.ts';
import { type SeenPdu, readVisibleEvents } from '../../store/journal/visible-events.ts';
import { type Store } from '../../store/open-store.ts';
import { readAccountData } from '../../store/tables/account-data.ts';
import { type ClientQuery } from '../client-contract.ts';
import { type FullStateWaits } from './full-state.ts';
import { type Reader } from './who-may-read.ts';

/** How often it is read on where what is read is not to be seen, or not wanted. */
const ROUNDS_MAX = 10;
/** Of what state events replaced. */
const REPLACED_BYTES_MAX = 4 * 1024 * 1024;

export interface PagesContext {
  readonly store: Store;
  readonly waits: FullStateWaits;
}

/** Somebody who reads a room. */
export interface RoomReading {
  readonly query: ClientQuery;
  readonly reader: Reader;
  readonly stays: readonly Stay[];
  /** Their messages he is not shown. */
  readonly ignored: readonly UserId[];
}

export interface PageWish {
  readonly from: RoomPoint;
  /** Where reading ends at the latest; `null`: nowhere. */
  readonly to: RoomPoint | null;
  readonly direction: Direction;
  readonly limit: number;
  readonly filter: EventFilter;
}

export interface RoomPage {
  readonly events: readonly SeenPdu[];
  /** Where it goes on; `null`: nothing more is there to be seen. */
  readonly next: RoomPoint | null;
}

/** What is known of who reads, once for all pages of a request. */
export async function beginReading({ store }: PagesContext, query: ClientQuery, reader: Reader): Promise<RoomReading> {
  const { roomId, userId } = query;
  const ignored = (await readAccountData(store, userId, null, 'm.ignored_user_list'))?.['ignored_users'];
  return {
    query,
    reader,
    stays: await readStays(store, roomId),
    ignored: isJsonObject(ignored) ? (Object.keys(ignored).filter((user) => !user.includes('\0')) as UserId[]) : [],
  };
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
  if (!passesRoom(wish.filter, roomId)) return { events, next: null };
  for (let round = 0; round < ROUNDS_MAX && at !== null && events.length < wish.limit; round += 1) {
    const { rows, next } = await readOn(context, reading, wish, at, wish.limit - events.length);
    let visible = await visibleOf(context, reading, rows);
    if (visible.unknown.length > 0) {
      const known = await Promise.all(
        visible.unknown.map((eventId) => context.waits.event(roomId, eventId, { waitMs, signal })),
      );
      if (known.includes(undefined)) return undefined;
      // Some may have turned out to be rejected.
      const again = await readOn(context, reading, wish, at, wish.limit - events.length);
      visible = await visibleOf(context, reading, again.rows);
    }
    events.push(...visible.seen.filter(({ json }) => isWanted(wish.filter, json)));
    at = next;
  }
  return { events, next: at };
}

interface Rows {
  readonly rows: readonly PagedPdu[];
  readonly next: RoomPoint | null;
}

async function readOn(
  { store }: PagesContext,
  reading: RoomReading,
  { direction, filter, to }: PageWish,
  at: RoomPoint,
  limit: number,
): Promise<Rows> {
  const { query, ignored } = reading;
  const selection = {
    ...{ roomId: query.roomId, direction, limit, ignored },
    types: filter.types?.map(likePattern) ?? null,
    notTypes: filter.notTypes.map(likePattern),
    senders: filter.senders as readonly UserId[] | null,
    notSenders: filter.notSenders as readonly UserId[],
  };
  const end = to?.kind === 'timeline' ? to.position : null;
  if (at.kind === 'history') return { rows: [], next: null };
  if (direction === 'backwards') {
    const rows = await readTimelinePage(store, selection, { after: end ?? 0, upTo: at.position });
    return { rows, next: rows.length < limit ? null : before(rows) };
  }
  const upTo = Math.min(end ?? Number.MAX_SAFE_INTEGER, lastFor(reading));
  const rows = await readTimelinePage(store, selection, { after: at.position, upTo });
  return { rows, next: rows.length < limit ? null : after(rows) };
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
