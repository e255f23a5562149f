/** Who types in rooms. */
import { type RoomId } from '../../matrix/identifiers.ts';
import { takePositions } from '../journal/positions.ts';
import { type Sql, type Transaction } from '../open-store.ts';
import { type Typist } from '../schema/edus.ts';
import { int8Array, textArray } from '../sql-values.ts';

export type { Typist };

/** Who types in a room. */
export interface RoomTyping {
  readonly roomId: RoomId;
  readonly typists: readonly Typist[];
}

/** Who types in each of the rooms, which nobody else changes until the transaction ends. */
export async function lockTyping(tx: Transaction, roomIds: readonly RoomId[]): Promise<RoomTyping[]> {
  await tx.query(
    `INSERT INTO room_typing (room_id, typists, position)
     SELECT room_id, '[]', 0 FROM unnest($1::text[]) AS i(room_id) ORDER BY room_id ON CONFLICT DO NOTHING`,
    [roomIds],
  );
  return tx.query<RoomTyping>(
    `SELECT room_id AS "roomId", typists FROM room_typing WHERE room_id = ANY ($1::text[]) ORDER BY room_id FOR UPDATE`,
    [roomIds],
  );
}

/**
 * Writes who types in locked rooms, as the last of the transaction. Of the rooms in `changed` it is another list: these are told. It may be
 * lost when the machine stops within a moment.
 */
export async function writeTyping(
  tx: Transaction,
  rooms: readonly RoomTyping[],
  changed: readonly RoomId[],
): Promise<void> {
  // Whoever takes positions waits until this is committed, and need not wait for the disk.
  await tx.query('SET LOCAL synchronous_commit = off');
  await tx.query(
    `UPDATE room_typing t SET (typists, expires_at) = (c.typists::json, c.expires_at)
       FROM unnest($1::text[], $2::text[], $3::bigint[]) AS c(room_id, typists, expires_at) WHERE t.room_id = c.room_id`,
    [
      textArray(rooms.map(({ roomId }) => roomId)),
      textArray(rooms.map(({ typists }) => JSON.stringify(typists))),
      int8Array(
        rooms.map(({ typists }) => (typists.length === 0 ? null : Math.min(...typists.map(({ until }) => until)))),
      ),
    ],
  );
  if (changed.length === 0) return;
  takePositions(tx, {
    name: 'write_typing',
    text: `UPDATE room_typing SET position = head.base + 1 FROM head WHERE room_id = ANY ($3::text[])`,
    values: [textArray(changed)],
    count: 1,
    topics: changed,
  });
}

/** Rooms in which somebody types no more by `now`, milliseconds since the Unix epoch. */
export async function readExpiredTyping(sql: Sql, now: number, limit: number): Promise<RoomId[]> {
  const rows = await sql.query<{ roomId: RoomId }>(
    `SELECT room_id AS "roomId" FROM room_typing WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2`,
    [now, limit],
  );
  return rows.map(({ roomId }) => roomId);
}

/** Forgets who typed in those of the rooms where nobody does any more by `now`, but for rooms that somebody else writes. */
export async function forgetExpiredTyping(tx: Transaction, roomIds: readonly RoomId[], now: number): Promise<void> {
  if (roomIds.length === 0) return;
  await tx.query(
    `DELETE FROM room_typing WHERE room_id = ANY (ARRAY(
       SELECT room_id FROM room_typing WHERE room_id = ANY ($1::text[]) AND expires_at <= $2 FOR UPDATE SKIP LOCKED))`,
    [roomIds, now],
  );
}

/** A room, and what of it has been told: all up to a position. */
export interface ToldRoom {
  readonly roomId: RoomId;
  readonly after: number;
}

/**
 * Who types in those of the rooms where that changed since, up to `upTo`; where nobody has typed yet the room is absent. To whom was told
 * something before PostgreSQL crashed it is told of all rooms: of who typed then nothing is known.
 */
export async function readTypingSince(
  sql: Sql,
  rooms: readonly ToldRoom[],
  upTo: number,
): Promise<readonly RoomTyping[]> {
  if (rooms.length === 0) return [];
  return sql.query<RoomTyping>(
    `SELECT i.room_id AS "roomId", coalesce(t.typists, '[]'::json) AS typists
       FROM unnest($1::text[], $2::bigint[]) AS i(room_id, after) LEFT JOIN room_typing t ON t.room_id = i.room_id
      WHERE t.position > i.after AND t.position <= $3
         OR i.after BETWEEN 1 AND (SELECT position - 1 FROM last_recovery)`,
    [textArray(rooms.map(({ roomId }) => roomId)), int8Array(rooms.map(({ after }) => after)), upTo],
  );
}

/** Who types where that changed in a span of positions: `limit` rooms at the most, the newest. */
export function readNewestTyping(
  sql: Sql,
  { since, upTo }: { readonly since: number; readonly upTo: number },
  limit: number,
): Promise<RoomTyping[]> {
  return sql.query(
    `SELECT room_id AS "roomId", typists FROM room_typing WHERE position > $1 AND position <= $2 ORDER BY position DESC LIMIT $3`,
    [since, upTo, limit],
  );
}
