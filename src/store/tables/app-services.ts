/**
 * How far application services have been told what happens: a position each, and the transaction that is under way; no row an event. A
 * service that nothing concerns costs no write: whoever tells it remembers up to where he has looked, and writes that down now and then.
 */
import { type JsonObject } from '../../matrix/pdu.ts';
import { type Sql } from '../open-store.ts';
import { NOW_MS, int8Array, textArray } from '../sql-values.ts';
import { displayable } from '../storable-text.ts';

/** What a service is told begins with what happens from now on, where it is new. */
export async function ensureServices(sql: Sql, serviceIds: readonly string[]): Promise<void> {
  await sql.query(
    `INSERT INTO app_services (service_id, sent, leased_until, failures, retry_at)
     SELECT id, h.position, 0, 0, 0 FROM unnest($1::text[]) AS i(id) CROSS JOIN journal_head h
     ON CONFLICT DO NOTHING`,
    [serviceIds],
  );
}

/** A transaction as it is written down: where what it holds is shown. */
export interface ServiceTransaction {
  readonly txnId: string;
  readonly positions: readonly number[];
  /** What passed in rooms meanwhile, as it is sent. */
  readonly ephemeral: readonly JsonObject[];
  /** When it is taken the service has been told up to here. */
  readonly upTo: number;
  readonly madeAt: number;
}

/**
 * A transaction that one process sends, until a time. Each lease ends at another time, and so the time is whose it is: whoever was suspended
 * past his changes nothing of what the next has begun.
 */
export interface ServiceLease {
  readonly serviceId: string;
  readonly txnId: string;
  /** When it ends, as the database counts. */
  readonly until: number;
}

/** How a service stands. Times are milliseconds since the Unix epoch. */
export interface ServiceState {
  readonly serviceId: string;
  /** It has been told up to here. */
  readonly sent: number;
  /** Nobody sends it anything. */
  readonly isFree: boolean;
  /** Transactions that it did not take, in a row, since when, how the last one failed, and when it is sent again. */
  readonly failures: number;
  readonly failedSince: number | null;
  readonly lastFailure: string | null;
  readonly retryAt: number;
  /** What is under way, or was not taken. */
  readonly transaction: ServiceTransaction | undefined;
}

type StateRow = Omit<ServiceState, 'transaction'> & {
  readonly head: number;
  readonly txnId: string | null;
  readonly txnPositions: readonly number[] | null;
  /** An older program that makes a transaction, or ends one, leaves what was here. */
  readonly txnEphemeral: { readonly txnId: string; readonly edus: readonly JsonObject[] } | null;
  readonly txnUpTo: number | null;
  readonly txnMadeAt: number | null;
};

/** Services of which something is written down, `null`: all; and the newest position there is. */
export async function readServices(
  sql: Sql,
  serviceIds: readonly string[] | null,
): Promise<{ readonly head: number; readonly services: ServiceState[] }> {
  const rows = await sql.query<StateRow | (Omit<StateRow, 'serviceId'> & { serviceId: null })>(
    `SELECT h.position AS head, s.service_id AS "serviceId", s.sent, s.leased_until <= ${NOW_MS} AS "isFree", s.failures,
            s.failed_since AS "failedSince", s.last_failure AS "lastFailure", s.retry_at AS "retryAt", s.txn_id AS "txnId",
            s.txn_positions AS "txnPositions", s.txn_ephemeral AS "txnEphemeral", s.txn_up_to AS "txnUpTo", s.txn_made_at AS "txnMadeAt"
       FROM journal_head h LEFT JOIN app_services s ON $1::text[] IS NULL OR s.service_id = ANY ($1::text[])
      ORDER BY s.service_id`,
    [serviceIds === null ? null : textArray(serviceIds)],
  );
  const services = rows.flatMap((row): ServiceState[] => {
    if (row.serviceId === null) return [];
    const { serviceId, sent, isFree, failures, failedSince, lastFailure, retryAt } = row;
    const { txnId, txnPositions: positions, txnEphemeral, txnUpTo: upTo, txnMadeAt: madeAt } = row;
    const isNone = txnId === null || positions === null || upTo === null || madeAt === null;
    const ephemeral = txnEphemeral?.txnId === txnId ? txnEphemeral.edus : [];
    const transaction = isNone ? undefined : { txnId, positions, ephemeral, upTo, madeAt };
    return [{ serviceId, sent, isFree, failures, failedSince, lastFailure, retryAt, transaction }];
  });
  return { head: rows[0]?.head ?? 0, services };
}

/**
 * Notes a transaction before it is sent, of what comes after `sent`: whoever sends it again sends the same. `undefined`: somebody else is
 * at it, or was.
 */
export async function beginTransaction(
  sql: Sql,
  { serviceId, sent }: Pick<ServiceState, 'serviceId' | 'sent'>,
  { txnId, positions, ephemeral, upTo, madeAt }: ServiceTransaction,
  leaseMs: number,
): Promise<ServiceLease | undefined> {
  const [row] = await sql.query<{ until: number }>(
    `UPDATE app_services SET txn_id = $3, txn_positions = $4::bigint[], txn_ephemeral = $5::json, txn_up_to = $6, txn_made_at = $7,
            leased_until = ${NOW_MS} + $8::bigint
      WHERE service_id = $1 AND sent = $2 AND txn_id IS NULL AND leased_until <= ${NOW_MS} RETURNING leased_until AS until`,
    [
      ...[serviceId, sent, txnId, int8Array(positions)],
      ...[ephemeral.length === 0 ? null : JSON.stringify({ txnId, edus: ephemeral }), upTo, madeAt, leaseMs],
    ],
  );
  return row && { serviceId, txnId, until: row.until };
}

/** Takes a transaction that waits to be sent again, and whose pause is over at `now`. `undefined`: somebody else is at it, or was. */
export async function leaseTransaction(
  sql: Sql,
  { serviceId, txnId }: Pick<ServiceLease, 'serviceId' | 'txnId'>,
  { now, leaseMs }: { readonly now: number; readonly leaseMs: number },
): Promise<ServiceLease | undefined> {
  const [row] = await sql.query<{ until: number }>(
    `UPDATE app_services SET leased_until = ${NOW_MS} + $4::bigint
      WHERE service_id = $1 AND txn_id = $2 AND leased_until <= ${NOW_MS} AND retry_at <= $3 RETURNING leased_until AS until`,
    [serviceId, txnId, now, leaseMs],
  );
  return row && { serviceId, txnId, until: row.until };
}

const IS_LEASED = 'service_id = $1 AND txn_id = $2 AND leased_until = $3';
const NO_TRANSACTION = `txn_id = NULL, txn_positions = NULL, txn_ephemeral = NULL, txn_up_to = NULL, txn_made_at = NULL,
  failures = 0, failed_since = NULL, last_failure = NULL, retry_at = 0, leased_until = 0`;

/** The service has taken the transaction. `false`: it is another's by now, or was skipped. */
export async function settleTransaction(sql: Sql, { serviceId, txnId, until }: ServiceLease): Promise<boolean> {
  const rows = await sql.query(
    `UPDATE app_services SET sent = txn_up_to, ${NO_TRANSACTION} WHERE ${IS_LEASED} RETURNING 1`,
    [serviceId, txnId, until],
  );
  return rows.length > 0;
}

/** It did not take it; nothing is sent to it before `retryAt`. Not so where it is leased to another by now. */
export async function postponeTransaction(
  sql: Sql,
  { serviceId, txnId, until }: ServiceLease,
  { at, retryAt, failure }: { readonly at: number; readonly retryAt: number; readonly failure: string },
): Promise<void> {
  await sql.query(
    `UPDATE app_services SET failures = failures + 1, failed_since = coalesce(failed_since, $4::bigint), retry_at = $5, last_failure = $6,
            leased_until = 0 WHERE ${IS_LEASED}`,
    [serviceId, txnId, until, at, Math.ceil(retryAt), displayable(failure)],
  );
}

/** Leaves a transaction to the next at once, unless it is another's by now. */
export async function endLease(sql: Sql, { serviceId, txnId, until }: ServiceLease): Promise<void> {
  await sql.query(`UPDATE app_services SET leased_until = 0 WHERE ${IS_LEASED}`, [serviceId, txnId, until]);
}

/** That nothing between two positions concerns a service. */
export interface NothingFor {
  readonly serviceId: string;
  readonly sent: number;
  readonly upTo: number;
}

/** Writes down that there was nothing to tell services, in one statement; not of those to which something has happened since. */
export async function noteNothing(sql: Sql, looked: readonly NothingFor[]): Promise<void> {
  await sql.query(
    `UPDATE app_services s SET sent = l.up_to FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS l(service_id, sent, up_to)
      WHERE s.service_id = l.service_id AND s.sent = l.sent AND s.txn_id IS NULL AND s.leased_until <= ${NOW_MS}`,
    [
      textArray(looked.map(({ serviceId }) => serviceId)),
      int8Array(looked.map(({ sent }) => sent)),
      int8Array(looked.map(({ upTo }) => upTo)),
    ],
  );
}

/** What a service has not taken is tried at once. `false`: nothing is known of it. */
export async function retryService(sql: Sql, serviceId: string): Promise<boolean> {
  const rows = await sql.query(`UPDATE app_services SET retry_at = 0 WHERE service_id = $1 RETURNING 1`, [serviceId]);
  return rows.length > 0;
}

/** Gives a transaction up: the service is not told what it holds, whoever sends it now. `false`: it is not the one that waits. */
export async function skipTransaction(sql: Sql, serviceId: string, txnId: string): Promise<boolean> {
  const rows = await sql.query(
    `UPDATE app_services SET sent = txn_up_to, ${NO_TRANSACTION} WHERE service_id = $1 AND txn_id = $2 RETURNING 1`,
    [serviceId, txnId],
  );
  return rows.length > 0;
}

/** Gives all up that waits for a service: it is told what happens from now on. Gives the positions between which it is not told. */
export async function skipAll(
  sql: Sql,
  serviceId: string,
): Promise<{ readonly sent: number; readonly upTo: number } | undefined> {
  const [row] = await sql.query<{ sent: number; upTo: number }>(
    `WITH was AS MATERIALIZED (SELECT service_id, sent FROM app_services WHERE service_id = $1 FOR UPDATE)
     UPDATE app_services s SET sent = h.position, ${NO_TRANSACTION} FROM was, journal_head h
      WHERE s.service_id = was.service_id RETURNING was.sent, s.sent AS "upTo"`,
    [serviceId],
  );
  return row;
}

/** How far a service is behind. */
export interface ServiceLag {
  readonly serviceId: string;
  /** Positions that it has not been told of, and of which it is not known that they do not concern it. */
  readonly positions: number;
  /** When the first entry of them was made; `null`: there is none. */
  readonly oldestAt: number | null;
}

/**
 * How far services are behind, as the database says it. `looked`: up to where it is known that nothing else concerns them; of what was not
 * taken all counts that comes from its first event on.
 */
export async function readServiceLags(
  sql: Sql,
  serviceIds: readonly string[],
  looked: ReadonlyMap<string, number>,
): Promise<ServiceLag[]> {
  return sql.query(
    `SELECT s.service_id AS "serviceId", h.position - f.sent AS positions,
            coalesce((SELECT recorded_at FROM journal j WHERE j.position > f.sent AND (s.txn_id IS NULL OR j.position <= s.txn_positions[1])
                       ORDER BY j.position LIMIT 1), s.txn_made_at) AS "oldestAt"
       FROM app_services s CROSS JOIN journal_head h
       JOIN unnest($1::text[], $2::bigint[]) AS l(service_id, looked) ON l.service_id = s.service_id
      CROSS JOIN LATERAL (SELECT CASE WHEN s.txn_id IS NULL THEN least(greatest(s.sent, l.looked), h.position)
                                      ELSE coalesce(s.txn_positions[1] - 1, s.sent) END AS sent) AS f`,
    [textArray(serviceIds), int8Array(serviceIds.map((id) => looked.get(id) ?? 0))],
  );
}
