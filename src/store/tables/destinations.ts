/** How other servers answer: one row for each that does not, shared by all rooms and processes. */
import { type ServerName } from '../../matrix/identifiers.ts';
import { type FailureClass } from '../../resync/events.ts';
import { type Sql } from '../open-store.ts';
import { deleteOlder } from './delete-older.ts';

export interface DestinationHealth {
  readonly failures: number;
  /** Milliseconds since the Unix epoch. */
  readonly notBefore: number;
  readonly lastFailure: FailureClass;
}

/** Of those of `serverNames` against which something is known. */
export async function readDestinations(
  sql: Sql,
  serverNames: readonly ServerName[],
): Promise<ReadonlyMap<ServerName, DestinationHealth>> {
  if (serverNames.length === 0) return new Map();
  const rows = await sql.query<DestinationHealth & { serverName: ServerName }>(
    `SELECT server_name AS "serverName", failures, not_before AS "notBefore", last_failure AS "lastFailure"
       FROM destinations WHERE server_name = ANY ($1::text[])`,
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
        SET failures = d.failures + 1, last_failure = excluded.last_failure, last_failed_at = excluded.last_failed_at,
            not_before = $3::bigint + least($4::bigint * (2 ^ least(d.failures, 20))::bigint, $5::bigint)
      WHERE d.not_before <= $3::bigint`,
    [serverName, lastFailure, at, firstMs, longestMs],
  );
}

/** Said of a server that did not answer; all else it has said itself. */
const NOT_ANSWERED: readonly FailureClass[] = ['unreachable', 'timeout'];

/** Whether the failure counts no more once the server has answered what it was asked at `askedAt`, milliseconds. */
export function isOutdated({ notBefore, lastFailure }: DestinationHealth, askedAt: number): boolean {
  return notBefore <= askedAt || NOT_ANSWERED.includes(lastFailure);
}

/** Forgets at most `limit` servers that were left alone until before `restedBefore` and asked nothing since; gives how many. */
export function forgetDestinations(sql: Sql, restedBefore: number, limit: number): Promise<number> {
  return deleteOlder(sql, { table: 'destinations', time: 'not_before' }, restedBefore, limit);
}

/** It has answered what it was asked at `askedAt`, whatever it said; if it has wanted to be left alone since, it still is. */
export async function forgetDestinationFailures(sql: Sql, serverName: ServerName, askedAt: number): Promise<void> {
  await sql.query(
    `DELETE FROM destinations WHERE server_name = $1 AND (not_before <= $2 OR last_failure = ANY ($3::text[]))`,
    [serverName, askedAt, NOT_ANSWERED],
  );
}
