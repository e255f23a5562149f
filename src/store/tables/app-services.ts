/**
 * How far application services have been told what happens: a position each, and the transaction that is under way; no row an event. What
 * is told are events as clients see them, by the positions from which on they are shown, and invites from rooms that nobody of us is in.
 */
import { type EventId, type RoomAlias, type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type ShownPdu } from '../journal/seen-by-clients.ts';
import { type Sql } from '../open-store.ts';
import { trieKey } from '../snapshots/snapshot-trie.ts';
import { NOW_MS, int8Array, textArray } from '../sql-values.ts';
import { fromStorable } from '../storable-text.ts';

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
  /** When it is taken the service has been told up to here. */
  readonly upTo: number;
  readonly madeAt: number;
}

/**
 * A service that one process tells, until a time. Each lease ends at another time, and so the time is whose it is: whoever was suspended
 * past his changes nothing of what the next has begun.
 */
export interface ServiceLease {
  readonly serviceId: string;
  /** When it ends, as the database counts; each renewal moves it. */
  until: number;
}

export interface ServiceDelivery {
  readonly lease: ServiceLease;
  readonly sent: number;
  readonly failures: number;
  readonly transaction: ServiceTransaction | undefined;
}

/** Leases services for which something may have happened, and whose pause is over at `now`. */
export async function leaseServices(
  sql: Sql,
  serviceIds: readonly string[],
  { now, leaseMs }: { readonly now: number; readonly leaseMs: number },
): Promise<ServiceDelivery[]> {
  const rows = await sql.query<
    Omit<ServiceDelivery, 'transaction' | 'lease'> & {
      serviceId: string;
      leasedUntil: number;
      txnId: string | null;
      txnPositions: readonly number[] | null;
      txnUpTo: number | null;
      txnMadeAt: number | null;
    }
  >(
    `UPDATE app_services s SET leased_until = ${NOW_MS} + $3::bigint FROM journal_head h
      WHERE s.service_id = ANY ($1::text[]) AND s.leased_until <= ${NOW_MS} AND s.retry_at <= $2
        AND (s.sent < h.position OR s.txn_id IS NOT NULL)
     RETURNING s.service_id AS "serviceId", s.leased_until AS "leasedUntil", s.sent, s.failures, s.txn_id AS "txnId", s.txn_positions AS "txnPositions",
               s.txn_up_to AS "txnUpTo", s.txn_made_at AS "txnMadeAt"`,
    [serviceIds, now, leaseMs],
  );
  return rows.map(({ serviceId, leasedUntil, txnId, txnPositions, txnUpTo, txnMadeAt, ...row }) => ({
    ...row,
    lease: { serviceId, until: leasedUntil },
    transaction:
      txnId === null || txnPositions === null || txnUpTo === null || txnMadeAt === null
        ? undefined
        : { txnId, positions: txnPositions, upTo: txnUpTo, madeAt: txnMadeAt },
  }));
}

/** Something that a service may be told of. */
export interface TellableEvent {
  /** From here on it is shown. */
  readonly position: number;
  readonly roomId: RoomId;
  readonly sender: UserId;
  readonly type: string;
  /** `null`: no state event. */
  readonly stateKey: string | null;
  /** `null`: an invite or a knock, of a room that nobody of us is in. */
  readonly stateBefore: SnapshotId | null;
  readonly bytes: number;
}

export interface TellablePage {
  readonly events: readonly TellableEvent[];
  /** There is nothing else up to here. */
  readonly upTo: number;
}

/** What came after a position: at most `limit` entries of the journal are looked at, and as many invites. */
export async function readTellable(sql: Sql, after: number, limit: number): Promise<TellablePage> {
  const rows = await sql.query<Omit<TellableEvent, 'type'> & { type: string | null; upTo: number }>(
    `WITH head AS (SELECT position FROM journal_head),
          page AS (SELECT position, room_id, event_id FROM journal WHERE position > $1 ORDER BY position LIMIT $2),
          outside AS (SELECT position, room_id, user_id, sender, octet_length(event::text) + octet_length(stripped::text) AS bytes
                        FROM outside_memberships WHERE membership <> 'leave' AND position > $1 ORDER BY position LIMIT $2),
          bound AS (SELECT least(head.position,
                                 (SELECT max(position) FROM page HAVING count(*) = $2),
                                 (SELECT max(position) FROM outside HAVING count(*) = $2)) AS up_to FROM head)
     SELECT bound.up_to AS "upTo", t.* FROM bound LEFT JOIN (
       SELECT page.position, page.room_id AS "roomId", p.sender, p.type, k.state_key AS "stateKey",
              encode(e.state_before, 'hex') AS "stateBefore", octet_length(p.json::text) AS bytes
         FROM page JOIN event_states e ON e.event_id = page.event_id AND e.room_id = page.room_id AND e.shown_at = page.position
         JOIN pdus p ON p.nid = e.event_nid LEFT JOIN state_keys k ON k.nid = p.state_key_nid
       UNION ALL
       SELECT position, room_id, sender, 'm.room.member', user_id, NULL, bytes FROM outside
     ) AS t ON t.position <= bound.up_to ORDER BY t.position`,
    [after, limit],
  );
  const events = rows.flatMap(({ type, stateKey, position, roomId, sender, stateBefore, bytes }) => {
    if (type === null) return [];
    const place = { type: fromStorable(type), stateKey: stateKey === null ? null : fromStorable(stateKey) };
    return [{ position, roomId, sender, stateBefore, bytes, ...place }];
  });
  return { events, upTo: Math.max(after, rows[0]?.upTo ?? after) };
}

/** A user of ours in a room, now or once. */
export interface KnownMember {
  readonly roomId: RoomId;
  readonly userId: UserId;
  readonly isJoined: boolean;
  /** From when on it is so; `null`: not known. */
  readonly since: number | null;
  /** He has left silently, from this position on; `null`: he has not. */
  readonly silentSince: number | null;
}

/**
 * Users of ours whose ids begin as one of `beginnings`. With a `limit` so many of each room at the most, any of those who are in it now;
 * else all who are or were.
 */
export async function readKnownMembers(
  sql: Sql,
  roomIds: readonly RoomId[],
  { beginnings, limit }: { readonly beginnings: readonly string[]; readonly limit?: number | undefined },
): Promise<KnownMember[]> {
  if (roomIds.length === 0) return [];
  return sql.query(
    `SELECT r.room_id AS "roomId", m.user_id AS "userId", coalesce(m.membership = 'join', false) AS "isJoined",
            e.shown_at AS since, s.left_at AS "silentSince"
       FROM unnest($1::text[]) AS r(room_id) CROSS JOIN LATERAL (
              SELECT * FROM (
                SELECT l.user_id, l.membership, l.event_id FROM local_members l
                 WHERE l.room_id = r.room_id AND l.user_id LIKE ANY ($2::text[]) AND ($3::int IS NULL OR l.membership = 'join')
                UNION ALL
                SELECT f.user_id, NULL, NULL FROM former_members f
                 WHERE f.room_id = r.room_id AND f.user_id LIKE ANY ($2::text[]) AND $3::int IS NULL
                   AND NOT EXISTS (SELECT FROM local_members l WHERE l.room_id = f.room_id AND l.user_id = f.user_id)) AS u
               LIMIT $3) AS m
       LEFT JOIN event_states e ON e.event_id = m.event_id AND e.room_id = r.room_id
       LEFT JOIN silent_leaves s ON s.room_id = r.room_id AND s.user_id = m.user_id AND s.settled_at IS NULL`,
    [textArray(roomIds), textArray(beginnings.map((one) => `${one.replaceAll(/[\\%_]/g, '\\$&')}%`)), limit ?? null],
  );
}

/** Our aliases of rooms. */
export async function readAliasesOfRooms(
  sql: Sql,
  roomIds: readonly RoomId[],
): Promise<{ readonly roomId: RoomId; readonly alias: RoomAlias }[]> {
  if (roomIds.length === 0) return [];
  return sql.query(`SELECT room_id AS "roomId", alias FROM room_aliases WHERE room_id = ANY ($1::text[])`, [
    textArray(roomIds),
  ]);
}

/** An invite or a knock as it is told. */
export interface ToldOutside {
  readonly position: number;
  readonly roomId: RoomId;
  readonly eventId: EventId;
  readonly json: string;
  readonly membership: 'invite' | 'knock';
  /** Of the room, as whoever is invited or knocks is told it. */
  readonly stripped: readonly JsonObject[];
}

/** What a transaction holds; what is gone since (a purged room's, an invite that is over) is absent. */
export async function readToldBodies(
  sql: Sql,
  positions: readonly number[],
): Promise<{ readonly events: readonly ShownPdu[]; readonly outside: readonly ToldOutside[] }> {
  const rows = await sql.query<Omit<ShownPdu, 'key'> & { stateKeyNid: number | null; isMember: boolean }>(
    `SELECT j.position AS "shownAt", e.room_id AS "roomId", e.event_id AS "eventId", e.event_nid AS nid,
            encode(e.state_before, 'hex') AS "stateBefore", encode(e.state_after, 'hex') AS "stateAfter", p.sender,
            p.state_key_nid AS "stateKeyNid", p.type = 'm.room.member' AS "isMember", p.auth_events AS "authEvents", p.depth,
            p.json::text AS json
       FROM journal j JOIN event_states e ON e.event_id = j.event_id AND e.room_id = j.room_id
       JOIN pdus p ON p.nid = e.event_nid
      WHERE j.position = ANY ($1::bigint[]) ORDER BY j.position`,
    [int8Array(positions)],
  );
  const outside = await sql.query<ToldOutside>(
    `SELECT position, room_id AS "roomId", event_id AS "eventId", event::text AS json, membership, stripped
       FROM outside_memberships WHERE position = ANY ($1::bigint[]) AND membership <> 'leave'`,
    [int8Array(positions)],
  );
  const events = rows.map(({ stateKeyNid, isMember, ...row }) => {
    return { ...row, key: stateKeyNid === null ? null : trieKey(stateKeyNid, isMember) };
  });
  return { events, outside };
}

/** Notes a transaction before it is sent: whoever sends it again sends the same. Renews the lease; `false`: it is another's by now. */
export async function recordServiceTransaction(
  sql: Sql,
  lease: ServiceLease,
  { txnId, positions, upTo, madeAt }: ServiceTransaction,
  leaseMs: number,
): Promise<boolean> {
  const rows = await sql.query<{ until: number }>(
    `UPDATE app_services SET txn_id = $3, txn_positions = $4::bigint[], txn_up_to = $5, txn_made_at = $6, leased_until = ${NOW_MS} + $7::bigint
      WHERE service_id = $1 AND leased_until = $2 RETURNING leased_until AS until`,
    [lease.serviceId, lease.until, txnId, int8Array(positions), upTo, madeAt, leaseMs],
  );
  return renewed(lease, rows);
}

/** The service has been told up to a position, or nothing up to there is of interest to it. Renews the lease; `false`: it is another's. */
export async function settleService(sql: Sql, lease: ServiceLease, upTo: number, leaseMs: number): Promise<boolean> {
  const rows = await sql.query<{ until: number }>(
    `UPDATE app_services SET sent = greatest(sent, $3), txn_id = NULL, txn_positions = NULL, txn_up_to = NULL,
            txn_made_at = NULL, failures = 0, failed_since = NULL, retry_at = 0, leased_until = ${NOW_MS} + $4::bigint
      WHERE service_id = $1 AND leased_until = $2 RETURNING leased_until AS until`,
    [lease.serviceId, lease.until, upTo, leaseMs],
  );
  return renewed(lease, rows);
}

/** It did not take a transaction; nothing is sent to it before `retryAt`. Not so where it is leased to another by now. */
export async function postponeService(
  sql: Sql,
  lease: ServiceLease,
  { at, retryAt }: { readonly at: number; readonly retryAt: number },
): Promise<void> {
  await sql.query(
    `UPDATE app_services SET failures = failures + 1, failed_since = coalesce(failed_since, $3::bigint), retry_at = $4
      WHERE service_id = $1 AND leased_until = $2`,
    [lease.serviceId, lease.until, at, Math.ceil(retryAt)],
  );
}

/** Gives a service back, unless it is another's by now. */
export async function endServiceLease(sql: Sql, { serviceId, until }: ServiceLease): Promise<void> {
  await sql.query(`UPDATE app_services SET leased_until = 0 WHERE service_id = $1 AND leased_until = $2`, [
    serviceId,
    until,
  ]);
}

function renewed(lease: ServiceLease, [row]: readonly { readonly until: number }[]): boolean {
  if (row === undefined) return false;
  lease.until = row.until;
  return true;
}

/** It is heard from again: what it has not taken is tried at once. */
export async function retryService(sql: Sql, serviceId: string): Promise<void> {
  await sql.query(`UPDATE app_services SET retry_at = 0 WHERE service_id = $1`, [serviceId]);
}

/** How far a service is behind. */
export interface ServiceLag {
  readonly serviceId: string;
  /** Positions that it has not been told of, whether they are of interest to it or not. */
  readonly positions: number;
  /** When the first entry of them was made; `null`: there is none. */
  readonly oldestAt: number | null;
}

/** How far services are behind, as the database says it. */
export async function readServiceLags(sql: Sql, serviceIds: readonly string[]): Promise<ServiceLag[]> {
  return sql.query(
    `SELECT s.service_id AS "serviceId", h.position - s.sent AS positions,
            (SELECT recorded_at FROM journal j WHERE j.position > s.sent ORDER BY j.position LIMIT 1) AS "oldestAt"
       FROM app_services s CROSS JOIN journal_head h WHERE s.service_id = ANY ($1::text[])`,
    [serviceIds],
  );
}
