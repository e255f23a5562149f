/**
 * Events by id. Writing is set-based and idempotent: a batch is a few statements whatever its size, and a batch that is
 * stored already changes nothing.
 */
import { type EventId, type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type CheckedPdu } from '../../verification/contract.ts';
import { type Sql, type Transaction, constraintOf } from '../open-store.ts';
import { type Verdict } from './event-states.ts';
import { CITED, IN_PASSING, VERDICT } from './auth-events.ts';
import { noteVerdicts } from './corrections.ts';
import { type PduNumbers, copyPdus } from './copy-pdus.ts';
import { insertFew } from './insert-few.ts';
import { booleanArray, int8Array, textArray } from '../sql-values.ts';
import { displayable, fromStorable } from '../storable-text.ts';

/** Ids in one query: those of a state are megabytes. */
const LOOKED_UP_AT_A_TIME = 20_000;
/** Events in one statement, by array parameters. */
const INSERTED_AT_A_TIME = 2_000;
/** Verdicts in one statement. */
const RECORDED_AT_A_TIME = 20_000;

/**
 * Above this COPY is quicker than array parameters: 100,000 events in batches of 500 take 1.2 s of this process's time
 * against 1.7 s. At 200 both take the same.
 */
const FEW_ROWS_MAX = 200;

/** What `insertPdus` did; the two add up to the distinct events given. */
export interface InsertedPdus {
  /** Written now: events that were not there, and hollow ones that are complete now. */
  readonly stored: number;
  readonly alreadyHeld: number;
  /** Of the events that were not there; of few at a time it is not told. */
  readonly numbers: readonly PduNumbers[];
}

/** An event as it is stored. */
export interface StoredPdu {
  readonly eventId: EventId;
  readonly nid: number;
  readonly roomId: RoomId;
  /** As received after the checks, byte for byte; redacted when `hollow`. */
  readonly json: string;
  readonly type: string;
  /** `null`: not a state event. */
  readonly stateKey: string | null;
  /** The number of its place in a state; `null`: not a state event. */
  readonly stateKeyNid: number | null;
  readonly sender: UserId;
  readonly membership: string | null;
  readonly prevEvents: readonly EventId[];
  readonly authEvents: readonly EventId[];
  readonly hollow: boolean;
  /** As it counts for who cites the event (auth-events.ts). Only what is accepted proves anything. */
  readonly verdict: 'unjudged' | Verdict;
  /** Nothing is known of it but its verdict in the timeline, which is provisional. */
  readonly isProvisional: boolean;
  /** Nobody but who pushed what cites it has named it. */
  readonly isCitedOnly: boolean;
  /** Greater than that of every event in its auth chain; `null`: not known. */
  readonly authDepth: number | null;
}

/** The verdict on an outlier, judged by its auth events only. */
export interface OutlierVerdict {
  readonly eventId: EventId;
  readonly verdict: Verdict;
  readonly authDepth: number | null;
  /** Present when it is rejected, or `IN_PASSING` or `CITED`. */
  readonly rule?: string | undefined;
  readonly reason?: string | undefined;
  /** The number of the event, where it is known: then it is not looked up. */
  readonly nid?: number | undefined;
}

/**
 * `news`: what was recorded of what states lack, or somebody awaits (left-out.ts). Strangers have a say in how much that is: whether
 * one of them was recorded is asked for each that was, by its id. A room of which nothing is awaited pays for neither; by EXISTS it
 * would pay for other rooms, since the planner expects one of its rows anywhere in the table: 40 ms in a million.
 */
const RECORD_VERDICTS = `
  WITH given AS MATERIALIZED (
    SELECT v.*, coalesce(v.number, (SELECT nid FROM pdus WHERE event_id = v.event_id AND room_id = $1)) AS nid
      FROM unnest($2::text[], $3::boolean[], $4::int[], $5::text[], $6::text[], $7::bigint[])
           WITH ORDINALITY AS v(event_id, accepted, auth_depth, rule, reason, number, ordinality)
  ), recorded AS (
    INSERT INTO outlier_verdicts (event_nid, verdict, auth_depth, rule, reason)
    SELECT g.nid, CASE WHEN g.accepted IS FALSE THEN 'rejected' ELSE 'accepted' END, g.auth_depth, g.rule, g.reason
      FROM given g WHERE g.nid IS NOT NULL ORDER BY g.nid
    ON CONFLICT (event_nid) DO UPDATE SET rule = excluded.rule, reason = excluded.reason, verdict = excluded.verdict
     WHERE outlier_verdicts.rule = '${IN_PASSING}' AND excluded.rule IS DISTINCT FROM '${IN_PASSING}'
        OR outlier_verdicts.rule = '${CITED}' AND (excluded.rule IS NULL OR excluded.rule NOT IN ('${IN_PASSING}', '${CITED}'))
    RETURNING event_nid, rule IS DISTINCT FROM '${IN_PASSING}' AS is_final
  ), news AS MATERIALIZED (
    SELECT p.event_id, h.position, r.is_final
      FROM journal_head h
     CROSS JOIN recorded r
     CROSS JOIN LATERAL (SELECT event_id FROM pdus WHERE nid = r.event_nid OFFSET 0) AS p
     WHERE ((SELECT min(event_id) FROM awaited_events WHERE room_id = $1) IS NOT NULL
            OR (SELECT min(event_id) FROM left_out WHERE room_id = $1) IS NOT NULL)
       AND ((SELECT count(*) FROM awaited_events w WHERE w.room_id = $1 AND w.event_id = p.event_id) > 0
            OR (SELECT count(*) FROM left_out l WHERE l.room_id = $1 AND l.event_id = p.event_id) > 0)
  ), settled AS (
    DELETE FROM awaited_events WHERE ctid = ANY (ARRAY(
      SELECT w.ctid FROM news n
       CROSS JOIN LATERAL (SELECT ctid FROM awaited_events WHERE room_id = $1 AND event_id = n.event_id OFFSET 0) AS w
       WHERE n.is_final))
  ), noted AS (${noteVerdicts('SELECT event_id, position FROM news')}
    RETURNING 1
  )
  SELECT ARRAY(SELECT g.ordinality
                 FROM given g
                WHERE (SELECT count(*) FROM recorded) < (SELECT count(*) FROM given) AND g.nid IS NOT NULL
                  AND NOT EXISTS (SELECT FROM recorded r WHERE r.event_nid = g.nid)) AS others,
         EXISTS (SELECT FROM noted) AS "isNoted"`;

/**
 * Stores events. Idempotent; a hollow event is completed by a body that matches. Writers of overlapping batches wait for
 * each other: each takes state keys, then events, in the order of their names. Where two orders differ (copy-pdus.ts), one is run again.
 */
export async function insertPdus(sql: Sql, pdus: readonly CheckedPdu[]): Promise<InsertedPdus> {
  const distinct = new Map<EventId, CheckedPdu>();
  for (const pdu of pdus) {
    if (distinct.get(pdu.eventId)?.hollow !== false) distinct.set(pdu.eventId, pdu);
  }
  if (distinct.size === 0) return { stored: 0, alreadyHeld: 0, numbers: [] };
  const all = [...distinct.values()];
  // In an open transaction COPY would cost it all when another writer is quicker.
  const numbers = all.length > FEW_ROWS_MAX && !isOpen(sql) ? await copyIfNew(sql, all) : [];
  if (numbers.length > 0) return { stored: numbers.length, alreadyHeld: 0, numbers };
  let stored = 0;
  for (let start = 0; start < all.length; start += INSERTED_AT_A_TIME) {
    stored += await insertFew(sql, all.slice(start, start + INSERTED_AT_A_TIME));
  }
  return { stored, alreadyHeld: all.length - stored, numbers };
}

function isOpen(sql: Sql | Transaction): sql is Transaction {
  return 'client' in sql;
}

/** None where one of them is there already, or another writer is quicker with it. */
async function copyIfNew(sql: Sql, pdus: readonly CheckedPdu[]): Promise<PduNumbers[]> {
  try {
    return await sql.inTransaction((tx) => copyPdus(tx, pdus));
  } catch (error) {
    if (constraintOf(error) !== 'pdus_by_event_id') throw error;
    return [];
  }
}

export interface HeldEvents {
  /** Events of the room, stored with their body; a hollow event does not count as held. */
  readonly held: ReadonlySet<EventId>;
  /** Stored as events of another room: the room can have none under these ids, here at least. */
  readonly foreign: ReadonlySet<EventId>;
}

/** What is stored under `ids`, as the room sees it. */
export async function readHeldEvents(sql: Sql, roomId: RoomId, ids: readonly EventId[]): Promise<HeldEvents> {
  const held = new Set<EventId>();
  const foreign = new Set<EventId>();
  for (let start = 0; start < ids.length; start += LOOKED_UP_AT_A_TIME) {
    const rows = await sql.query<{ eventId: EventId; isForeign: boolean }>(
      `SELECT event_id AS "eventId", room_id <> $2 AS "isForeign"
         FROM pdus WHERE event_id = ANY ($1::text[]) AND (room_id <> $2 OR NOT hollow)`,
      [ids.slice(start, start + LOOKED_UP_AT_A_TIME), roomId],
    );
    for (const { eventId, isForeign } of rows) (isForeign ? foreign : held).add(eventId);
  }
  return { held, foreign };
}

/** Those of `ids` that are events of the room and stored with their body. */
export async function heldEventIds(sql: Sql, roomId: RoomId, ids: readonly EventId[]): Promise<ReadonlySet<EventId>> {
  return (await readHeldEvents(sql, roomId, ids)).held;
}

/** The room of a stored event. */
export async function readRoomOfEvent(sql: Sql, eventId: EventId): Promise<RoomId | undefined> {
  const [row] = await sql.query<{ roomId: RoomId }>(`SELECT room_id AS "roomId" FROM pdus WHERE event_id = $1`, [
    eventId,
  ]);
  return row?.roomId;
}

/**
 * The stored ones of `ids` that are events of the room, in no particular order: an event of another room is as good as none.
 * Many thousands are read in pages.
 */
export async function readPdus(sql: Sql, roomId: RoomId, ids: readonly EventId[]): Promise<StoredPdu[]> {
  if (ids.length === 0) return [];
  return (
    await sql.query<StoredRow>(
      `SELECT ${COLUMNS} FROM ${TABLES} WHERE p.room_id = $1 AND p.event_id = ANY ($2::text[])`,
      [roomId, ids],
    )
  ).map(fromRow);
}

/** Who sent those of the events that are held. */
export async function readSenders(
  sql: Sql,
  roomId: RoomId,
  ids: readonly EventId[],
): Promise<ReadonlyMap<EventId, UserId>> {
  const rows = await sql.query<{ eventId: EventId; sender: UserId }>(
    `SELECT event_id AS "eventId", sender FROM pdus WHERE room_id = $1 AND event_id = ANY ($2::text[])`,
    [roomId, ids],
  );
  return new Map(rows.map(({ eventId, sender }) => [eventId, sender]));
}

/** An event with what its place in the graph says, whether or not it has been taken in. */
export interface PlacedPdu extends StoredPdu {
  /** Events of the timeline cite it as a parent. */
  readonly isCited: boolean;
  /** It is a missing event at which the state is looked for, or was until that was given up; `null`: neither. */
  readonly gap: 'open' | 'given-up' | null;
  /** Why it is rejected as an outlier. */
  readonly rule: string | null;
  readonly reason: string | null;
}

/** Those of the events that are stored as events of another room. */
export async function heldElsewhere(sql: Sql, roomId: RoomId, ids: readonly EventId[]): Promise<EventId[]> {
  if (ids.length === 0) return [];
  const rows = await sql.query<{ eventId: EventId }>(
    `SELECT event_id AS "eventId" FROM pdus WHERE event_id = ANY ($2::text[]) AND room_id <> $1`,
    [roomId, textArray(ids)],
  );
  return rows.map(({ eventId }) => eventId);
}

/** As `readPdus`, of `ids` and of the auth events that these cite, in one statement. */
export async function readPdusAndAuthEvents(sql: Sql, roomId: RoomId, ids: readonly EventId[]): Promise<PlacedPdu[]> {
  if (ids.length === 0) return [];
  const rows = await sql.query<StoredRow & Omit<PlacedPdu, keyof StoredPdu>>(
    `SELECT ${COLUMNS}, o.rule, o.reason,
            EXISTS (SELECT FROM event_edges c WHERE c.room_id = $1 AND c.prev_event_id = p.event_id) AS "isCited",
            (SELECT CASE WHEN g.wake_at IS NULL THEN 'given-up' ELSE 'open' END
               FROM gaps g WHERE g.room_id = $1 AND g.event_id = p.event_id) AS gap
       FROM ${TABLES}
      WHERE p.room_id = $1 AND p.event_id = ANY (ARRAY(
              SELECT unnest($2::text[])
               UNION
              SELECT unnest(auth_events) FROM pdus WHERE room_id = $1 AND event_id = ANY ($2::text[])))`,
    [roomId, ids],
  );
  return rows.map((row) => ({ ...row, ...fromRow(row) }));
}

type StoredRow = Omit<StoredPdu, 'prevEvents' | 'authEvents'> & { prevs: string; auths: string };

const COLUMNS = `
         p.event_id AS "eventId", p.nid, p.room_id AS "roomId", p.json::text AS json, p.type,
         k.state_key AS "stateKey", p.state_key_nid AS "stateKeyNid", p.sender, p.membership, array_to_string(p.prev_events, E'\\n') AS prevs,
         array_to_string(p.auth_events, E'\\n') AS auths, p.hollow, ${VERDICT} AS verdict,
         e.partial IS TRUE AND (o.verdict IS NULL OR o.rule = '${IN_PASSING}') IS TRUE AS "isProvisional",
         (o.rule = '${CITED}') IS TRUE AS "isCitedOnly", coalesce(e.auth_depth, o.auth_depth) AS "authDepth"`;

const TABLES = `
         pdus p LEFT JOIN state_keys k ON k.nid = p.state_key_nid LEFT JOIN event_states e ON e.event_nid = p.nid
    LEFT JOIN outlier_verdicts o ON o.event_nid = p.nid`;

function fromRow({ prevs, auths, ...row }: StoredRow): StoredPdu {
  return {
    ...row,
    type: fromStorable(row.type),
    stateKey: row.stateKey === null ? null : fromStorable(row.stateKey),
    membership: row.membership === null ? null : fromStorable(row.membership),
    prevEvents: splitIds(prevs),
    authEvents: splitIds(auths),
  };
}

/** Ids hold no control characters. The driver's parser of arrays took a third of the time of reading events. */
function splitIds(lines: string): EventId[] {
  return lines === '' ? [] : (lines.split('\n') as EventId[]);
}

/** Held events that are looked at: far more than one follows the other and claims a lower depth. */
const LOW_MAX = 2_000;

/** Those of `eventIds` that are held and claim at least the depth, or follow one that does, through held ones that do not. */
export async function readFollowing(
  sql: Sql,
  roomId: RoomId,
  eventIds: readonly EventId[],
  depth: number,
): Promise<Set<EventId>> {
  if (eventIds.length === 0) return new Set();
  const rows = await sql.query<{ eventId: EventId }>(
    `WITH RECURSIVE before (root, depth, prev_events) AS (
       SELECT event_id, depth, prev_events FROM pdus WHERE room_id = $1 AND event_id = ANY ($2::text[])
       UNION
       SELECT b.root, p.depth, p.prev_events
         FROM before b CROSS JOIN LATERAL unnest(b.prev_events) AS cited(event_id)
        CROSS JOIN LATERAL (SELECT depth, prev_events FROM pdus
                             WHERE room_id = $1 AND event_id = cited.event_id OFFSET 0) AS p
        WHERE b.depth < $3::bigint
     )
     SELECT DISTINCT root AS "eventId" FROM (SELECT * FROM before LIMIT ${LOW_MAX}) AS looked WHERE depth >= $3::bigint`,
    [roomId, textArray(eventIds), depth],
  );
  return new Set(rows.map(({ eventId }) => eventId));
}

/**
 * Records what outliers were judged to be by their auth events. The first verdict on an event stays, but one made in passing. Where states lack the event,
 * or what they lack waits for it, whoever judged it, it is noted as a change (`correction_causes`), and the store's observer is told:
 * the states are looked at.
 * Gives those that had a verdict.
 */
export async function recordOutlierVerdicts(
  sql: Sql,
  roomId: RoomId,
  verdicts: readonly OutlierVerdict[],
): Promise<EventId[]> {
  const otherwise: EventId[] = [];
  for (let start = 0; start < verdicts.length; start += RECORDED_AT_A_TIME) {
    const some = verdicts.slice(start, start + RECORDED_AT_A_TIME);
    const [outcome] = await sql.query<{ others: number[]; isNoted: boolean }>(RECORD_VERDICTS, [
      roomId,
      // Most are numbered and accepted, and of these nothing else is sent.
      textArray(some.map(({ eventId, nid }) => (nid === undefined ? eventId : null))),
      some.every(isAccepted) ? null : booleanArray(some.map(isAccepted)),
      int8Array(some.map(({ authDepth }) => authDepth)),
      textsOrNone(some.map(({ rule }) => rule)),
      textsOrNone(some.map(({ reason }) => reason)),
      int8Array(some.map(({ nid }) => nid ?? null)),
    ]);
    for (const ordinality of outcome?.others ?? []) {
      const other = some[ordinality - 1];
      if (other !== undefined) otherwise.push(other.eventId);
    }
    if (outcome?.isNoted === true) sql.tellOfCorrection(roomId);
  }
  return otherwise;
}

function isAccepted({ verdict }: OutlierVerdict): boolean {
  return verdict === 'accepted';
}

function textsOrNone(texts: readonly (string | undefined)[]): string | null {
  if (texts.every((text) => text === undefined)) return null;
  return textArray(texts.map((text) => (text === undefined ? null : displayable(text))));
}
