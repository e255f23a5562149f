/**
 * What other servers are to get of our events, and how far they have got it: positions, no row an event and server. Sharing out
 * follows the journal; delivering follows that; each is leased, by the database's clock, to one process at a time.
 */
import { type EventId, type RoomId, type ServerName, type UserId } from '../../matrix/identifiers.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type GivenBody } from '../events/redactions.ts';
import { RoomGoneError } from '../fence.ts';
import { type Sql, type Transaction } from '../open-store.ts';
import { NOW_MS, int8Array, textArray } from '../sql-values.ts';
import { fromStorable } from '../storable-text.ts';
import { deleteEdus } from './outgoing-edus.ts';
import { settlePassing } from './outgoing-passing.ts';

/** A room in which something was said that is not shared out. */
export interface OutgoingRoom {
  readonly roomId: RoomId;
  /** What lies after `sharedOut`, up to `position`. */
  readonly position: number;
  readonly sharedOut: number;
}

/** Leases rooms that nobody is at, or the one alone. */
export async function leaseOutgoingRooms(
  sql: Sql,
  leaseMs: number,
  limit: number,
  roomId?: RoomId,
): Promise<OutgoingRoom[]> {
  return sql.query<OutgoingRoom>(
    `UPDATE outgoing_rooms o SET leased_until = ${NOW_MS} + $1::bigint
      WHERE room_id IN (SELECT room_id FROM outgoing_rooms
                         WHERE shared_out < position AND leased_until <= ${NOW_MS} AND ($3::text IS NULL OR room_id = $3)
                         LIMIT $2 FOR UPDATE SKIP LOCKED)
     RETURNING room_id AS "roomId", position, shared_out AS "sharedOut"`,
    [leaseMs, limit, roomId ?? null],
  );
}

/** An event that others are to get: of ours, or of a server whose user came in or left through us. */
export interface OutgoingEvent {
  readonly position: number;
  readonly eventId: EventId;
  readonly sender: UserId;
  readonly type: string;
  readonly stateKey: string | null;
  readonly membership: string | null;
  readonly stateBefore: SnapshotId;
  readonly partial: boolean;
  /** The stay in which it was said. */
  readonly epoch: number;
}

/** Those of a room in `(after, upTo]`, in order. */
export async function readOutgoingEvents(
  sql: Sql,
  roomId: RoomId,
  after: number,
  upTo: number,
): Promise<OutgoingEvent[]> {
  const rows = await sql.query<OutgoingEvent>(
    `SELECT o.position, o.event_id AS "eventId", p.sender, p.type, k.state_key AS "stateKey", p.membership,
            encode(e.state_before, 'hex') AS "stateBefore", e.partial, j.epoch
       FROM outgoing_events o JOIN journal j ON j.position = o.position JOIN pdus p ON p.event_id = o.event_id AND p.room_id = o.room_id
       JOIN event_states e ON e.event_nid = p.nid LEFT JOIN state_keys k ON k.nid = p.state_key_nid
      WHERE o.room_id = $1 AND o.position > $2 AND o.position <= $3 ORDER BY o.position`,
    [roomId, after, upTo],
  );
  return rows.map((row) => ({ ...row, stateKey: row.stateKey === null ? null : fromStorable(row.stateKey) }));
}

/**
 * Where the newest of our events of this stay stands that is accepted, and the first; `undefined`: none is for others. What was said in
 * an earlier stay, and is judged in this one, is not of this stay.
 */
export async function readOutgoingSpan(
  sql: Sql,
  roomId: RoomId,
): Promise<{ readonly first: number; readonly last: number } | undefined> {
  const [row] = await sql.query<{ first: number | null; last: number | null }>(
    `SELECT min(o.position) AS first, max(o.position) FILTER (WHERE e.verdict = 'accepted') AS last
       FROM rooms r
      CROSS JOIN LATERAL (SELECT min(j.position) AS position FROM journal j
                           WHERE j.room_id = r.room_id AND j.stream = 'resync' AND j.epoch = r.epoch) AS stay
       JOIN outgoing_events o ON o.room_id = r.room_id AND o.position >= stay.position
       JOIN event_states e ON e.event_id = o.event_id AND e.room_id = o.room_id
      WHERE r.room_id = $1`,
    [roomId],
  );
  if (row === undefined || row.first === null || row.last === null) return undefined;
  return { first: row.first, last: row.last };
}

/** By stay, the servers that were said to be in the room when we joined it, by everybody who let one of us in since that stay began. */
export async function readServersOfStays(
  sql: Sql,
  roomId: RoomId,
  epochs: readonly number[],
): Promise<ReadonlyMap<number, readonly ServerName[]>> {
  const servers = new Map<number, ServerName[]>();
  if (epochs.length === 0) return servers;
  const rows = await sql.query<{ epoch: number; data: { joinedVia: ServerName; serversInRoom?: ServerName[] } }>(
    `SELECT epoch, data FROM journal
      WHERE room_id = $1 AND epoch = ANY ($2::int[]) AND type IN ('PartialStateJoined', 'ResidentsLearned')`,
    [roomId, epochs],
  );
  for (const { epoch, data } of rows) {
    const { joinedVia, serversInRoom = [] } = data;
    servers.set(epoch, [...(servers.get(epoch) ?? []), joinedVia, ...serversInRoom]);
  }
  return servers;
}

/** Whether the room became whole in `(after, upTo]`. */
export async function becameWhole(sql: Sql, roomId: RoomId, after: number, upTo: number): Promise<boolean> {
  const rows = await sql.query(
    `SELECT FROM journal WHERE room_id = $1 AND stream = 'resync' AND position > $2 AND position <= $3
        AND type = 'ResyncCompleted' LIMIT 1`,
    [roomId, after, upTo],
  );
  return rows.length > 0;
}

/** What servers are owed of a room: its events in `(after, upTo]`, and of what they were not owed before that still nothing. */
export interface Owed {
  readonly servers: readonly ServerName[];
  readonly after: number;
  readonly upTo: number;
  /** Only those that have been owed nothing since this position. */
  readonly unlessOwedSince?: number;
}

/** Writes down what is owed, and that the room is shared out so far. The rows of all servers are one statement. Throws `RoomGoneError`. */
export async function shareOut(tx: Transaction, room: OutgoingRoom, owed: readonly Owed[]): Promise<void> {
  for (const { servers, after, upTo, unlessOwedSince } of owed) {
    await tx.query(
      `WITH server AS (SELECT DISTINCT name FROM unnest($2::text[]) AS i(name) ORDER BY name), known AS (
         INSERT INTO deliveries (server_name, leased_until, failures, retry_at)
         SELECT name, 0, 0, 0 FROM server ON CONFLICT DO NOTHING
       ), skipped AS (
         INSERT INTO destination_skips (server_name, room_id, after, up_to)
         SELECT d.server_name, d.room_id, d.owed, $3::bigint
           FROM server s JOIN destination_rooms d ON d.server_name = s.name AND d.room_id = $1
          WHERE d.sent < d.owed AND d.owed < $4::bigint AND ($5::bigint IS NULL OR d.owed < $5::bigint)
            AND EXISTS (SELECT FROM outgoing_events o
                         WHERE o.room_id = $1 AND o.position > d.owed AND o.position <= $3::bigint)
         ON CONFLICT DO NOTHING
       )
       INSERT INTO destination_rooms AS d (server_name, room_id, sent, owed)
       SELECT name, $1, $3::bigint, $4::bigint FROM server
       ON CONFLICT (server_name, room_id) DO UPDATE
          SET sent = CASE WHEN d.sent < d.owed THEN d.sent ELSE excluded.sent END, owed = excluded.owed
        WHERE d.owed < excluded.owed AND ($5::bigint IS NULL OR d.owed < $5::bigint)`,
      [room.roomId, [...servers], after, upTo, unlessOwedSince ?? null],
    );
  }
  // Last, for appends wait for this row, and with them all others.
  const rooms = await tx.query(
    `UPDATE outgoing_rooms SET shared_out = greatest(shared_out, $2::bigint), leased_until = 0 WHERE room_id = $1 RETURNING 1`,
    [room.roomId, room.position],
  );
  if (rooms.length === 0) throw new RoomGoneError(room.roomId);
}

/** A server that something is to be sent to. */
export interface Delivery {
  readonly serverName: ServerName;
  readonly failures: number;
  readonly failedSince: number | null;
  readonly txnId: string | null;
  readonly txnPositions: readonly number[] | null;
  readonly txnEdus: readonly number[] | null;
  readonly txnPassing: number | null;
}

export interface LeaseDeliveries {
  readonly leaseMs: number;
  readonly limit: number;
  /** Those whose pause after a failure is over by then, milliseconds, of who decides on pauses; absent: whatever it has failed. */
  readonly now?: number;
  /** No other. */
  readonly server?: ServerName;
}

/** Leases servers that are owed something. */
export async function leaseDeliveries(sql: Sql, { now, leaseMs, limit, server }: LeaseDeliveries): Promise<Delivery[]> {
  return sql.query<Delivery>(
    `UPDATE deliveries d SET leased_until = ${NOW_MS} + $1::bigint
      WHERE server_name IN (
        SELECT server_name FROM deliveries f
         WHERE leased_until <= ${NOW_MS} AND ($2::bigint IS NULL OR retry_at <= $2) AND ($4::text IS NULL OR server_name = $4)
           AND (EXISTS (SELECT FROM destination_rooms r WHERE r.server_name = f.server_name AND r.sent < r.owed)
                OR EXISTS (SELECT FROM destination_rooms r
                            WHERE r.server_name = f.server_name AND r.passing_sent < r.passing_owed)
                OR EXISTS (SELECT FROM outgoing_edus e WHERE e.server_name = f.server_name))
         ORDER BY retry_at LIMIT $3 FOR UPDATE SKIP LOCKED)
     RETURNING server_name AS "serverName", failures, failed_since AS "failedSince", txn_id AS "txnId",
               txn_positions AS "txnPositions", txn_edus AS "txnEdus", txn_passing AS "txnPassing"`,
    [leaseMs, now ?? null, limit, server ?? null],
  );
}

/** An event that is owed to a server. */
export interface OwedEvent {
  readonly position: number;
  readonly roomId: RoomId;
}

/** Events that are owed to a server, `$1`, and have not been refused since. */
const OWED = `
    FROM destination_rooms r JOIN outgoing_events o ON o.room_id = r.room_id AND o.position > r.sent AND o.position <= r.owed
    JOIN event_states e ON e.event_id = o.event_id AND e.room_id = o.room_id AND e.verdict = 'accepted'
   WHERE r.server_name = $1 AND r.sent < r.owed
     AND NOT EXISTS (SELECT FROM destination_skips s WHERE s.server_name = $1 AND s.room_id = r.room_id
                        AND s.after < o.position AND s.up_to >= o.position)`;

/** The first ones owed to a server, in order; `newest`: of each room the newest one alone. */
export async function readOwedEvents(
  sql: Sql,
  serverName: ServerName,
  limit: number,
  newest: boolean,
): Promise<OwedEvent[]> {
  return sql.query<OwedEvent>(
    newest
      ? `SELECT * FROM (SELECT DISTINCT ON (r.room_id) o.position, o.room_id AS "roomId" ${OWED}
                         ORDER BY r.room_id, o.position DESC) AS of_rooms ORDER BY position LIMIT $2`
      : `SELECT o.position, o.room_id AS "roomId" ${OWED} ORDER BY o.position LIMIT $2`,
    [serverName, limit],
  );
}

/** Whether a server is owed something of a room, or may be: something was said there that is not shared out. */
export async function isOwed(sql: Sql, roomId: RoomId, serverName: ServerName): Promise<boolean> {
  const rows = await sql.query(
    `SELECT FROM outgoing_rooms WHERE room_id = $1 AND shared_out < position
      UNION ALL
     SELECT FROM destination_rooms WHERE room_id = $1 AND server_name = $2 AND sent < owed`,
    [roomId, serverName],
  );
  return rows.length > 0;
}

/** Outgoing events as they were said, in the order of their positions. */
export async function readOutgoingBodies(sql: Sql, positions: readonly number[]): Promise<GivenBody[]> {
  return sql.query<GivenBody>(
    `SELECT o.event_id AS "eventId", o.room_id AS "roomId", p.json::text AS json
       FROM outgoing_events o JOIN pdus p ON p.event_id = o.event_id AND p.room_id = o.room_id
      WHERE o.position = ANY ($1::bigint[]) ORDER BY o.position`,
    [int8Array(positions)],
  );
}

/** What a transaction carries: events by their positions, EDUs by their numbers, and what passes in rooms up to a number; null: nothing of it. */
export interface Carried {
  readonly positions: readonly number[];
  readonly edus: readonly number[];
  readonly passing: number | null;
}

/** Notes a transaction before it is sent: whoever sends it again sends the same. Renews the lease. */
export async function recordTransaction(
  sql: Sql,
  serverName: ServerName,
  txnId: string,
  { positions, edus, passing }: Carried,
  leaseMs: number,
): Promise<void> {
  await sql.query(
    `UPDATE deliveries SET txn_id = $2, txn_positions = $3::bigint[], txn_edus = $5::bigint[], txn_passing = $6::bigint,
            leased_until = ${NOW_MS} + $4::bigint
      WHERE server_name = $1`,
    [serverName, txnId, int8Array(positions), leaseMs, int8Array(edus), passing],
  );
}

/** Of a server, `$1`, in rooms that are `settled` so far. */
const FORGET_SKIPS = `DELETE FROM destination_skips s USING settled
   WHERE s.server_name = $1 AND s.room_id = settled.room_id AND s.up_to <= settled.sent`;

/** The server has taken a transaction, or never will: what it held is sent. */
export async function settleTransaction(
  tx: Transaction,
  serverName: ServerName,
  { positions, edus, passing }: Carried,
): Promise<void> {
  await deleteEdus(tx, serverName, edus);
  if (passing !== null) await settlePassing(tx, serverName, passing);
  await tx.query(
    `WITH settled AS (
       UPDATE destination_rooms r SET sent = greatest(r.sent, s.position)
         FROM (SELECT room_id, max(position) AS position FROM outgoing_events
                WHERE position = ANY ($2::bigint[]) GROUP BY room_id) AS s
        WHERE r.server_name = $1 AND r.room_id = s.room_id RETURNING r.room_id, r.sent
     ) ${FORGET_SKIPS}`,
    [serverName, int8Array(positions)],
  );
  await tx.query(
    `UPDATE deliveries SET txn_id = NULL, txn_positions = NULL, txn_edus = NULL, txn_passing = NULL, failures = 0, failed_since = NULL, retry_at = 0
      WHERE server_name = $1`,
    [serverName],
  );
}

/** Nothing of what is owed is to be sent any more: it was rejected since. */
export async function settleOwed(sql: Sql, serverName: ServerName): Promise<void> {
  await sql.query(
    `WITH settled AS (
       UPDATE destination_rooms d SET sent = owed
        WHERE server_name = $1 AND sent < owed AND NOT EXISTS (SELECT ${OWED} AND r.room_id = d.room_id)
       RETURNING room_id, sent
     ) ${FORGET_SKIPS}`,
    [serverName],
  );
}

/** It did not take the transaction; nothing is sent to it before `retryAt`. */
export async function postponeDelivery(
  sql: Sql,
  serverName: ServerName,
  { at, retryAt, counts }: { readonly at: number; readonly retryAt: number; readonly counts: boolean },
): Promise<void> {
  await sql.query(
    `UPDATE deliveries SET failures = failures + $4::int, failed_since = coalesce(failed_since, $2::bigint),
            retry_at = $3::bigint
      WHERE server_name = $1`,
    [serverName, at, Math.ceil(retryAt), counts ? 1 : 0],
  );
}

/** Gives a server back. */
export async function endDeliveryLease(sql: Sql, serverName: ServerName): Promise<void> {
  await sql.query(`UPDATE deliveries SET leased_until = 0 WHERE server_name = $1`, [serverName]);
}

/** These servers are heard from again: what they are owed is tried at once. */
export async function retryDeliveries(sql: Sql, serverNames: readonly ServerName[]): Promise<void> {
  await sql.query(
    `WITH well AS (
       UPDATE destinations SET recovered_at = ${NOW_MS}, probed_until = 0
        WHERE server_name = ANY ($1::text[]) AND recovered_at IS NULL
     )
     UPDATE deliveries SET retry_at = 0 WHERE server_name = ANY ($1::text[])`,
    [textArray(serverNames)],
  );
}
