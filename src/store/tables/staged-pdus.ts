/**
 * Events as other servers sent them, waiting for their room's turn. They are stored in the transaction that records the
 * answer to who sent them, so that a kill loses none; a row goes when there is a verdict on its event. Times are the
 * database's: several processes work off one table.
 */
import { type EventId, type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { invariant } from '../../invariant.ts';
import { type Sql, type Store, withTransaction } from '../open-store.ts';
import { NOW_MS, int8Array, textArray } from '../sql-values.ts';
import { displayable } from '../storable-text.ts';
import { forgetOfNothing, readTransactionResponse } from './transactions.ts';

/** So long events wait for one that asks somebody for what it lacks itself: an errand's time, and as much again. */
const ASKS_FOR_MS = 30_000;
/** Whether an open gap `behind` is tried once more: an attempt is counted when it begins. */
export const TRIED_IN_VAIN = `behind.wake_at IS NOT NULL AND behind.attempts > 1`;
/** Of a server that is not known to be in the room: what it says of others' events counts when it has been verified. */
const OF_A_STRANGER = 'from a server that is not known to be in the room';
/**
 * Whether a staged row `s` stands for its event before those that cite it, which wait for it then. Before its first turn it does,
 * unless a stranger pushed it. After that only an event counts that has passed checks 1 to 3, and while it waits for others, or for
 * its turn, or asks for the first time: what is held up itself holds up nobody else, for whoever cites it may know another copy,
 * or the state at it. The same goes for what waits for a gap at which the state was not had: that may be known to nobody.
 */
export const STANDS_FOR_IT = `s.dropped_at IS NULL AND (
    s.reason IS NULL
    OR (s.waits_for <> '{}' OR s.not_before <= ${NOW_MS} OR s.attempts = 1 OR s.received_at > ${NOW_MS} - ${ASKS_FOR_MS})
       AND EXISTS (SELECT FROM pdus p WHERE p.event_id = s.event_id AND p.room_id = s.room_id)
       AND NOT EXISTS (SELECT FROM gaps behind WHERE behind.room_id = s.room_id AND behind.event_id = ANY (s.waits_for)
                                                 AND ${TRIED_IN_VAIN}))`;
/** What waits for other events is released by them; this is when it is looked at if nothing does. */
const LONGEST_WAIT_MS = 6 * 3_600_000;
/** Of a room, for people to see: the newest of each server, by turns, so that whoever floods it hides nobody else's. */
const DROPPED_KEPT = 100;
/**
 * Events of the room `$1` that were given up, of each server the newest first. In each turn servers that are believed to be in the
 * room come before others: names are free.
 */
export const DROPPED_BY_TURNS = `(
  SELECT d.*, row_number() OVER (PARTITION BY origin ORDER BY dropped_at DESC, nid DESC) AS turn,
         NOT EXISTS (SELECT FROM room_servers b WHERE b.room_id = d.room_id AND b.server_name = d.origin) AS is_of_stranger
    FROM staged_pdus d WHERE room_id = $1 AND dropped_at IS NOT NULL
   ORDER BY turn, is_of_stranger, dropped_at DESC, nid DESC)`;

/** Of a server, the newest answers to transactions of which nothing was taken in: as many as may overlap. */
const OF_NOTHING_KEPT = 4;

export interface PduToStage {
  readonly roomId: RoomId;
  readonly eventId: EventId;
  /** JSON text in UTF-8, as received. */
  readonly raw: Uint8Array;
  /** Events, or joins of ours, that must come first; empty: none that is known. */
  readonly waitsFor: readonly EventId[];
}

export interface StagedPdu {
  readonly nid: number;
  readonly eventId: EventId;
  /** Who sent it to us. */
  readonly origin: ServerName;
  readonly raw: Uint8Array;
  /** Turns that ended with a request for what it lacks. */
  readonly attempts: number;
  /** Since it came. */
  readonly ageMs: number;
  /** Since its turn was due. */
  readonly lateMs: number;
  /** It had a turn before, or a stranger pushed it. */
  readonly isTriedBefore: boolean;
}

/** How an event is put back, to have another turn later. */
export interface SetAside {
  readonly nid: number;
  /** Why, for people. */
  readonly reason: string;
  /** It has no turn before one of these is settled; empty: `delayMs` alone counts. */
  readonly waitsFor?: readonly EventId[];
  readonly delayMs?: number;
  /** It asks somebody now, and may not do so for ever. */
  readonly isAttempt?: boolean;
}

/**
 * Records the answer to a transaction and stores its events, all at once. Where another process, or an earlier try, has
 * answered the same transaction, nothing is stored and that answer is given. What was answered without taking anything in is
 * remembered too, since it might be another answer later, but little of it: a server sends the next transaction when this one is
 * answered, and what costs it nothing may not fill a table of ours.
 */
export async function stageTransaction(
  store: Store,
  { origin, txnId, response }: { readonly origin: ServerName; readonly txnId: string; readonly response: JsonObject },
  pdus: readonly PduToStage[],
): Promise<JsonObject> {
  return withTransaction(store, async (tx) => {
    const recorded = await tx.query(
      `INSERT INTO received_transactions (origin, txn_id, response, received_at, is_of_nothing)
       VALUES ($1, $2, $3, ${NOW_MS}, $4) ON CONFLICT DO NOTHING RETURNING txn_id`,
      [origin, txnId, JSON.stringify(response), pdus.length === 0],
    );
    if (recorded.length === 0) {
      const winners = await readTransactionResponse(tx, origin, txnId);
      invariant(winners !== undefined, 'an answer that is in the way is there');
      return winners;
    }
    if (pdus.length === 0) await forgetOfNothing(tx, origin, OF_NOTHING_KEPT);
    await stagePdus(tx, origin, pdus, 'pushed');
    return response;
  });
}

/**
 * Stores events that `origin` sent, in the order given; those of it that wait already stay as they are. `how`: whether we had
 * asked it for them.
 */
export async function stagePdus(
  sql: Sql,
  origin: ServerName,
  pdus: readonly PduToStage[],
  how: 'asked-for' | 'pushed' = 'asked-for',
): Promise<void> {
  if (pdus.length === 0) return;
  // The row of a room is locked, so that nobody takes it away as empty meanwhile.
  await sql.query(
    `WITH room AS (
       INSERT INTO staged_rooms (room_id) SELECT DISTINCT room_id FROM unnest($2::text[]) AS r(room_id) ORDER BY 1
       ON CONFLICT (room_id) DO UPDATE SET room_id = excluded.room_id
     )
     INSERT INTO staged_pdus AS s (room_id, event_id, origin, raw, received_at, waits_for, not_before, reason)
     SELECT i.room_id, i.event_id, $1, i.raw, ${NOW_MS}, i.waits_for::text[],
            CASE i.waits_for WHEN '{}' THEN ${NOW_MS} ELSE ${NOW_MS} + $6 END,
            CASE WHEN $7 AND i.waits_for = '{}'
                  AND NOT EXISTS (SELECT FROM room_servers b WHERE b.room_id = i.room_id AND b.server_name = $1)
                 THEN '${OF_A_STRANGER}' END
       FROM unnest($2::text[], $3::text[], $4::bytea[], $5::text[]) WITH ORDINALITY
            AS i(room_id, event_id, raw, waits_for, ordinal)
      ORDER BY i.ordinal
     ON CONFLICT (room_id, event_id, origin) DO UPDATE
        SET (raw, received_at, waits_for, reason, attempts, not_before, dropped_at) =
            (excluded.raw, excluded.received_at, excluded.waits_for, excluded.reason, 0, excluded.not_before, NULL)
      WHERE s.dropped_at IS NOT NULL`,
    [
      origin,
      textArray(pdus.map(({ roomId }) => roomId)),
      textArray(pdus.map(({ eventId }) => eventId)),
      pdus.map(({ raw }) => Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength)),
      textArray(pdus.map(({ waitsFor }) => textArray(waitsFor))),
      LONGEST_WAIT_MS,
      how === 'pushed',
    ],
  );
}

/**
 * The next events of a room whose lease `holder` has, which is prolonged; none when it has been lost. Servers take turns,
 * each with its oldest, the longest due first: those that flood the room delay nobody else's.
 */
export async function takeStaged(
  sql: Sql,
  roomId: RoomId,
  { holder, leaseMs, limit }: { readonly holder: string; readonly leaseMs: number; readonly limit: number },
): Promise<StagedPdu[]> {
  return sql.query(
    `WITH mine AS (
       UPDATE staged_rooms SET leased_until = ${NOW_MS} + $3 WHERE room_id = $1 AND holder = $2 RETURNING room_id
     ), due AS (
       SELECT nid, not_before, row_number() OVER (PARTITION BY origin ORDER BY nid) AS turn
         FROM staged_pdus WHERE room_id = $1 AND dropped_at IS NULL AND not_before <= ${NOW_MS}
     ), taken AS (
       SELECT * FROM due ORDER BY turn, not_before, nid LIMIT $4
     )
     SELECT s.nid, s.event_id AS "eventId", s.origin, s.raw, s.attempts, ${NOW_MS} - s.received_at AS "ageMs",
            ${NOW_MS} - t.not_before AS "lateMs", s.reason IS NOT NULL AS "isTriedBefore"
       FROM mine CROSS JOIN taken t JOIN staged_pdus s ON s.nid = t.nid
      ORDER BY t.turn, t.not_before, t.nid`,
    [roomId, holder, leaseMs, limit],
  );
}

/**
 * Puts a server whose event began a turn that was cut behind all others of the room whose events are due: its next one counts as
 * due since now. Else its oldest would begin each turn, and those that are cut after one event would be its own alone.
 */
export async function giveWay(sql: Sql, roomId: RoomId, origin: ServerName): Promise<void> {
  await sql.query(
    `UPDATE staged_pdus SET not_before = ${NOW_MS}
      WHERE nid = (SELECT min(nid) FROM staged_pdus
                    WHERE room_id = $1 AND origin = $2 AND dropped_at IS NULL AND not_before <= ${NOW_MS})`,
    [roomId, origin],
  );
}

/** Puts events of a room back, each for its own reason. */
export async function setStagedAside(sql: Sql, rows: readonly SetAside[]): Promise<void> {
  if (rows.length === 0) return;
  await sql.query(
    `UPDATE staged_pdus s
        SET waits_for = i.waits_for::text[], reason = i.reason, attempts = s.attempts + i.attempt,
            not_before = ${NOW_MS} + i.delay_ms
       FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::int[])
            AS i(nid, reason, waits_for, delay_ms, attempt)
      WHERE s.nid = i.nid`,
    [
      int8Array(rows.map(({ nid }) => nid)),
      textArray(rows.map(({ reason }) => displayable(reason))),
      textArray(rows.map(({ waitsFor = [] }) => textArray(waitsFor))),
      int8Array(rows.map(({ delayMs, waitsFor = [] }) => delayMs ?? (waitsFor.length > 0 ? LONGEST_WAIT_MS : 0))),
      int8Array(rows.map(({ isAttempt = false }) => (isAttempt ? 1 : 0))),
    ],
  );
}

/** Gives events a turn after `delayMs`; `wasAttempt` false: nobody was asked for them after all. */
export async function wakeStaged(
  sql: Sql,
  nids: readonly number[],
  { delayMs, wasAttempt }: { readonly delayMs: number; readonly wasAttempt: boolean },
): Promise<void> {
  await sql.query(
    `UPDATE staged_pdus SET not_before = ${NOW_MS} + $2, attempts = attempts - $3
      WHERE nid = ANY ($1::bigint[]) AND waits_for = '{}'`,
    [int8Array(nids), delayMs, wasAttempt ? 0 : 1],
  );
}

export interface Settled {
  /** How many events were released. */
  readonly released: number;
  /** Of the journal: all that was appended up to it has been minded. */
  readonly position: number;
}

/** Gives what is too much for us, which waits for itself, another turn: states that it comes after are others now. */
export async function wakeTooLarge(sql: Sql, roomId: RoomId): Promise<void> {
  await sql.query(
    `UPDATE staged_pdus SET not_before = ${NOW_MS}
      WHERE room_id = $1 AND dropped_at IS NULL AND waits_for = ARRAY[event_id] AND not_before > ${NOW_MS}`,
    [roomId],
  );
}

/**
 * Takes away events on which there is a verdict, and releases up to `limit` of those of the room that wait for nothing any
 * more: for no open gap, no event for which a staged one stands, and no join under way. Events that wait for a released one alone are
 * released with it, in the hope that they can be judged together.
 */
export async function settleStaged(sql: Sql, roomId: RoomId, nids: readonly number[], limit: number): Promise<Settled> {
  const [row] = await sql.query<Settled>(
    `WITH RECURSIVE gone AS (
       DELETE FROM staged_pdus WHERE nid = ANY ($2::bigint[])
     ), ${WAITING},
     next (nid, event_id) AS (
       SELECT nid, event_id FROM waiting WHERE waits = 0
       UNION
       SELECT w.nid, w.event_id FROM next n JOIN waiting w ON w.waits = 1 AND w.pending_id = n.event_id
     ), released AS (
       UPDATE staged_pdus SET not_before = ${NOW_MS}, waits_for = '{}'
        WHERE nid IN (SELECT nid FROM next LIMIT $3) RETURNING nid
     )
     SELECT (SELECT count(*) FROM released) AS released, position FROM journal_head`,
    [roomId, int8Array(nids), limit],
  );
  invariant(row, 'journal_head has its row');
  return row;
}

/**
 * A common table `waiting`: rows that wait for others, how many of these are still to come, and one of them. Whether an event
 * is still to come is asked once for each event that is waited for, not for each row that waits, and of whole sets by
 * grouping: of a table that was just filled PostgreSQL has no statistics and joins row by row, 110 ms for 1,000 rows.
 *
 * An event at which there is a gap itself waits for that alone: where a further join of ours builds on it, it is an anchor
 * already, on which others stand, and has no place of its own before the gap is closed. Of several joins under way the first one
 * that commits releases what waits for them.
 *
 * They are those of the room `$1`; rows in `$2` are as good as deleted.
 */
const WAITING = `
     wait AS MATERIALIZED (
       SELECT w.nid, w.event_id, awaited.event_id AS awaited
         FROM staged_pdus w CROSS JOIN unnest(w.waits_for) AS awaited(event_id)
        WHERE w.room_id = $1 AND w.nid <> ALL ($2::bigint[]) AND w.dropped_at IS NULL AND w.waits_for <> '{}'
     ), to_come AS MATERIALIZED (
       SELECT event_id, bool_or(is_gap) AS is_gap
         FROM (SELECT awaited AS event_id, true AS is_awaited, false AS is_to_come, false AS is_gap FROM wait
               UNION ALL
               SELECT s.event_id, false, true, false FROM staged_pdus s
                WHERE s.room_id = $1 AND s.nid <> ALL ($2::bigint[]) AND s.dropped_at IS NULL
               UNION ALL
               SELECT g.event_id, false, true, true FROM gaps g WHERE g.room_id = $1 AND g.wake_at IS NOT NULL) AS known
        GROUP BY event_id HAVING bool_or(is_awaited) AND bool_or(is_to_come)
     ), pending AS MATERIALIZED (
       SELECT event_id FROM to_come t
        WHERE NOT EXISTS (SELECT FROM event_states e WHERE e.event_id = t.event_id AND e.room_id = $1)
          AND NOT EXISTS (SELECT FROM anchors a WHERE a.event_id = t.event_id AND a.room_id = $1)
          AND (is_gap OR EXISTS (SELECT FROM staged_pdus s
                                  WHERE s.room_id = $1 AND s.event_id = t.event_id AND s.nid <> ALL ($2::bigint[])
                                    AND ${STANDS_FOR_IT}))
       UNION
       SELECT awaited FROM wait
        WHERE awaited IN (SELECT event_id FROM join_intents WHERE what = 'join')
          AND NOT EXISTS (SELECT FROM local_members m WHERE m.room_id = $1 AND m.membership = 'join')
     ), waiting AS MATERIALIZED (
       SELECT w.nid, w.event_id, count(awaited) FILTER (WHERE is_pending) AS waits,
              min(awaited) FILTER (WHERE is_pending) AS pending_id
         FROM (SELECT w.*, CASE WHEN own.event_id IS NULL THEN p.event_id IS NOT NULL
                                ELSE own.wake_at IS NOT NULL END AS is_pending
                 FROM wait w LEFT JOIN pending p ON p.event_id = w.awaited
                 LEFT JOIN gaps own ON own.room_id = $1 AND own.event_id = w.awaited AND w.awaited = w.event_id) AS w
        GROUP BY w.nid, w.event_id
     )`;

/** Gives events up, each for a reason that people can read; their texts go, and so do the oldest of whoever has many. */
export async function dropStaged(
  sql: Sql,
  roomId: RoomId,
  rows: readonly { readonly nid: number; readonly reason: string }[],
): Promise<void> {
  if (rows.length === 0) return;
  await sql.query(
    `UPDATE staged_pdus s SET dropped_at = ${NOW_MS}, reason = i.reason, raw = '', waits_for = '{}'
       FROM unnest($1::bigint[], $2::text[]) AS i(nid, reason) WHERE s.nid = i.nid`,
    [int8Array(rows.map(({ nid }) => nid)), textArray(rows.map(({ reason }) => displayable(reason)))],
  );
  await sql.query(`DELETE FROM staged_pdus WHERE nid IN (SELECT nid FROM ${DROPPED_BY_TURNS} AS by_turns OFFSET $2)`, [
    roomId,
    DROPPED_KEPT,
  ]);
}

/** Forgets what was given up before `olderThanMs` ago, and rooms of which nothing is staged; gives how many events. */
export async function pruneStaged(store: Store, olderThanMs: number): Promise<number> {
  return withTransaction(store, async (tx) => {
    const pruned = await tx.query(`DELETE FROM staged_pdus WHERE dropped_at < ${NOW_MS} - $1::bigint RETURNING nid`, [
      olderThanMs,
    ]);
    // Locked first: whoever stages for a room meanwhile waits, and the next statement sees who came before.
    const rooms = await tx.query<{ roomId: RoomId }>(
      `SELECT room_id AS "roomId" FROM staged_rooms r
        WHERE leased_until < ${NOW_MS} - $1::bigint
          AND NOT EXISTS (SELECT FROM staged_pdus s WHERE s.room_id = r.room_id)
          FOR UPDATE SKIP LOCKED`,
      [olderThanMs],
    );
    await tx.query(
      `DELETE FROM staged_rooms r WHERE room_id = ANY ($1::text[])
          AND NOT EXISTS (SELECT FROM staged_pdus s WHERE s.room_id = r.room_id)`,
      [rooms.map(({ roomId }) => roomId)],
    );
    return pruned.length;
  });
}
