/**
 * What relates to events, as `pdus.relates_to` has it: what follows from others, threads, and what this server sums up for clients
 * beside an event. Only what is shown counts: in the timeline, or accepted before a stay of ours. How much relates to one event is for
 * strangers to say: of each kind the newest are looked through, so many.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#relationships-api and #aggregations-of-child-events
 */
import { type EventId, type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type Sql } from '../open-store.ts';
import { textArray } from '../sql-values.ts';
import { type PagedPdu } from '../journal/timeline-page.ts';
import { trieKey } from '../snapshots/snapshot-trie.ts';
import { REDACTS } from './redactions.ts';

/** Events that follow from one over others. */
const FOLLOWING_MAX = 1_000;
/** What is looked through of one kind that relates to one event. */
const CHILDREN_MAX = 10_000;
/** Of these the newest whose bodies are looked at, since they may have been taken back. */
const NEWEST_MAX = 3;
/** Those that some redaction names, of which each is looked at. */
const DOUBTFUL_MAX = 100;
const REFERENCES_MAX = 100;

export const KINDS = ['m.replace', 'm.thread', 'm.reference'] as const;
export type Kind = (typeof KINDS)[number];

/** The text of what a user keeps of whom he ignores. As text: as JSON a NUL in it, which is his to write, would be an error. */
const IGNORING = (userId: string): string =>
  `(SELECT d.content::text FROM account_data d WHERE d.user_id = ${userId} AND d.room_id = '' AND d.type = 'm.ignored_user_list')`;
/** Whether such a text names who sent an event; what changes the state is shown of anybody. */
const IS_IGNORED = (row: string, ignoring: string): string =>
  `(${ignoring} IS NOT NULL AND ${row}.state_key_nid IS NULL AND strpos(${ignoring}, to_json(${row}.sender)::text) > 0)`;

/** What relates to an event, and what relates to that, `depthMax` steps far: the event itself first. */
export async function readFollowingRelations(
  sql: Sql,
  roomId: RoomId,
  eventId: EventId,
  depthMax: number,
): Promise<EventId[]> {
  const rows = await sql.query<{ eventId: EventId }>(
    `WITH RECURSIVE following (event_id, depth) AS (
       SELECT $2::text, 0
       UNION
       SELECT p.event_id, f.depth + 1 FROM following f
        CROSS JOIN LATERAL (SELECT event_id FROM pdus WHERE room_id = $1 AND relates_to = f.event_id
                             ORDER BY rel_type, nid DESC LIMIT ${FOLLOWING_MAX}) AS p
        WHERE f.depth < $3
     )
     SELECT DISTINCT ON (event_id) event_id AS "eventId" FROM (SELECT * FROM following LIMIT ${FOLLOWING_MAX}) AS found`,
    [roomId, eventId, depthMax - 1],
  );
  return rows.map((row) => row.eventId);
}

/** An event beside which something is summed up. */
export interface RelatedParent {
  readonly roomId: RoomId;
  readonly eventId: EventId;
  /** What is shown later is not told; `null`: all is. */
  readonly upTo: number | null;
  /** For whom. */
  readonly userId: UserId;
  /** He was joined at some time after it. */
  readonly joinedSince: boolean;
}

/** What of one kind relates to an event. */
export interface RelatedChildren {
  readonly parent: EventId;
  readonly kind: Kind;
  readonly count: number;
  /** One of them is the user's, or the event itself. */
  readonly isParticipant: boolean;
  /** The newest first: edits by when they were made, all else by when it was shown. */
  readonly newest: readonly EventId[];
  /** May have been taken back. */
  readonly doubtful: readonly EventId[];
  /** Of references, in the order in which they came. */
  readonly references: readonly EventId[];
}

/** In the order of the events, all in one statement, without what those sent whom the user ignores. Edits are those that the author of an event made of it, as the specification wants them. */
export async function readRelated(sql: Sql, parents: readonly RelatedParent[]): Promise<RelatedChildren[][]> {
  const rows = await sql.query<RelatedChildren & { readonly nth: number }>(
    `WITH asked AS MATERIALIZED (
       SELECT a.nth, a.room_id, a.event_id, a.up_to, a.user_id, p.type, p.sender, p.rel_type, p.state_key_nid,
              ${IGNORING('a.user_id')} AS ignoring
         FROM unnest($1::text[], $2::text[], $3::bigint[], $5::text[]) WITH ORDINALITY AS a(room_id, event_id, up_to, user_id, nth)
        CROSS JOIN LATERAL (SELECT * FROM pdus WHERE event_id = a.event_id AND room_id = a.room_id OFFSET 0) AS p
     )
     SELECT a.nth, a.event_id AS parent, k.kind, c.*
       FROM asked a CROSS JOIN unnest($4::text[]) AS k(kind)
      CROSS JOIN LATERAL (
        SELECT count(*) AS count, coalesce(bool_or(s.sender = a.user_id), false) OR a.sender = a.user_id AS "isParticipant",
               (array_agg(s.event_id ORDER BY s.rank DESC, s.event_id DESC))[1:${NEWEST_MAX}] AS newest,
               coalesce((array_agg(s.event_id) FILTER (WHERE s.is_doubtful))[1:${DOUBTFUL_MAX}], '{}') AS doubtful,
               CASE WHEN k.kind = 'm.reference' THEN (array_agg(s.event_id ORDER BY s.rank, s.event_id))[1:${REFERENCES_MAX}]
                    ELSE '{}' END AS references
          FROM (SELECT p.event_id, p.sender,
                       CASE WHEN k.kind = 'm.replace' THEN p.origin_server_ts ELSE coalesce(e.shown_at, 0) END AS rank,
                       EXISTS (SELECT FROM pdus r WHERE r.type = 'm.room.redaction' AND r.room_id = p.room_id
                                  AND ${REDACTS('r')} = p.event_id) AS is_doubtful
                  FROM pdus p LEFT JOIN event_states e ON e.event_nid = p.nid
                 WHERE p.room_id = a.room_id AND p.relates_to = a.event_id AND p.rel_type = k.kind
                   AND CASE WHEN e.event_nid IS NOT NULL THEN e.shown_at <= coalesce(a.up_to, e.shown_at)
                            ELSE EXISTS (SELECT FROM history_events h JOIN outlier_verdicts o ON o.event_nid = p.nid
                                          WHERE h.room_id = p.room_id AND h.event_id = p.event_id AND o.verdict = 'accepted') END
                   AND (k.kind = 'm.replace' OR NOT ${IS_IGNORED('p', 'a.ignoring')})
                   AND (k.kind <> 'm.replace' OR (p.sender = a.sender AND p.type = a.type AND p.state_key_nid IS NULL))
                 ORDER BY p.nid DESC LIMIT ${CHILDREN_MAX}) AS s) AS c
      WHERE c.count > 0
        AND CASE k.kind WHEN 'm.replace' THEN a.rel_type IS DISTINCT FROM 'm.replace' AND a.state_key_nid IS NULL
                        WHEN 'm.thread' THEN a.rel_type IS NULL ELSE true END`,
    [
      textArray(parents.map(({ roomId }) => roomId)),
      textArray(parents.map(({ eventId }) => eventId)),
      `{${parents.map(({ upTo }) => upTo ?? 'NULL').join(',')}}`,
      textArray(KINDS),
      textArray(parents.map(({ userId }) => userId)),
    ],
  );
  const related: RelatedChildren[][] = parents.map(() => []);
  for (const { nth, ...row } of rows) related[nth - 1]?.push(row);
  return related;
}

/** Where a thread was last spoken in. */
export interface ThreadEnd {
  readonly root: EventId;
  readonly nid: number;
}

export interface ThreadsQuery {
  readonly roomId: RoomId;
  /** For whom: nothing is told of what those sent whom he ignores. */
  readonly userId: UserId;
  /** Exclusive; `null`: from the newest on. */
  readonly before: number | null;
  /** As `RelatedParent`. */
  readonly upTo: number | null;
  /** Only those in which this user has spoken, or that he began; `null`: all. */
  readonly participant: UserId | null;
  readonly limit: number;
}

/** Events of threads that one statement looks through. */
const SPOKEN_MAX = 5_000;

/**
 * Threads, those first in which somebody has spoken last. `next`: where it goes on; `null`: nothing more is there. It may give none and go on all
 * the same. In the order in which their events were stored, which is that of the timeline as good as always.
 */
export async function readThreads(
  sql: Sql,
  { roomId, userId, before, upTo, participant, limit }: ThreadsQuery,
): Promise<{ readonly threads: readonly ThreadEnd[]; readonly next: number | null }> {
  const isIgnored = (row: string): string => IS_IGNORED(row, '(SELECT said FROM ignoring)');
  const shown = (row: string): string =>
    `NOT ${isIgnored(row)}
     AND EXISTS (SELECT FROM event_states e WHERE e.event_nid = ${row}.nid AND e.shown_at <= coalesce($3::bigint, e.shown_at))`;
  const rows = await sql.query<ThreadEnd & { readonly isEnd: boolean }>(
    `WITH ignoring AS MATERIALIZED (SELECT ${IGNORING('$5')} AS said)
     SELECT p.relates_to AS root, p.nid,
            ${shown('p')}
            AND NOT EXISTS (SELECT FROM pdus r WHERE r.event_id = p.relates_to AND r.room_id = $1 AND ${isIgnored('r')})
            AND NOT EXISTS (SELECT FROM pdus s WHERE s.room_id = $1 AND s.relates_to = p.relates_to AND s.rel_type = 'm.thread'
                               AND s.nid > p.nid AND ${shown('s')})
            AND ($4::text IS NULL
                 OR EXISTS (SELECT FROM pdus r WHERE r.event_id = p.relates_to AND r.room_id = $1 AND r.sender = $4)
                 OR EXISTS (SELECT FROM pdus s WHERE s.room_id = $1 AND s.relates_to = p.relates_to AND s.rel_type = 'm.thread'
                               AND s.sender = $4 AND ${shown('s')})) AS "isEnd"
       FROM (SELECT nid, relates_to, sender, state_key_nid FROM pdus
              WHERE room_id = $1 AND rel_type = 'm.thread' AND ($2::bigint IS NULL OR nid < $2)
              ORDER BY nid DESC LIMIT ${SPOKEN_MAX}) AS p
      ORDER BY p.nid DESC`,
    [roomId, before, upTo, participant, userId],
  );
  const threads = rows.filter(({ isEnd }) => isEnd).slice(0, limit);
  const isMore = threads.length === limit || rows.length === SPOKEN_MAX;
  const last = threads.length === limit ? threads.at(-1) : rows.at(-1);
  return { threads: threads.map(({ root, nid }) => ({ root, nid })), next: isMore ? (last?.nid ?? null) : null };
}

/** Shown events of the timeline under some ids, in no particular order. */
export async function readShownPdus(sql: Sql, roomId: RoomId, eventIds: readonly EventId[]): Promise<PagedPdu[]> {
  if (eventIds.length === 0) return [];
  type Row = Omit<PagedPdu, 'key'> & { readonly stateKeyNid: number | null; readonly isMember: boolean };
  const rows = await sql.query<Row>(
    `SELECT e.room_id AS "roomId", e.event_id AS "eventId", e.event_nid AS nid, e.shown_at AS "shownAt",
            encode(e.state_before, 'hex') AS "stateBefore", encode(e.state_after, 'hex') AS "stateAfter", e.partial, p.sender,
            p.state_key_nid AS "stateKeyNid", p.type = 'm.room.member' AS "isMember", p.auth_events AS "authEvents",
            p.depth, p.json::text AS json
       FROM event_states e JOIN pdus p ON p.nid = e.event_nid
      WHERE e.event_id = ANY ($2::text[]) AND e.room_id = $1 AND e.shown_at IS NOT NULL`,
    [roomId, textArray(eventIds)],
  );
  return rows.map(({ stateKeyNid, isMember, ...row }) => {
    return { ...row, key: stateKeyNid === null ? null : trieKey(stateKeyNid, isMember) };
  });
}

/** Bodies of events of any rooms, by id. */
export async function readBodies(
  sql: Sql,
  eventIds: readonly EventId[],
): Promise<ReadonlyMap<EventId, { readonly eventId: EventId; readonly roomId: RoomId; readonly json: string }>> {
  if (eventIds.length === 0) return new Map();
  const rows = await sql.query<{ eventId: EventId; roomId: RoomId; json: string }>(
    `SELECT event_id AS "eventId", room_id AS "roomId", json::text AS json FROM pdus WHERE event_id = ANY ($1::text[])`,
    [textArray(eventIds)],
  );
  return new Map(rows.map((row) => [row.eventId, row]));
}
