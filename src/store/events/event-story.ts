/** What is known of one event, wherever it is: for people who ask what became of it. */
import { type EventId, type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { type EntryType } from '../../resync/entries.ts';
import { type RecordedEntry } from '../journal/journal-pages.ts';
import { type Sql } from '../open-store.ts';
import { int8Array, textArray } from '../sql-values.ts';

/** The room in which an event id means something here; `undefined`: none. One that we hold counts first. */
export async function findRoomOfEvent(sql: Sql, eventId: EventId): Promise<RoomId | undefined> {
  const [row] = await sql.query<{ roomId: RoomId }>(
    `SELECT room_id AS "roomId" FROM (
       SELECT room_id, 1 AS rank FROM pdus WHERE event_id = $1
       UNION ALL SELECT room_id, 2 FROM gaps WHERE event_id = $1
       UNION ALL SELECT room_id, 3 FROM anchors WHERE event_id = $1
       UNION ALL SELECT room_id, 4 FROM staged_pdus WHERE event_id = $1
       UNION ALL SELECT room_id, 5 FROM missing_events WHERE event_id = $1
       UNION ALL SELECT room_id, 6 FROM event_edges WHERE prev_event_id = $1) AS found
      ORDER BY rank, room_id LIMIT 1`,
    [eventId],
  );
  return row?.roomId;
}

/** Columns of the event and of its place, as far as it has one. */
export interface EventFacts {
  readonly depth: number;
  readonly storedAt: number;
  /** When the body of one that was kept redacted came, milliseconds; `null`: it was not, or is. */
  readonly completedAt: number | null;
  /** When it was taken in, by the journal's clock; `null`: it is not of the timeline. */
  readonly position: number | null;
  readonly partial: boolean | null;
  readonly softFailed: boolean | null;
  readonly rule: string | null;
  readonly reason: string | null;
  readonly isExtremity: boolean;
  /** Events that the verdict was made by; `null`: not kept, or no event of the timeline. */
  readonly authState: readonly EventId[] | null;
}

/** `undefined`: it is not stored in this room. */
export async function readEventFacts(sql: Sql, roomId: RoomId, eventId: EventId): Promise<EventFacts | undefined> {
  const [row] = await sql.query<EventFacts>(
    `SELECT p.depth, p.stored_at AS "storedAt", p.completed_at AS "completedAt", e.position, e.partial, e.soft_failed AS "softFailed",
            coalesce(e.rule, o.rule) AS rule, coalesce(e.reason, o.reason) AS reason,
            EXISTS (SELECT FROM forward_extremities x WHERE x.room_id = $1 AND x.event_id = $2) AS "isExtremity",
            CASE WHEN e.auth_state IS NOT NULL THEN
              ARRAY(SELECT a.event_id FROM pdus a WHERE a.nid = ANY (e.auth_state)) END AS "authState"
       FROM pdus p LEFT JOIN event_states e ON e.event_nid = p.nid LEFT JOIN outlier_verdicts o ON o.event_nid = p.nid
      WHERE p.room_id = $1 AND p.event_id = $2`,
    [roomId, eventId],
  );
  return row;
}

/** An event as a server sent it, waiting or given up. */
export interface StagedCopy {
  readonly origin: ServerName;
  readonly receivedAt: number;
  readonly waitsFor: readonly EventId[];
  readonly reason: string | null;
  /** `null`: it has turns yet. */
  readonly droppedAt: number | null;
}

/** Each copy of an event that is staged. */
export function readStagedCopies(sql: Sql, roomId: RoomId, eventId: EventId): Promise<StagedCopy[]> {
  return sql.query(
    `SELECT origin, received_at AS "receivedAt", waits_for AS "waitsFor", reason, dropped_at AS "droppedAt"
       FROM staged_pdus WHERE room_id = $1 AND event_id = $2 ORDER BY received_at, nid`,
    [roomId, eventId],
  );
}

/** Some events that rest on another one, and how many there are, counted up to a limit. */
export interface Dependants {
  readonly count: number;
  readonly first: readonly EventId[];
}

/** Events counted at the most, and those that are named. */
export const DEPENDANTS_COUNTED_MAX = 1_000;
const DEPENDANTS_NAMED = 5;

/** Who cites an event as a parent, and who as an auth event. The latter reads all events of the room. */
export async function readDependants(
  sql: Sql,
  roomId: RoomId,
  eventId: EventId,
): Promise<{ readonly children: Dependants; readonly citing: Dependants }> {
  const [children, citing] = await Promise.all([
    sql.query<{ eventId: EventId }>(
      `SELECT event_id AS "eventId" FROM event_edges WHERE room_id = $1 AND prev_event_id = $2 ORDER BY event_id LIMIT $3`,
      [roomId, eventId, DEPENDANTS_COUNTED_MAX],
    ),
    sql.query<{ eventId: EventId }>(
      `SELECT event_id AS "eventId" FROM pdus WHERE room_id = $1 AND $2 = ANY (auth_events) LIMIT $3`,
      [roomId, eventId, DEPENDANTS_COUNTED_MAX],
    ),
  ]);
  const named = (rows: readonly { readonly eventId: EventId }[]): Dependants => ({
    count: rows.length,
    first: rows.slice(0, DEPENDANTS_NAMED).map((row) => row.eventId),
  });
  return { children: named(children), citing: named(citing) };
}

const COLUMNS = `position, room_id AS "roomId", epoch, stream, seq, data AS event, recorded_at AS "recordedAt"`;

/** What the journal says of each of these events under its id, oldest first; a look into an index for each kind of entry. */
export function readEntriesAbout(sql: Sql, roomId: RoomId, eventIds: readonly EventId[]): Promise<RecordedEntry[]> {
  const ofRoom = `room_id = $1 AND event_id = ANY ($2::text[])`;
  const ofStays = `${ofRoom} AND epoch = ANY (ARRAY(SELECT generate_series(0, epoch) FROM rooms WHERE room_id = $1))`;
  return sql.query(
    `SELECT ${COLUMNS} FROM journal WHERE ${ofStays} AND type IN ('PduAccepted', 'PduRejected')
      UNION ALL
     SELECT ${COLUMNS} FROM journal WHERE ${ofStays} AND type = 'EventUnPartialStated'
      UNION ALL
     SELECT ${COLUMNS} FROM journal
      WHERE ${ofRoom} AND event_id IS NOT NULL AND type NOT IN ('PduAccepted', 'PduRejected', 'EventUnPartialStated')
      ORDER BY position`,
    [roomId, textArray(eventIds)],
  );
}

/**
 * The last `limit` entries after a position that give an event other states and leave its verdict, in order. They name it beside
 * others, and no index knows: reads what the journal says of the room since.
 */
export async function readStatesChanged(
  sql: Sql,
  roomId: RoomId,
  eventId: EventId,
  { since, limit }: { readonly since: number; readonly limit: number },
): Promise<RecordedEntry[]> {
  const rows = await sql.query<RecordedEntry>(
    `SELECT ${COLUMNS} FROM journal
      WHERE room_id = $1 AND position > $3 AND type = 'StatesChanged'
        AND EXISTS (SELECT FROM json_array_elements_text(data -> 'eventIds') AS named(event_id) WHERE event_id = $2)
      ORDER BY position DESC LIMIT $4`,
    [roomId, eventId, since, limit],
  );
  return rows.reverse();
}

/** Entries by their positions, in order. */
export function readEntriesAt(sql: Sql, positions: readonly number[]): Promise<RecordedEntry[]> {
  return sql.query(`SELECT ${COLUMNS} FROM journal WHERE position = ANY ($1::bigint[]) ORDER BY position`, [
    int8Array(positions),
  ]);
}

/** The last entry of one of these types in a room up to a position. */
export async function readLastEntry(
  sql: Sql,
  roomId: RoomId,
  types: readonly EntryType[],
  upTo: number,
): Promise<RecordedEntry | undefined> {
  const [row] = await sql.query<RecordedEntry>(
    `SELECT ${COLUMNS} FROM journal
      WHERE room_id = $1 AND stream = 'resync' AND type = ANY ($2::text[]) AND position <= $3 ORDER BY seq DESC LIMIT 1`,
    [roomId, [...types], upTo],
  );
  return row;
}

/** What is missing of a state under this id. */
export interface MissingHere {
  readonly why: string;
  readonly since: number;
  readonly askedOf: readonly ServerName[];
  readonly isGivenUp: boolean;
  readonly foundAt: number | null;
}

/** `undefined`: no state is known to lack it. */
export async function readMissingEvent(sql: Sql, roomId: RoomId, eventId: EventId): Promise<MissingHere | undefined> {
  const [row] = await sql.query<MissingHere>(
    `SELECT why, since, asked_of AS "askedOf", is_given_up AS "isGivenUp", found_at AS "foundAt"
       FROM missing_events WHERE room_id = $1 AND event_id = $2`,
    [roomId, eventId],
  );
  return row;
}
