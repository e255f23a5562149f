/**
 * What residents name in the state at an anchor, and the state there does not hold: rejected, missing, or citing what is
 * missing. It is remembered, since any of it may turn out accepted.
 */
import { type EventId, type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { type Sql } from '../open-store.ts';
import { inPages } from '../pages.ts';
import { int8Array, textArray } from '../sql-values.ts';
import { deleteOlder } from '../tables/delete-older.ts';

/** Of one answer. An honest one has a handful; of what a liar's has beyond, nothing is put in later. */
const LEFT_OUT_MAX = 20_000;
/** Of a room, which has a state at each join and at each gap, and strangers can open thousands of gaps. Some 20 MB. */
const LEFT_OUT_OF_ROOM_MAX = 100_000;
/** Of a room. Each pushed event may cite ten auth events that nobody has; an honest room lacks a handful. Some 4 MB. */
const AWAITED_OF_ROOM_MAX = 20_000;
/** Of its bound, what a room is cut to that is over it: else each event that follows would cost a look at all rows. */
const KEPT_OF_FULL = 0.9;
/** What is awaited once more is young again; not each time, since the row is written anew. */
const RENEWED_AFTER_MS = 86_400_000;
const IDS_AT_A_TIME = 20_000;

/** What an answer names and its state lacks. */
export interface Omissions {
  /** State events. */
  readonly leftOut: readonly EventId[];
  /** Auth events that have no verdict, held or not, and for want of which others of these are not judged. */
  readonly awaited: readonly EventId[];
}

/** An event without a verdict, and for whom it is awaited: the server that sent what cites it, or the anchor whose state lacks that. */
export interface Awaited {
  readonly eventId: EventId;
  readonly awaitedBy: ServerName | EventId;
}

/**
 * Remembers the omissions of the state at an anchor, in the place of what an earlier answer named; in the transaction that makes
 * it the anchor's state. Over the bound of the room those of the anchors go that have the most.
 */
export async function recordOmissions(
  sql: Sql,
  roomId: RoomId,
  anchorId: EventId,
  { leftOut, awaited }: Omissions,
): Promise<void> {
  const waiting = awaited.slice(0, LEFT_OUT_MAX).map((eventId) => ({ eventId, awaitedBy: anchorId }));
  await awaitEvents(sql, roomId, waiting);
  const some = leftOut.slice(0, LEFT_OUT_MAX);
  const [room] = await sql.query<{ before: number }>(
    `WITH forgotten AS (
       DELETE FROM left_out WHERE room_id = $1 AND anchor_id = $2 AND event_id <> ALL ($3::text[])
     ), added AS (
       INSERT INTO left_out (room_id, event_id, anchor_id) SELECT $1, unnest($3::text[]), $2 ON CONFLICT DO NOTHING
     )
     SELECT count(*) AS before FROM left_out WHERE room_id = $1`,
    [roomId, anchorId, textArray(some)],
  );
  if ((room?.before ?? 0) + some.length <= LEFT_OUT_OF_ROOM_MAX) return;
  await sql.query(
    `DELETE FROM left_out WHERE ctid = ANY (ARRAY(
       SELECT ctid FROM left_out WHERE room_id = $1
        ORDER BY row_number() OVER (PARTITION BY anchor_id ORDER BY event_id), anchor_id OFFSET $2))`,
    [roomId, LEFT_OUT_OF_ROOM_MAX * KEPT_OF_FULL],
  );
}

/**
 * A first verdict on these is news: others are judged again for it. Each for whom an event is awaited has a row of his own, so that
 * nobody takes away another's: over the bound of the room those go of which one has the most, the oldest first, and where all have as
 * many those of servers that are not believed to be in the room, since names are free.
 */
export async function awaitEvents(sql: Sql, roomId: RoomId, events: readonly Awaited[]): Promise<void> {
  if (events.length === 0) return;
  const [room] = await sql.query<{ before: number }>(
    `WITH added AS (
       INSERT INTO awaited_events AS w (room_id, event_id, awaited_by)
       SELECT DISTINCT $1, event_id, awaited_by FROM unnest($2::text[], $3::text[]) AS i(event_id, awaited_by) ORDER BY 2, 3
       ON CONFLICT (room_id, event_id, awaited_by) DO UPDATE SET since = excluded.since
        WHERE w.since < excluded.since - $4::bigint
     )
     SELECT count(*) AS before FROM awaited_events WHERE room_id = $1`,
    [
      roomId,
      textArray(events.map(({ eventId }) => eventId)),
      textArray(events.map(({ awaitedBy }) => awaitedBy)),
      RENEWED_AFTER_MS,
    ],
  );
  if ((room?.before ?? 0) + events.length <= AWAITED_OF_ROOM_MAX) return;
  await sql.query(
    `DELETE FROM awaited_events WHERE ctid = ANY (ARRAY(
       SELECT ctid FROM awaited_events w WHERE room_id = $1
        ORDER BY row_number() OVER (PARTITION BY awaited_by ORDER BY since DESC, event_id),
                 awaited_by NOT LIKE '$%' AND awaited_by <> '' AND NOT EXISTS (
                   SELECT FROM room_servers b WHERE b.room_id = $1 AND b.server_name = w.awaited_by),
                 since DESC
       OFFSET $2))`,
    [roomId, AWAITED_OF_ROOM_MAX * KEPT_OF_FULL],
  );
}

/**
 * What is awaited, or what a state lacks, and has come but could not be judged, waits for what it cites: whoever judges that, it is
 * judged then.
 *
 * @param unjudged events that could not be judged
 * @param lackingOf of one of them, the auth events that have no verdict; none of any other event
 */
export async function awaitInTurn(
  sql: Sql,
  roomId: RoomId,
  unjudged: Iterable<EventId>,
  lackingOf: (eventId: EventId) => readonly EventId[],
): Promise<void> {
  const awaited = new Map<EventId, Awaited>();
  for (const ids of inPages(unjudged, IDS_AT_A_TIME)) {
    const rows = await sql.query<Awaited>(
      `SELECT event_id AS "eventId", awaited_by AS "awaitedBy" FROM awaited_events
        WHERE room_id = $1 AND event_id = ANY ($2::text[])
       UNION ALL
       SELECT event_id, anchor_id FROM left_out WHERE room_id = $1 AND event_id = ANY ($2::text[])`,
      [roomId, textArray(ids)],
    );
    for (const row of rows) awaited.set(row.eventId, row);
  }
  const before = awaited.size;
  // The map grows as it is gone through: each event is reached once, for one of those who wait.
  for (const { eventId, awaitedBy } of awaited.values()) {
    for (const cited of lackingOf(eventId)) {
      if (!awaited.has(cited)) awaited.set(cited, { eventId: cited, awaitedBy });
    }
  }
  await awaitEvents(sql, roomId, [...awaited.values()].slice(before, before + LEFT_OUT_MAX));
}

/** Forgets at most `limit` events that were awaited last before `before`, milliseconds since the Unix epoch; gives how many. */
export function forgetAwaited(sql: Sql, before: number, limit: number): Promise<number> {
  return deleteOlder(sql, { table: 'awaited_events', time: 'since' }, before, limit);
}

/** An event that the state at an anchor lacks, of a place. */
export interface LeftOut {
  readonly anchorId: EventId;
  readonly eventId: EventId;
}

/** What states at anchors lack at these places, as numbered in the database. */
export function readLeftOut(sql: Sql, roomId: RoomId, stateKeyNids: readonly number[]): Promise<LeftOut[]> {
  return sql.query(
    `SELECT l.anchor_id AS "anchorId", l.event_id AS "eventId"
       FROM left_out l JOIN pdus p ON p.event_id = l.event_id AND p.room_id = l.room_id
      WHERE l.room_id = $1 AND p.state_key_nid = ANY ($2::bigint[])`,
    [roomId, int8Array(stateKeyNids)],
  );
}
