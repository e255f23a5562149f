/**
 * What residents name in the state at an anchor, and the state there does not hold: rejected, missing, or citing what is
 * missing. It is remembered, since any of it may turn out accepted.
 */
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { type Sql } from '../open-store.ts';
import { int8Array, textArray } from '../sql-values.ts';

/** Of one answer. An honest one has a handful; of what a liar's has beyond, nothing is put in later. */
const LEFT_OUT_MAX = 20_000;

/** What an answer names and its state lacks. */
export interface Omissions {
  /** State events. */
  readonly leftOut: readonly EventId[];
  /** Auth events that were not had, and for want of which others of these are not judged. */
  readonly awaited: readonly EventId[];
}

/**
 * Remembers the omissions of the state at an anchor, in the place of what an earlier answer named; in the transaction that makes
 * it the anchor's state.
 */
export async function recordOmissions(
  sql: Sql,
  roomId: RoomId,
  anchorId: EventId,
  { leftOut, awaited }: Omissions,
): Promise<void> {
  await sql.query(
    `WITH awaited AS (
       INSERT INTO awaited_events (room_id, event_id) SELECT $1, unnest($4::text[]) ON CONFLICT DO NOTHING
     ), forgotten AS (
       DELETE FROM left_out WHERE room_id = $1 AND anchor_id = $2 AND event_id <> ALL ($3::text[])
     )
     INSERT INTO left_out (room_id, event_id, anchor_id) SELECT $1, unnest($3::text[]), $2 ON CONFLICT DO NOTHING`,
    [roomId, anchorId, textArray(leftOut.slice(0, LEFT_OUT_MAX)), textArray(awaited.slice(0, LEFT_OUT_MAX))],
  );
}

/** A first verdict on these is news: others are judged again for it. */
export async function awaitEvents(sql: Sql, roomId: RoomId, eventIds: readonly EventId[]): Promise<void> {
  await sql.query(
    `INSERT INTO awaited_events (room_id, event_id) SELECT $1, unnest($2::text[]) ON CONFLICT DO NOTHING`,
    [roomId, textArray(eventIds)],
  );
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
