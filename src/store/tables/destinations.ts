/**
 * How other servers answer: one row for each that does not, shared by all rooms and processes. One that answers again keeps its row
 * until the rooms that waited for it were woken.
 */
import { type ServerName } from '../../matrix/identifiers.ts';
import { type FailureClass } from '../../resync/events.ts';
import { type Sql } from '../open-store.ts';
import { deleteOlder } from './delete-older.ts';
import { NOW_MS } from '../sql-values.ts';

export interface DestinationHealth {
  readonly failures: number;
  /** Milliseconds since the Unix epoch. */
  readonly notBefore: number;
  readonly lastFailure: FailureClass;
  /** Another request finds out whether it is back, until this at the most; in the past: none does. */
  readonly probedUntil: number;
}

/** Of those of `serverNames` against which something is known. */
export async function readDestinations(
  sql: Sql,
  serverNames: readonly ServerName[],
): Promise<ReadonlyMap<ServerName, DestinationHealth>> {
  if (serverNames.length === 0) return new Map();
  const rows = await sql.query<DestinationHealth & { serverName: ServerName }>(
    `SELECT server_name AS "serverName", failures, not_before AS "notBefore", last_failure AS "lastFailure",
            probed_until AS "probedUntil"
       FROM destinations WHERE server_name = ANY ($1::text[]) AND recovered_at IS NULL`,
    [serverNames],
  );
  return new Map(rows.map(({ serverName, ...health }) => [serverName, health]));
}

export interface DestinationFailure {
  readonly serverName: ServerName;
  readonly failure: FailureClass;
  /** How long it is left alone after the first failure, milliseconds; doubled by each further one, up to `longestMs`. */
  readonly firstMs: number;
  readonly longestMs: number;
  readonly at: number;
}

/** Several at once that fail together, of one outage, count as one: a row that is not due yet stays as it is. */
export async function recordDestinationFailure(sql: Sql, failure: DestinationFailure): Promise<void> {
  const { serverName, failure: lastFailure, firstMs, longestMs, at } = failure;
  await sql.query(
    `INSERT INTO destinations AS d (server_name, failures, not_before, last_failure, last_failed_at)
     VALUES ($1, 1, $3::bigint + least($4::bigint, $5::bigint), $2, $3)
     ON CONFLICT (server_name) DO UPDATE
        SET (failures, not_before) = (SELECT f + 1, $3::bigint + least($4::bigint * (2 ^ least(f, 20))::bigint, $5::bigint)
                                        FROM (SELECT CASE WHEN d.recovered_at IS NULL THEN d.failures ELSE 0 END) AS n(f)),
            last_failure = excluded.last_failure, last_failed_at = excluded.last_failed_at, probed_until = 0,
            recovered_at = NULL
      WHERE d.not_before <= $3::bigint OR d.recovered_at IS NOT NULL`,
    [serverName, lastFailure, at, firstMs, longestMs],
  );
}

/** Said of a server that did not answer; all else it has said itself. */
const NOT_ANSWERED: readonly FailureClass[] = ['unreachable', 'timeout'];

/** Whether it did not answer, rather than wanted to be left alone. */
export function isOutOfReach({ lastFailure }: Pick<DestinationHealth, 'lastFailure'>): boolean {
  return NOT_ANSWERED.includes(lastFailure);
}

/** Whether the failure counts no more once the server has answered what it was asked at `askedAt`, milliseconds. */
export function isOutdated({ notBefore, lastFailure }: DestinationHealth, askedAt: number): boolean {
  return notBefore <= askedAt || NOT_ANSWERED.includes(lastFailure);
}

/** Forgets at most `limit` servers that were left alone until before `restedBefore` and asked nothing since; gives how many. */
export function forgetDestinations(sql: Sql, restedBefore: number, limit: number): Promise<number> {
  return deleteOlder(sql, { table: 'destinations', time: 'not_before' }, restedBefore, limit);
}

/**
 * It has answered what it was asked at `askedAt`, whatever it said; if it has wanted to be left alone since, it still is. Whether it was out
 * of reach before: then rooms may wait for it.
 */
export async function markRecovered(sql: Sql, serverName: ServerName, askedAt: number): Promise<boolean> {
  const rows = await sql.query(
    `WITH rested AS (
       DELETE FROM destinations WHERE server_name = $1 AND not_before <= $2 AND last_failure <> ALL ($3::text[])
     )
     UPDATE destinations SET recovered_at = ${NOW_MS}, probed_until = 0
      WHERE server_name = $1 AND last_failure = ANY ($3::text[]) AND recovered_at IS NULL
     RETURNING server_name`,
    [serverName, askedAt, NOT_ANSWERED],
  );
  return rows.length > 0;
}

/**
 * Whether one that was out of reach may be asked: by one request at a time, for `probeMs` at the most, until it is known whether it is
 * back. Gives until when another one finds that out; `undefined`: this one does, or it is back.
 */
export async function beginProbe(
  sql: Sql,
  serverName: ServerName,
  now: number,
  probeMs: number,
): Promise<number | undefined> {
  const [row] = await sql.query<{ until: number }>(
    `WITH begun AS (
       UPDATE destinations SET probed_until = $2::bigint + $3::bigint
        WHERE server_name = $1 AND probed_until <= $2::bigint AND recovered_at IS NULL
       RETURNING server_name
     )
     SELECT probed_until AS until FROM destinations
      WHERE server_name = $1 AND recovered_at IS NULL AND NOT EXISTS (SELECT FROM begun)`,
    [serverName, now, probeMs],
  );
  return row?.until;
}

/** Servers that answer again, those first that have for longest, at most `limit`. */
export async function readRecovered(sql: Sql, limit: number): Promise<ServerName[]> {
  const rows = await sql.query<{ serverName: ServerName }>(
    `SELECT server_name AS "serverName" FROM destinations WHERE recovered_at IS NOT NULL ORDER BY recovered_at LIMIT $1`,
    [limit],
  );
  return rows.map(({ serverName }) => serverName);
}

/** The rooms of these were woken. One that is back for less than `settledMs` stays: a room may have given it up in that moment. */
export async function forgetRecovered(sql: Sql, serverNames: readonly ServerName[], settledMs: number): Promise<void> {
  await sql.query(
    `DELETE FROM destinations WHERE server_name = ANY ($1::text[]) AND recovered_at <= ${NOW_MS} - $2::bigint`,
    [serverNames, settledMs],
  );
}
