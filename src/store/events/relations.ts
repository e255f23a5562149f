/**
 * What relates to events, as `pdus.relates_to` has it: what follows from others, and what this server sums up for clients
 * beside an event. Only what is shown counts: in the timeline, or accepted before a stay of ours. How much relates to one event is for
 * strangers to say: of each kind the newest are looked through, so many, whatever they are.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#relationships-api and #aggregations-of-child-events
 */
import { type EventId, type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type Sql } from '../open-store.ts';
import { textArray } from '../sql-values.ts';
import { type PagedPdu } from '../journal/timeline-page.ts';
import { trieKey } from '../snapshots/snapshot-trie.ts';
import { storable } from '../storable-text.ts';
import { type GivenBody, REDACTS } from './redactions.ts';

/** Events that follow from one over others. */
const FOLLOWING_MAX = 1_000;
/** Of what relates to an event, as it is given in pages: more is looked for among all that was said. */
const LISTED_MAX = 5_000;
/** What is looked through of one kind that relates to one event, and of all kinds and all events together, which share it. */
const CHILDREN_MAX = 10_000;
const SCANNED_MAX = 50_000;
/** Of these the newest that no redaction names: more than one, since not all are edits that say they are. */
const NEWEST_MAX = 3;
/** Those that some redaction names, the newest, of which each is looked at; and of all events together. */
const DOUBTFUL_MAX = 1_000;
const DOUBTFUL_IN_ALL_MAX = 3_000;
const REFERENCES_MAX = 100;

export const KINDS = ['m.replace', 'm.thread', 'm.reference'] as const;
export type Kind = (typeof KINDS)[number];

/** The text of what a user keeps of whom he ignores. As text: as JSON a NUL in it, which is his to write, would be an error. */
export const IGNORING = (userId: string): string =>
  `(SELECT d.content::text FROM account_data d WHERE d.user_id = ${userId} AND d.room_id = '' AND d.type = 'm.ignored_user_list')`;
/** Whether such a text names who sent an event; what changes the state is shown of anybody. */
export const IS_IGNORED = (row: string, ignoring: string): string =>
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
                             ORDER BY rel_type DESC, nid DESC LIMIT ${FOLLOWING_MAX}) AS p
        WHERE f.depth < $3
     )
     SELECT DISTINCT ON (event_id) event_id AS "eventId" FROM (SELECT * FROM following LIMIT ${FOLLOWING_MAX}) AS found`,
    [roomId, eventId, depthMax - 1],
  );
  return rows.map((row) => row.eventId);
}

/** All that relates to some events in one way, by number; `null`: it is more than is listed. */
export async function readRelatedNids(
  sql: Sql,
  roomId: RoomId,
  eventIds: readonly EventId[],
  relType: string | null,
): Promise<number[] | null> {
  const rows = await sql.query<{ nid: number }>(
    `SELECT p.nid FROM unnest($2::text[]) AS x(event_id)
      CROSS JOIN LATERAL (SELECT nid FROM pdus WHERE room_id = $1 AND relates_to = x.event_id ${relType === null ? '' : 'AND rel_type = $3'}
                           LIMIT ${LISTED_MAX + 1}) AS p LIMIT ${LISTED_MAX + 1}`,
    [roomId, textArray(eventIds), ...(relType === null ? [] : [storable(relType)])],
  );
  return rows.length > LISTED_MAX ? null : rows.map(({ nid }) => nid);
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
  /** Of those that were looked through, the doubtful among them. */
  readonly count: number;
  /** One of them is the user's, or the event itself. */
  readonly isParticipant: boolean;
  /** What no redaction names, the newest first: edits by when they were made, all else by when it was shown. */
  readonly newest: readonly EventId[];
  /** May have been taken back. In the same order. */
  readonly doubtful: readonly EventId[];
  /** Their places in the order of all, both in turn. */
  readonly places: readonly number[];
  /** Of references, in the order in which they came. */
  readonly references: readonly EventId[];
}

/** In the order of the events, all in one statement, without what those sent whom the user ignores. Edits are those that the author of an event made of it, as the specification wants them. */
export async function readRelated(sql: Sql, parents: readonly RelatedParent[]): Promise<RelatedChildren[][]> {
  const rows = await sql.query<RelatedChildren & { readonly nth: number }>(
    `WITH users AS MATERIALIZED (
       SELECT u.user_id, ${IGNORING('u.user_id')} AS ignoring FROM (SELECT DISTINCT user_id FROM unnest($5::text[]) AS g(user_id)) AS u
     ), asked AS MATERIALIZED (
       SELECT a.nth, a.room_id, a.event_id, a.up_to, a.user_id, p.type, p.sender, p.rel_type, p.state_key_nid, u.ignoring
         FROM unnest($1::text[], $2::text[], $3::bigint[], $5::text[]) WITH ORDINALITY AS a(room_id, event_id, up_to, user_id, nth)
        CROSS JOIN LATERAL (SELECT * FROM pdus WHERE event_id = a.event_id AND room_id = a.room_id OFFSET 0) AS p
         JOIN users u ON u.user_id = a.user_id
        WHERE EXISTS (SELECT FROM pdus c WHERE c.room_id = a.room_id AND c.relates_to = a.event_id)
     ), kinds AS MATERIALIZED (
       SELECT a.*, k.kind FROM asked a CROSS JOIN unnest($4::text[]) AS k(kind)
        WHERE CASE k.kind WHEN 'm.replace' THEN a.rel_type IS DISTINCT FROM 'm.replace' AND a.state_key_nid IS NULL
                          WHEN 'm.thread' THEN a.rel_type IS NULL ELSE true END
          AND EXISTS (SELECT FROM pdus c WHERE c.room_id = a.room_id AND c.relates_to = a.event_id AND c.rel_type = k.kind)
     ), share AS MATERIALIZED (
       SELECT least(${CHILDREN_MAX}, ${SCANNED_MAX} / greatest(count(*), 1) + 1) AS children,
              least(${DOUBTFUL_MAX}, ${DOUBTFUL_IN_ALL_MAX} / greatest(count(*), 1) + 1)::integer AS doubtful FROM kinds
     )
     SELECT a.nth, a.event_id AS parent, a.kind, c.count, c."isParticipant", c.newest, c.doubtful, c.references,
            c.of_newest || c.of_doubtful AS places
       FROM kinds a CROSS JOIN share
      CROSS JOIN LATERAL (
        SELECT count(*) AS count, coalesce(bool_or(s.sender = a.user_id), false) OR a.sender = a.user_id AS "isParticipant",
               coalesce((array_agg(s.event_id ORDER BY s.place) FILTER (WHERE NOT s.is_doubtful))[1:${NEWEST_MAX}], '{}') AS newest,
               coalesce((array_agg(s.place ORDER BY s.place) FILTER (WHERE NOT s.is_doubtful))[1:${NEWEST_MAX}], '{}') AS of_newest,
               coalesce((array_agg(s.event_id ORDER BY s.place) FILTER (WHERE s.is_doubtful))[1:share.doubtful], '{}') AS doubtful,
               coalesce((array_agg(s.place ORDER BY s.place) FILTER (WHERE s.is_doubtful))[1:share.doubtful], '{}') AS of_doubtful,
               CASE WHEN a.kind = 'm.reference' THEN (array_agg(s.event_id ORDER BY s.place DESC))[1:${REFERENCES_MAX}]
                    ELSE '{}' END AS references
          FROM (SELECT p.event_id, p.sender,
                       (row_number() OVER (ORDER BY CASE WHEN a.kind = 'm.replace' THEN p.origin_server_ts ELSE coalesce(e.shown_at, 0) END DESC,
                                                    p.event_id DESC))::integer AS place,
                       EXISTS (SELECT FROM pdus r WHERE r.type = 'm.room.redaction' AND r.room_id = p.room_id
                                  AND ${REDACTS('r')} = p.event_id) AS is_doubtful
                  FROM (SELECT * FROM pdus WHERE room_id = a.room_id AND relates_to = a.event_id AND rel_type = a.kind
                         ORDER BY nid DESC LIMIT (SELECT children FROM share)) AS p
                  LEFT JOIN event_states e ON e.event_nid = p.nid
                 WHERE CASE WHEN e.event_nid IS NOT NULL THEN e.shown_at <= coalesce(a.up_to, e.shown_at)
                            ELSE EXISTS (SELECT FROM history_events h JOIN outlier_verdicts o ON o.event_nid = p.nid
                                          WHERE h.room_id = p.room_id AND h.event_id = p.event_id AND o.verdict = 'accepted') END
                   AND (a.kind = 'm.replace' OR NOT ${IS_IGNORED('p', 'a.ignoring')})
                   AND (a.kind <> 'm.replace' OR (p.sender = a.sender AND p.type = a.type AND p.state_key_nid IS NULL))) AS s) AS c
      WHERE c.count > 0`,
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

/** An event of a room. */
export interface EventOfRoom {
  readonly roomId: RoomId;
  readonly eventId: EventId;
}

/** Those of some events that are shown in timelines, in no particular order. */
export async function readShownPdus(sql: Sql, events: readonly EventOfRoom[]): Promise<PagedPdu[]> {
  if (events.length === 0) return [];
  type Row = Omit<PagedPdu, 'key'> & { readonly stateKeyNid: number | null; readonly isMember: boolean };
  const rows = await sql.query<Row>(
    `SELECT e.room_id AS "roomId", e.event_id AS "eventId", e.event_nid AS nid, e.shown_at AS "shownAt",
            encode(e.state_before, 'hex') AS "stateBefore", encode(e.state_after, 'hex') AS "stateAfter", e.partial, p.sender,
            p.state_key_nid AS "stateKeyNid", p.type = 'm.room.member' AS "isMember", p.auth_events AS "authEvents",
            p.depth, p.json::text AS json
       FROM unnest($1::text[], $2::text[]) AS a(event_id, room_id)
       JOIN event_states e ON e.event_id = a.event_id AND e.room_id = a.room_id AND e.shown_at IS NOT NULL
       JOIN pdus p ON p.nid = e.event_nid`,
    [textArray(events.map(({ eventId }) => eventId)), textArray(events.map(({ roomId }) => roomId))],
  );
  return rows.map(({ stateKeyNid, isMember, ...row }) => {
    return { ...row, key: stateKeyNid === null ? null : trieKey(stateKeyNid, isMember) };
  });
}

/** Bodies of the events, the first ones first, until there are `bytesMax` of them. */
export async function readBodies(
  sql: Sql,
  events: readonly EventOfRoom[],
  bytesMax: number,
): Promise<ReadonlyMap<EventId, GivenBody>> {
  if (events.length === 0) return new Map();
  const rows = await sql.query<GivenBody>(
    `SELECT p.event_id AS "eventId", p.room_id AS "roomId", p.json::text AS json
       FROM (SELECT p.nid, sum(octet_length(p.json::text)) OVER (ORDER BY a.nth) AS bytes
               FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS a(event_id, room_id, nth)
               JOIN pdus p ON p.event_id = a.event_id AND p.room_id = a.room_id) AS s
       JOIN pdus p ON p.nid = s.nid WHERE s.bytes <= $3`,
    [textArray(events.map(({ eventId }) => eventId)), textArray(events.map(({ roomId }) => roomId)), bytesMax],
  );
  return new Map(rows.map((row) => [row.eventId, row]));
}
