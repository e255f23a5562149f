/**
 * How far the running state fetch of each room is. One row a room, written a few times a second and worth nothing once the
 * attempt is over, so the table is unlogged: PostgreSQL empties it after a crash, and the fetch writes its row again.
 */
import { and, eq } from 'drizzle-orm';
import { type RoomId } from '../../matrix/identifiers.ts';
import { type Sql } from '../open-store.ts';
import { fetchProgress } from '../schema/tables.ts';

export interface FetchAttempt {
  readonly roomId: RoomId;
  readonly epoch: number;
  readonly attemptNo: number;
}

export interface FetchProgress extends FetchAttempt {
  /** Events of the state and its auth chain. */
  readonly wanted: number;
  /** Of these, those that are stored. */
  readonly held: number;
  /** Received of the answer. */
  readonly bytes: number;
  /** Milliseconds since the Unix epoch. */
  readonly at: number;
}

/** The newest numbers of a room stay; those of an earlier attempt never replace a later one's. */
export async function writeFetchProgress(sql: Sql, progress: FetchProgress): Promise<void> {
  const { roomId, epoch, attemptNo, wanted, held, bytes, at } = progress;
  await sql.query(
    `INSERT INTO fetch_progress AS p (room_id, epoch, attempt_no, wanted, held, bytes, at)
     VALUES ($1, $2, $3, $4, $5, $6, $7)
     ON CONFLICT (room_id) DO UPDATE
        SET epoch = excluded.epoch, attempt_no = excluded.attempt_no, wanted = excluded.wanted, held = excluded.held,
            bytes = excluded.bytes, at = excluded.at
      WHERE (p.epoch, p.attempt_no) <= (excluded.epoch, excluded.attempt_no)`,
    [roomId, epoch, attemptNo, wanted, held, bytes, at],
  );
}

/** What was last written of this very attempt. */
export async function readFetchProgress(sql: Sql, attempt: FetchAttempt): Promise<FetchProgress | undefined> {
  const [row] = await sql.db.select().from(fetchProgress).where(isOf(attempt));
  return row;
}

/** Forgets the numbers of this very attempt, not those of a later one. */
export async function deleteFetchProgress(sql: Sql, attempt: FetchAttempt): Promise<void> {
  await sql.db.delete(fetchProgress).where(isOf(attempt));
}

function isOf({ roomId, epoch, attemptNo }: FetchAttempt) {
  const row = fetchProgress;
  return and(eq(row.roomId, roomId), eq(row.epoch, epoch), eq(row.attemptNo, attemptNo));
}
