/** What is known before an event of another server is taken: of its room, of what is staged, and of parents it lacks. */
import { type EventId, type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type Sql } from '../open-store.ts';
import { DROPPED_BY_TURNS, STANDS_FOR_IT, TRIED_IN_VAIN } from './staged-pdus.ts';

/** Where we stand with a room that another server sends events of. */
export interface PushedRoom {
  readonly roomId: RoomId;
  /** The stay; `null`: there is none. */
  readonly epoch: number | null;
  /** That of the room, or those of our joins under way, which one commits has the room's; empty: we know neither. */
  readonly roomVersions: readonly string[];
  readonly currentState: SnapshotId | null;
  /** A user of this server is joined. */
  readonly isAnybodyIn: boolean;
  /** Joins of ours under way. */
  readonly intents: readonly EventId[];
  /** Events of it that are staged, weighed, up to a maximum of rows. */
  readonly staged: number;
  /** And of these, those that the server sent that is asked about. */
  readonly stagedOfOrigin: number;
}

/** What is staged is counted as one event for each so many bytes begun: a share is one of memory, too. */
const BYTES_OF_ONE = 8192;
const WEIGHT = `coalesce(sum(1 + octet_length(raw) / ${BYTES_OF_ONE}), 0)::int`;

/** Of one event, oldest first: whoever sends worse ones later keeps those that were seen before from nobody's eyes. */
const COPIES_LOOKED_AT = 10;

/** Events of one server that are staged, in whatever room. */
export interface StagedOfOrigin {
  readonly staged: number;
  /** Those of them that wait for no open gap. */
  readonly beforeNoGap: number;
}

/** Rooms, in no particular order, and what is staged of `origin`; each is weighed up to a maximum of rows. */
export async function readPushedRooms(
  sql: Sql,
  origin: ServerName,
  roomIds: readonly RoomId[],
  countMax: { readonly ofRoom: number; readonly ofOrigin: number },
): Promise<{ readonly rooms: ReadonlyMap<RoomId, PushedRoom>; readonly ofOrigin: StagedOfOrigin }> {
  if (roomIds.length === 0) return { rooms: new Map(), ofOrigin: { staged: 0, beforeNoGap: 0 } };
  const rows = await sql.query<PushedRoom & { ofOrigin: number; beforeNoGap: number }>(
    `WITH of_origin AS (
       SELECT ${WEIGHT} AS staged,
              coalesce(sum(1 + octet_length(raw) / ${BYTES_OF_ONE}) FILTER (WHERE NOT is_before_gap), 0)::int AS before_no_gap
         FROM (SELECT raw, waits_for <> '{}' AND EXISTS (
                        SELECT FROM gaps g
                         WHERE g.room_id = s.room_id AND g.event_id = ANY (s.waits_for) AND g.wake_at IS NOT NULL)
                        AS is_before_gap
                 FROM staged_pdus s WHERE s.origin = $1 AND s.dropped_at IS NULL LIMIT $4) AS own)
     SELECT i.room_id AS "roomId", r.epoch, encode(r.current_state, 'hex') AS "currentState",
            CASE WHEN r.room_version IS NOT NULL THEN ARRAY[r.room_version]
                 ELSE ARRAY(SELECT DISTINCT room_version FROM join_intents j
                             WHERE j.room_id = i.room_id AND j.what = 'join' ORDER BY 1) END
              AS "roomVersions",
            EXISTS (SELECT FROM local_members m WHERE m.room_id = i.room_id AND m.membership = 'join') AS "isAnybodyIn",
            ARRAY(SELECT event_id FROM join_intents j WHERE j.room_id = i.room_id AND j.what = 'join'
                   ORDER BY created_at DESC LIMIT 10)
              AS intents,
            (SELECT ${WEIGHT} FROM (SELECT raw FROM staged_pdus s
                                    WHERE s.room_id = i.room_id AND s.dropped_at IS NULL LIMIT $3) AS shared) AS staged,
            o.staged AS "ofOrigin", o.before_no_gap AS "beforeNoGap",
            (SELECT ${WEIGHT} FROM (SELECT raw FROM staged_pdus s
                                    WHERE s.room_id = i.room_id AND s.origin = $1 AND s.dropped_at IS NULL LIMIT $3)
                                  AS shared) AS "stagedOfOrigin"
       FROM of_origin o CROSS JOIN unnest($2::text[]) AS i(room_id)
       LEFT JOIN rooms r ON r.room_id = i.room_id AND r.epoch > 0`,
    [origin, roomIds, countMax.ofRoom, countMax.ofOrigin],
  );
  const [first] = rows;
  return {
    rooms: new Map(rows.map((row) => [row.roomId, row])),
    ofOrigin: { staged: first?.ofOrigin ?? 0, beforeNoGap: first?.beforeNoGap ?? 0 },
  };
}

/** Of a room, what is staged of those servers that are believed to be in it as the one is that is asked about, or are not. */
export interface StagedBeside {
  readonly isInside: boolean;
  /** Weighed, the server's own among them. */
  readonly staged: number;
  /** Of so many servers. */
  readonly origins: number;
  /** Of the server itself, weighed. */
  readonly own: number;
}

/** Up to `countMax` rows of the room are looked at. */
export async function readStagedBeside(
  sql: Sql,
  origin: ServerName,
  roomId: RoomId,
  countMax: number,
): Promise<StagedBeside> {
  const [row] = await sql.query<StagedBeside>(
    `WITH of_each AS (
       SELECT origin, ${WEIGHT} AS weight
         FROM (SELECT origin, raw FROM staged_pdus WHERE room_id = $1 AND dropped_at IS NULL LIMIT $3) AS shared
        GROUP BY origin
     )
     SELECT own.is_inside AS "isInside", coalesce(sum(e.weight), 0)::int AS staged, count(e.weight) AS origins,
            coalesce(sum(e.weight) FILTER (WHERE e.origin = $2), 0)::int AS own
       FROM (SELECT EXISTS (SELECT FROM room_servers WHERE room_id = $1 AND server_name = $2) AS is_inside) AS own
       LEFT JOIN of_each e
              ON EXISTS (SELECT FROM room_servers b WHERE b.room_id = $1 AND b.server_name = e.origin) = own.is_inside
      GROUP BY own.is_inside`,
    [roomId, origin, countMax],
  );
  return row ?? { isInside: false, staged: 0, origins: 0, own: 0 };
}

/** What is known of a parent that events lack. */
export interface MissingParent {
  readonly eventId: EventId;
  /** It came meanwhile: an event of the timeline, or an anchor. */
  readonly isParent: boolean;
  readonly gap: 'open' | 'given-up' | null;
  /** The state at the open gap was not had at the first attempt. */
  readonly isTriedInVain: boolean;
  /** Why the gap was given up. */
  readonly gapReason: string | null;
  /** We hold it as an event of another room. */
  readonly isElsewhere: boolean;
  /** A copy of it is staged that stands for it (staged-pdus.ts). */
  readonly isComing: boolean;
  /** What it waits for in turn for as long as that takes: open gaps, and events that are too much for us, itself perhaps. */
  readonly gaps: readonly EventId[];
}

/** What is known of each of `eventIds` in the room. */
export async function readMissingParents(
  sql: Sql,
  roomId: RoomId,
  eventIds: readonly EventId[],
): Promise<ReadonlyMap<EventId, MissingParent>> {
  if (eventIds.length === 0) return new Map();
  const rows = await sql.query<MissingParent>(
    `SELECT i.event_id AS "eventId",
            EXISTS (SELECT FROM event_states e WHERE e.event_id = i.event_id AND e.room_id = $1)
              OR EXISTS (SELECT FROM anchors a WHERE a.event_id = i.event_id AND a.room_id = $1) AS "isParent",
            CASE WHEN g.event_id IS NULL THEN NULL WHEN g.wake_at IS NULL THEN 'given-up' ELSE 'open' END AS gap,
            EXISTS (SELECT FROM gaps behind WHERE behind.room_id = $1 AND behind.event_id = i.event_id AND ${TRIED_IN_VAIN})
              AS "isTriedInVain",
            g.last_reason AS "gapReason",
            EXISTS (SELECT FROM pdus p WHERE p.event_id = i.event_id AND p.room_id <> $1) AS "isElsewhere",
            EXISTS (SELECT FROM staged_pdus s
                     WHERE s.room_id = $1 AND s.event_id = i.event_id AND ${STANDS_FOR_IT}) AS "isComing",
            ARRAY(SELECT DISTINCT awaited.event_id
                    FROM staged_pdus s CROSS JOIN unnest(s.waits_for) AS awaited(event_id)
                   WHERE s.room_id = $1 AND s.event_id = i.event_id AND s.dropped_at IS NULL
                     AND (EXISTS (SELECT FROM gaps behind WHERE behind.room_id = $1 AND behind.event_id = awaited.event_id
                                                            AND behind.wake_at IS NOT NULL)
                       OR EXISTS (SELECT FROM staged_pdus self
                                   WHERE self.room_id = $1 AND self.event_id = awaited.event_id AND self.dropped_at IS NULL
                                     AND self.waits_for = ARRAY[self.event_id]))
                   LIMIT 20) AS gaps
       FROM unnest($2::text[]) AS i(event_id) LEFT JOIN gaps g ON g.room_id = $1 AND g.event_id = i.event_id`,
    [roomId, eventIds],
  );
  return new Map(rows.map((row) => [row.eventId, row]));
}

/** What is looked at of what waits: two events that cite each other are a cycle already. */
const WAITING_BEFORE_MAX = 1_000;

/** Of the events that wait for their turn or others, those that `eventIds` and what waits before them lead to, with their prev events. */
export async function readWaitingBefore(
  sql: Sql,
  roomId: RoomId,
  eventIds: readonly EventId[],
): Promise<ReadonlyMap<EventId, readonly EventId[]>> {
  if (eventIds.length === 0) return new Map();
  const rows = await sql.query<{ eventId: EventId; prevEvents: readonly EventId[] }>(
    `WITH RECURSIVE before (event_id, prev_events) AS (
       SELECT w.* FROM unnest($2::text[]) AS given(event_id) CROSS JOIN LATERAL (${waiting('given.event_id')}) AS w
       UNION
       SELECT w.* FROM before b CROSS JOIN LATERAL unnest(b.prev_events) AS cited(event_id)
         CROSS JOIN LATERAL (${waiting('cited.event_id')}) AS w
     )
     SELECT event_id AS "eventId", prev_events AS "prevEvents" FROM before LIMIT $3`,
    [roomId, eventIds, WAITING_BEFORE_MAX],
  );
  return new Map(rows.map(({ eventId, prevEvents }) => [eventId, prevEvents]));
}

/** Stored, so that it says itself what it cites. */
function waiting(eventId: string): string {
  return `SELECT p.event_id, p.prev_events FROM pdus p
           WHERE p.room_id = $1 AND p.event_id = ${eventId}
             AND EXISTS (SELECT FROM staged_pdus s
                          WHERE s.room_id = $1 AND s.event_id = p.event_id AND s.dropped_at IS NULL) OFFSET 0`;
}

/** Copies of events that were of no use so far. */
export interface UselessCopies {
  /** Events that the server asked about gave us already: a copy that waits, or one that was given up; good ones that wait, or have their place. */
  readonly given: ReadonlySet<EventId>;
  /** Texts of copies that anybody gave us and that have not passed, by event. */
  readonly texts: ReadonlyMap<EventId, readonly Uint8Array[]>;
}

/** Copies of those of `eventIds` for which none stands, so that another copy of `origin`'s would have to be a better one. */
export async function readUselessCopies(
  sql: Sql,
  roomId: RoomId,
  origin: ServerName,
  eventIds: readonly EventId[],
): Promise<UselessCopies> {
  const rows = await sql.query<{ eventId: EventId; isGiven: boolean; texts: Buffer[] }>(
    `SELECT event_id AS "eventId", bool_or(origin = $2 OR is_stored AND waits_for <> '{}') AS "isGiven",
            coalesce(array_agg(raw) FILTER (WHERE dropped_at IS NULL AND NOT is_stored), '{}') AS texts
       FROM (SELECT s.*, row_number() OVER (PARTITION BY event_id ORDER BY origin <> $2, nid) AS place,
                    EXISTS (SELECT FROM pdus p WHERE p.event_id = s.event_id) AS is_stored
               FROM staged_pdus s WHERE room_id = $1 AND event_id = ANY ($3::text[])) AS copies
      WHERE place <= ${COPIES_LOOKED_AT}
      GROUP BY event_id HAVING NOT EXISTS (
        SELECT FROM staged_pdus s WHERE s.room_id = $1 AND s.event_id = copies.event_id AND ${STANDS_FOR_IT})
     UNION ALL
     SELECT event_id, true, '{}' FROM event_states WHERE room_id = $1 AND event_id = ANY ($3::text[])`,
    [roomId, origin, eventIds],
  );
  return {
    given: new Set(rows.flatMap(({ eventId, isGiven }) => (isGiven ? [eventId] : []))),
    texts: new Map(rows.map(({ eventId, texts }) => [eventId, texts])),
  };
}

/** Of staged events and gaps, the times in milliseconds since the Unix epoch; `null` where there is none. */
export interface Backlog {
  /** Events that wait for their turn, their parents or a request. */
  readonly staged: number;
  readonly oldestStagedAt: number | null;
  readonly gaps: number;
  readonly oldestGapAt: number | null;
}

/** Of one room, or of all. */
export async function readBacklog(sql: Sql, roomId: RoomId | null): Promise<Backlog> {
  const [row] = await sql.query<Backlog>(
    `SELECT s.staged, s.oldest AS "oldestStagedAt", g.gaps, g.oldest AS "oldestGapAt"
       FROM (SELECT count(*) AS staged, min(received_at) AS oldest FROM staged_pdus
              WHERE dropped_at IS NULL AND ($1::text IS NULL OR room_id = $1)) AS s
      CROSS JOIN (SELECT count(*) AS gaps, min(opened_at) AS oldest FROM gaps
                   WHERE wake_at IS NOT NULL AND ($1::text IS NULL OR room_id = $1)) AS g`,
    [roomId],
  );
  return row ?? { staged: 0, oldestStagedAt: null, gaps: 0, oldestGapAt: null };
}

/** An event that was sent to us and has no verdict yet. */
export interface WaitingEvent {
  readonly eventId: EventId;
  readonly origin: ServerName;
  readonly receivedAt: number;
  /** Times that somebody was asked for what it lacks. */
  readonly attempts: number;
  /** Why it waits; `null`: for its first turn. */
  readonly reason: string | null;
}

/** Events of a room that wait, the longest first. */
export function readWaiting(sql: Sql, roomId: RoomId, limit: number): Promise<WaitingEvent[]> {
  return sql.query(
    `SELECT event_id AS "eventId", origin, received_at AS "receivedAt", attempts, reason
       FROM staged_pdus WHERE room_id = $1 AND dropped_at IS NULL ORDER BY received_at, nid LIMIT $2`,
    [roomId, limit],
  );
}

/** An event that was sent to us, and given up without a verdict. */
export interface DroppedEvent {
  readonly eventId: EventId;
  readonly origin: ServerName;
  readonly receivedAt: number;
  readonly reason: string;
  readonly droppedAt: number;
}

/** Events of a room that were given up, the newest first; of more than `limit` some of each server, by turns. */
export function readDropped(sql: Sql, roomId: RoomId, limit: number): Promise<DroppedEvent[]> {
  return sql.query(
    `SELECT event_id AS "eventId", origin, received_at AS "receivedAt", reason, dropped_at AS "droppedAt"
       FROM (SELECT * FROM ${DROPPED_BY_TURNS} AS by_turns LIMIT $2) AS shown ORDER BY dropped_at DESC, nid DESC`,
    [roomId, limit],
  );
}
