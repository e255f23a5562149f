/** Gaps: missing events at which the state is still to be had from a resident. They are opened and closed by the journal. */
import { type EventId, type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { type FailureClass } from '../../resync/events.ts';
import { type GapsDue, noGaps } from '../../resync/next-action.ts';
import { type Sql } from '../open-store.ts';
import { NOW_MS } from '../sql-values.ts';
import { displayable } from '../storable-text.ts';

export interface Gap {
  readonly eventId: EventId;
  readonly epoch: number;
  /** Who sent the event that cites it. */
  readonly origin: ServerName;
  readonly openedAt: number;
  readonly attempts: number;
  /** Attempts since one ended or stored something: where there are any, its worker was ended by one. */
  readonly begins: number;
  /** When it is tried next, milliseconds; `null`: given up. */
  readonly wakeAt: number | null;
  /** Somebody tries it now. */
  readonly isBegun: boolean;
  readonly lastResident: ServerName | null;
  readonly lastFailure: FailureClass | null;
  readonly lastReason: string | null;
}

/** All gaps of a room, those that are given up too, the oldest first. */
export function readGaps(sql: Sql, roomId: RoomId): Promise<Gap[]> {
  return sql.query(
    `SELECT event_id AS "eventId", epoch, origin, opened_at AS "openedAt", attempts, begins, wake_at AS "wakeAt",
            begun_until > ${NOW_MS} AS "isBegun", last_resident AS "lastResident", last_failure AS "lastFailure", last_reason AS "lastReason"
       FROM gaps WHERE room_id = $1 ORDER BY opened_at, event_id`,
    [roomId],
  );
}

/** A gap that is open, as it counts in its room. */
export type OpenGap = Pick<Gap, 'eventId' | 'origin' | 'openedAt' | 'attempts'>;

/** The open gaps of a room, in no particular order. */
export function readOpenGaps(sql: Sql, roomId: RoomId): Promise<OpenGap[]> {
  return sql.query(
    `SELECT event_id AS "eventId", origin, opened_at AS "openedAt", attempts
       FROM gaps WHERE room_id = $1 AND wake_at IS NOT NULL`,
    [roomId],
  );
}

/** The gaps of a stay at which somebody is still to be asked. */
export async function readGapsDue(sql: Sql, roomId: RoomId, epoch: number): Promise<GapsDue> {
  const [row] = await sql.query<GapsDue>(
    `SELECT count(*)::int AS open, min(greatest(wake_at, begun_until)) AS "nextAt", (count(*) FILTER (WHERE attempts = 0))::int AS untried,
            coalesce(sum(attempts), 0)::int AS attempts
       FROM gaps WHERE room_id = $1 AND epoch = $2 AND wake_at IS NOT NULL`,
    [roomId, epoch],
  );
  return row ?? noGaps;
}

export interface BegunGap {
  /** This one included. */
  readonly attempts: number;
  /** Since an attempt ended or stored something, this one included. */
  readonly begins: number;
}

/**
 * Begins an attempt at a gap that is due at `now`, and counts it at once: an attempt that ends its worker is one too. Nobody else
 * tries it for `leaseMs` by the database's clock, whatever his own says. `undefined`: it is closed, or not due.
 */
export async function beginGap(
  sql: Sql,
  gap: { readonly roomId: RoomId; readonly eventId: EventId; readonly now: number; readonly leaseMs: number },
): Promise<BegunGap | undefined> {
  const { roomId, eventId, now, leaseMs } = gap;
  const [row] = await sql.query<BegunGap>(
    `UPDATE gaps SET attempts = attempts + 1, begins = begins + 1, begun_until = ${NOW_MS} + $4
      WHERE room_id = $1 AND event_id = $2 AND wake_at <= $3::bigint AND begun_until <= ${NOW_MS}
     RETURNING attempts, begins`,
    [roomId, eventId, now, leaseMs],
  );
  return row;
}

/** The attempts at these go on: nobody else tries them for `leaseMs` from now. */
export async function prolongGaps(
  sql: Sql,
  roomId: RoomId,
  eventIds: readonly EventId[],
  leaseMs: number,
): Promise<void> {
  await sql.query(
    `UPDATE gaps SET begun_until = ${NOW_MS} + $3 WHERE room_id = $1 AND event_id = ANY ($2::text[]) AND begun_until > 0`,
    [roomId, eventIds, leaseMs],
  );
}

/** The attempt has stored something: it is worth to be begun again. */
export async function forgetGapBegins(sql: Sql, roomId: RoomId, eventId: EventId): Promise<void> {
  await sql.query(`UPDATE gaps SET begins = 0 WHERE room_id = $1 AND event_id = $2`, [roomId, eventId]);
}

export interface GapFailure {
  readonly roomId: RoomId;
  readonly eventId: EventId;
  readonly resident: ServerName | null;
  readonly failure: FailureClass | null;
  readonly reason: string;
  /** When it is tried next, milliseconds. */
  readonly wakeAt: number;
}

/** Notes why an attempt at a gap failed. It has ended, whatever ended those before. */
export async function recordGapFailure(sql: Sql, gap: GapFailure): Promise<void> {
  const { roomId, eventId, resident, failure, reason, wakeAt } = gap;
  await sql.query(
    `UPDATE gaps SET last_resident = $3, last_failure = $4, last_reason = $5, wake_at = $6, begins = 0,
                     begun_until = 0
      WHERE room_id = $1 AND event_id = $2 AND wake_at IS NOT NULL`,
    [roomId, eventId, resident, failure, displayable(reason), wakeAt],
  );
}

/** An attempt was ended in order, or nobody could be asked: it does not count, and the gap is due at `wakeAt`. */
export async function takeBackGapAttempt(
  sql: Sql,
  gap: { readonly roomId: RoomId; readonly eventId: EventId; readonly wakeAt: number; readonly reason?: string },
): Promise<void> {
  const { roomId, eventId, wakeAt, reason } = gap;
  await sql.query(
    `UPDATE gaps SET attempts = greatest(attempts - 1, 0), begins = greatest(begins - 1, 0), wake_at = $3,
                     begun_until = 0,
                     last_reason = coalesce($4, last_reason)
      WHERE room_id = $1 AND event_id = $2 AND wake_at IS NOT NULL`,
    [roomId, eventId, wakeAt, reason === undefined ? null : displayable(reason)],
  );
}
