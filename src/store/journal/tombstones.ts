/**
 * Rooms that were purged: of each the entry `RoomPurged` is left, the first of the room's entries for whoever goes on from it, and the
 * only one until somebody joins again.
 */
import { type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type ResyncEvent } from '../../resync/events.ts';
import { type Sql, type Transaction } from '../open-store.ts';
import { NOW_MS } from '../sql-values.ts';
import { takePositions } from './positions.ts';

export type RoomPurged = Extract<ResyncEvent, { readonly type: 'RoomPurged' }>;

export interface Tombstone {
  readonly position: number;
  readonly roomId: RoomId;
  /** The last stay. */
  readonly epoch: number;
  readonly seq: number;
  readonly event: RoomPurged;
}

const COLUMNS = `position, room_id AS "roomId", epoch, seq, data AS event`;

/** What a purge left of the room; `undefined`: it never was purged. */
export async function readTombstone(sql: Sql, roomId: RoomId): Promise<Tombstone | undefined> {
  const [row] = await sql.query<Tombstone & { type: string }>(
    `SELECT ${COLUMNS}, type FROM journal WHERE room_id = $1 ORDER BY position LIMIT 1`,
    [roomId],
  );
  return row?.type === 'RoomPurged' ? row : undefined;
}

/** Has this process forget what it keeps in memory of the room's life before, for whoever begins the next one. */
export async function noteTombstone(sql: Sql, roomId: RoomId): Promise<void> {
  const tombstone = await readTombstone(sql, roomId);
  if (tombstone !== undefined) sql.caches.authEvents.begin(roomId, tombstone.event.eventsTo);
}

/** What the purge with this name left. */
export async function readTombstoneOf(sql: Sql, purgeId: string): Promise<Tombstone | undefined> {
  const [row] = await sql.query<Tombstone>(
    `SELECT ${COLUMNS} FROM journal WHERE type = 'RoomPurged' AND data ->> 'purgeId' = $1`,
    [purgeId],
  );
  return row;
}

/** Rooms that a user was in, or had been in, and that were purged in `(since, upTo]`, by id. */
export async function readPurgedRooms(
  sql: Sql,
  userId: UserId,
  { since, upTo }: { readonly since: number; readonly upTo: number },
): Promise<RoomId[]> {
  const rows = await sql.query<{ roomId: RoomId }>(
    `SELECT room_id AS "roomId" FROM journal
      WHERE type = 'RoomPurged' AND position > $2 AND position <= $3 AND (data -> 'users')::jsonb ? $1 ORDER BY room_id`,
    [userId, since, upTo],
  );
  return rows.map(({ roomId }) => roomId);
}

/** Writes what is left of a room, as the last statement of the transaction; those who waited for it and its users are told. */
export function writeTombstone(tx: Transaction, { roomId, epoch, seq, event }: Omit<Tombstone, 'position'>): void {
  takePositions(tx, {
    name: 'write_tombstone',
    text: `INSERT INTO journal (position, room_id, epoch, stream, seq, type, data, recorded_at)
           SELECT head.base + 1, $3, $4::int, 'resync', $5::bigint, 'RoomPurged', $6::json, ${NOW_MS} FROM head`,
    values: [roomId, String(epoch), String(seq), JSON.stringify(event)],
    count: 1,
    topics: [roomId, ...event.users],
    onTaken: (base) => {
      tx.tell({ entries: [{ position: base + 1, roomId, epoch, stream: 'resync', seq, event }], resync: null });
    },
  });
}
