/**
 * Events that residents name in a room's state and nobody gave us in a form that can be used: first those that are missing so
 * far, then, once the room goes on without them, those that are looked for on.
 */
import { type EventId, type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { type MissingWhy } from '../../resync/degraded.ts';
import { type Sql } from '../open-store.ts';
import { inPages } from '../pages.ts';
import { fromStorable, storable } from '../storable-text.ts';
import { deleteOlder } from '../tables/delete-older.ts';

/** Ids in one query: those of a state are megabytes. */
const CITING_AT_A_TIME = 20_000;
/** Servers remembered for an event, with those of one more answer: more than anybody asks for. */
const ASKED_OF_MAX = 10;

export interface MissingEvent {
  readonly eventId: EventId;
  readonly why: MissingWhy;
  /** Of a copy that came and could not be used; `null`: none came. */
  readonly type: string | null;
  /** Milliseconds since the Unix epoch. */
  readonly since: number;
  /** Servers that answered and did not give it, or gave what cannot be used; the first few. */
  readonly askedOf: readonly ServerName[];
  /** Servers in whose states it was named; the first few. */
  readonly namedBy: readonly ServerName[];
  /** The gap at which the state lacks it, where it is no lack of the room; `null`: it is. */
  readonly gapId: EventId | null;
  /** When it was stored and judged after all; its places in the states are a correction. */
  readonly foundAt: number | null;
}

export interface MissingInRoom {
  readonly roomId: RoomId;
  readonly epoch: number;
  /** The gap whose state lacks them, and not the room; absent: the room does. */
  readonly gapId?: EventId;
  readonly missing: ReadonlyMap<EventId, MissingWhy>;
  readonly at: number;
}

const COLUMNS = `event_id AS "eventId", why, type, since, asked_of AS "askedOf", named_by AS "namedBy",
  gap_id AS "gapId", found_at AS "foundAt"`;

/** An event that is wanted and was not had in a form that can be used. */
export interface LackedEvent {
  readonly eventId: EventId;
  readonly why: MissingWhy;
  /** Known of a copy that came; `null`: none did, or it has none. */
  readonly type: string | null;
  /** Servers that have had their say: they do not give it, or gave what cannot be used. No answer, or a late one, is none. */
  readonly askedOf: readonly ServerName[];
}

/**
 * Notes what an answer of `resident` lacks, and gives it as it is known now. What was known of an event's type stays known.
 */
export async function recordMissing(
  sql: Sql,
  about: { readonly roomId: RoomId; readonly epoch: number; readonly resident: ServerName; readonly at: number },
  lacked: readonly LackedEvent[],
): Promise<MissingEvent[]> {
  const { roomId, epoch, resident, at } = about;
  const rows = await sql.query<MissingEvent>(
    `INSERT INTO missing_events AS m (room_id, event_id, epoch, why, type, since, asked_of, named_by, is_given_up)
     SELECT $1, event_id, $2, why, type, $5::bigint, ARRAY(SELECT json_array_elements_text(asked_of)), ARRAY[$9], false
       FROM unnest($3::text[], $4::text[], $7::text[], $8::json[]) AS i(event_id, why, type, asked_of)
      ORDER BY event_id
     ON CONFLICT (room_id, event_id) DO UPDATE
        SET why = excluded.why, epoch = excluded.epoch, type = coalesce(excluded.type, m.type),
            asked_of = CASE WHEN excluded.asked_of <@ m.asked_of OR cardinality(m.asked_of) >= $6 THEN m.asked_of
                            ELSE m.asked_of || ARRAY(SELECT unnest(excluded.asked_of) EXCEPT SELECT unnest(m.asked_of)) END,
            named_by = CASE WHEN $9 = ANY (m.named_by) OR cardinality(m.named_by) >= $6 THEN m.named_by
                            ELSE m.named_by || ARRAY[$9] END
     RETURNING ${COLUMNS}`,
    [
      roomId,
      epoch,
      lacked.map(({ eventId }) => eventId),
      lacked.map(({ why }) => why),
      at,
      ASKED_OF_MAX,
      lacked.map(({ type }) => (type === null ? null : storable(type))),
      lacked.map(({ askedOf }) => JSON.stringify(askedOf)),
      resident,
    ],
  );
  return rows.map(fromRow);
}

function fromRow(row: MissingEvent): MissingEvent {
  return { ...row, type: row.type === null ? null : fromStorable(row.type) };
}

/** The room, or the state at a gap, goes on without these; from now on they are looked for. What the room lacks it does still. */
export async function giveUpMissing(sql: Sql, { roomId, epoch, gapId, missing, at }: MissingInRoom): Promise<void> {
  if (missing.size === 0) return;
  await sql.query(
    `INSERT INTO missing_events AS m (room_id, event_id, epoch, why, since, asked_of, is_given_up, gap_id)
     SELECT $1, event_id, $2, why, $5::bigint, '{}', true, $6 FROM unnest($3::text[], $4::text[]) AS i(event_id, why)
      ORDER BY event_id
     ON CONFLICT (room_id, event_id) DO UPDATE
        SET is_given_up = true, why = excluded.why,
            gap_id = CASE WHEN m.is_given_up AND m.gap_id IS NULL THEN NULL ELSE excluded.gap_id END`,
    [roomId, epoch, [...missing.keys()], [...missing.values()], at, gapId ?? null],
  );
}

/** Those of the events that at least `count` servers have named in their states. */
export async function namedBySeveral(
  sql: Sql,
  roomId: RoomId,
  eventIds: readonly EventId[],
  count: number,
): Promise<Set<EventId>> {
  const rows = await sql.query<{ eventId: EventId }>(
    `SELECT event_id AS "eventId" FROM missing_events
      WHERE room_id = $1 AND event_id = ANY ($2::text[]) AND cardinality(named_by) >= $3`,
    [roomId, eventIds, count],
  );
  return new Set(rows.map(({ eventId }) => eventId));
}

/** A new stay stands on states of an earlier one: what these were given up without is looked for on. */
export async function carryGivenUp(sql: Sql, roomId: RoomId, epoch: number): Promise<void> {
  await forgetMissingSoFar(sql, roomId);
  await sql.query(`UPDATE missing_events SET epoch = $2 WHERE room_id = $1`, [roomId, epoch]);
}

/** A new stay has its states from residents: what these lack is found out anew. */
export async function forgetMissing(sql: Sql, roomId: RoomId): Promise<void> {
  await sql.query(`DELETE FROM missing_events WHERE room_id = $1`, [roomId]);
}

/** Every state was had without these after all: they are missing no longer. */
export async function forgetMissingSoFar(sql: Sql, roomId: RoomId): Promise<void> {
  await sql.query(`DELETE FROM missing_events WHERE room_id = $1 AND NOT is_given_up`, [roomId]);
}

/**
 * Forgets up to `limit` events that answers lacked so far, in rooms of which no state is asked for any more: the state came
 * without them, or the gap was given up, filled or made way. Gives how many.
 */
export async function forgetUnsought(sql: Sql, limit: number): Promise<number> {
  const [row] = await sql.query<{ count: number }>(
    `WITH gone AS (
       DELETE FROM missing_events WHERE NOT is_given_up AND (room_id, event_id) IN (
         SELECT m.room_id, m.event_id FROM missing_events m JOIN rooms r ON r.room_id = m.room_id
           LEFT JOIN resyncs y ON y.room_id = r.room_id AND y.epoch = r.epoch
          WHERE NOT m.is_given_up AND (NOT r.partial OR y.phase = 'ended')
            AND NOT EXISTS (SELECT FROM gaps g WHERE g.room_id = m.room_id AND g.wake_at IS NOT NULL)
          LIMIT $1) RETURNING 1)
     SELECT count(*) AS count FROM gone`,
    [limit],
  );
  return row?.count ?? 0;
}

/** What the room goes on without, found meanwhile or not; those first that are still missing, and longest. */
export async function readGivenUp(sql: Sql, roomId: RoomId, limit: number): Promise<MissingEvent[]> {
  const rows = await sql.query<MissingEvent>(
    `SELECT ${COLUMNS} FROM missing_events WHERE room_id = $1 AND is_given_up
      ORDER BY found_at IS NOT NULL, since, event_id LIMIT $2`,
    [roomId, limit],
  );
  return rows.map(fromRow);
}

/** Some of those that the room goes on without and that were not found yet, from the `skip`th on; those that only a gap lacks last. */
export async function readLacking(
  sql: Sql,
  roomId: RoomId,
  { skip, limit, ofRoom = false }: { readonly skip: number; readonly limit: number; readonly ofRoom?: boolean },
): Promise<MissingEvent[]> {
  const rows = await sql.query<MissingEvent>(
    `SELECT ${COLUMNS} FROM missing_events
      WHERE room_id = $1 AND is_given_up AND found_at IS NULL AND (gap_id IS NULL OR NOT $4)
      ORDER BY gap_id IS NOT NULL, since, event_id OFFSET $2 LIMIT $3`,
    [roomId, skip, limit, ofRoom],
  );
  return rows.map(fromRow);
}

/** How many events the room goes on without that were not found yet, and how many beside them states at gaps. */
export async function countLacking(
  sql: Sql,
  roomId: RoomId,
): Promise<{ readonly ofRoom: number; readonly atGaps: number }> {
  const [row] = await sql.query<{ ofRoom: number; atGaps: number }>(
    `SELECT count(*) FILTER (WHERE gap_id IS NULL) AS "ofRoom", count(gap_id) AS "atGaps"
       FROM missing_events WHERE room_id = $1 AND is_given_up AND found_at IS NULL`,
    [roomId],
  );
  return row ?? { ofRoom: 0, atGaps: 0 };
}

/** Forgets up to `limit` events that states at gaps were taken without before `before`, milliseconds. Gives how many. */
export function forgetLackingAtGaps(sql: Sql, before: number, limit: number): Promise<number> {
  const table = { table: 'missing_events', time: 'since', also: 'gap_id IS NOT NULL AND is_given_up' };
  return deleteOlder(sql, table, before, limit);
}

/** They are stored and judged now. */
export async function markFound(sql: Sql, roomId: RoomId, eventIds: readonly EventId[], at: number): Promise<void> {
  await sql.query(
    `UPDATE missing_events SET found_at = $3 WHERE room_id = $1 AND event_id = ANY ($2::text[]) AND found_at IS NULL`,
    [roomId, eventIds, at],
  );
}

export interface LackingEverywhere {
  readonly lacking: number;
  /** Rooms that lack them. */
  readonly degraded: number;
  /** Since when the longest of them is missing; `null`: there is none. */
  readonly oldestLackingSince: number | null;
}

/** Of all rooms: what they go on without and nobody has found; found by an index that holds nothing else. */
export async function countLackingEverywhere(sql: Sql): Promise<LackingEverywhere> {
  const [row] = await sql.query<LackingEverywhere>(
    `SELECT count(*) AS lacking, count(DISTINCT room_id) AS degraded, min(since) AS "oldestLackingSince" FROM missing_events 
       WHERE is_given_up AND found_at IS NULL AND gap_id IS NULL`,
  );
  return row ?? { lacking: 0, degraded: 0, oldestLackingSince: null };
}

/** Those of `eventIds` that events among `citing` of the room name as auth events. */
export async function citedAsAuthEvents(
  sql: Sql,
  roomId: RoomId,
  eventIds: readonly EventId[],
  citing: Iterable<EventId>,
): Promise<Set<EventId>> {
  const cited = new Set<EventId>();
  for (const page of inPages(citing, CITING_AT_A_TIME)) {
    const rows = await sql.query<{ eventId: EventId }>(
      `SELECT DISTINCT a.event_id AS "eventId"
         FROM pdus p CROSS JOIN unnest(p.auth_events) AS a(event_id)
        WHERE p.room_id = $1 AND p.event_id = ANY ($2::text[]) AND a.event_id = ANY ($3::text[])`,
      [roomId, page, eventIds],
    );
    for (const { eventId } of rows) cited.add(eventId);
  }
  return cited;
}
