/** What was said in one room, page by page, in the order in which clients see it: by the positions at which events are shown. */
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { type Sql } from '../open-store.ts';
import { trieKey } from '../snapshots/snapshot-trie.ts';
import { int8Array, textArray } from '../sql-values.ts';
import { storable } from '../storable-text.ts';
import { type ShownPdu, type TimelineSelection } from './seen-by-clients.ts';

export type Direction = 'backwards' | 'forwards';

/** Which events of a room are read; the patterns are SQL's LIKE. */
export interface PageSelection extends Omit<TimelineSelection, 'limit' | 'bytesMax'> {
  readonly roomId: RoomId;
  readonly direction: Direction;
  readonly limit: number;
  /** Only what relates to one of these events; absent: whatever was said. */
  readonly related?: RelatedTo | undefined;
}

export interface RelatedTo {
  readonly eventIds: readonly EventId[];
  /** `null`: in whatever way. */
  readonly relType: string | null;
  /** All that does, by number; `null`: it is too much, and is looked for among all that was said. */
  readonly nids: readonly number[] | null;
}

/** Events that one statement looks through where only some of them are wanted: who filters must not have a whole room read for a page. */
export const SCANNED_MAX = 5_000;

/** The condition on `pdus p`, with the parameters `$n` and, where there are two, the next. */
export function relatedAs(related: RelatedTo | undefined, n: number): string {
  if (related === undefined) return '';
  if (related.nids !== null) return `AND p.nid = ANY ($${n}::bigint[])`;
  return `AND p.relates_to = ANY ($${n}::text[]) ${related.relType === null ? '' : `AND p.rel_type = $${n + 1}`}`;
}

/** Its parameters. */
export function relatedValues(related: RelatedTo | undefined): string[] {
  if (related === undefined) return [];
  if (related.nids !== null) return [int8Array(related.nids)];
  return [textArray(related.eventIds), ...(related.relType === null ? [] : [storable(related.relType)])];
}

/** An event of a page, with whether the states at it are provisional. */
export interface PagedPdu extends ShownPdu {
  readonly partial: boolean;
}

export interface TimelinePage {
  readonly rows: readonly PagedPdu[];
  /** Position of the last event that was looked at, where it was not looked at all; `null`: there is nothing else in the span. */
  readonly scannedTo: number | null;
}

type Row = Omit<PagedPdu, 'key'> & { readonly stateKeyNid: number | null; readonly isMember: boolean };

/** Events after one position (exclusive) and up to another, the first `limit` of them in the order of reading. */
export async function readTimelinePage(
  sql: Sql,
  { roomId, direction, limit, types, notTypes, senders, notSenders, ignored, related }: PageSelection,
  { after, upTo }: { readonly after: number; readonly upTo: number },
): Promise<TimelinePage> {
  const isAny = [types ?? [], notTypes, senders ?? [], notSenders, ignored].every(({ length }) => length === 0);
  const isListed = related !== undefined && related.nids !== null;
  // As conditions of the index, so that nothing beyond is looked at.
  const [order, span] =
    direction === 'backwards'
      ? ['DESC', 'e.shown_at >= coalesce(edge.at, $2::bigint + 1) AND e.shown_at <= $3']
      : ['ASC', 'e.shown_at > $2 AND e.shown_at <= coalesce(edge.at, $3::bigint)'];
  const edgeAt =
    isListed || (related === undefined && isAny)
      ? 'NULL::bigint'
      : `(SELECT shown_at FROM event_states WHERE room_id = $1 AND shown_at > $2 AND shown_at <= $3
           ORDER BY shown_at ${order} OFFSET ${SCANNED_MAX - 1} LIMIT 1)`;
  const listed = `(SELECT s.* FROM unnest($10::bigint[]) AS n(nid)
                    CROSS JOIN LATERAL (SELECT * FROM event_states WHERE event_nid = n.nid OFFSET 0) AS s) AS e`;
  const rows = await sql.query<{ readonly edge: number | null } & (Row | { readonly roomId: null })>(
    `WITH edge AS MATERIALIZED (SELECT ${edgeAt} AS at)
     SELECT edge.at AS edge, page.* FROM edge LEFT JOIN LATERAL (
       SELECT e.room_id AS "roomId", e.event_id AS "eventId", e.event_nid AS nid, e.shown_at AS "shownAt",
              encode(e.state_before, 'hex') AS "stateBefore", encode(e.state_after, 'hex') AS "stateAfter", e.partial, p.sender,
              p.state_key_nid AS "stateKeyNid", p.type = 'm.room.member' AS "isMember", p.auth_events AS "authEvents",
              p.depth, p.json::text AS json
         FROM ${isListed ? listed : 'event_states e'} CROSS JOIN LATERAL (SELECT * FROM pdus WHERE nid = e.event_nid OFFSET 0) AS p
        WHERE e.room_id = $1 AND ${span} ${relatedAs(related, 10)}
          AND ($5::text[] IS NULL OR p.type LIKE ANY ($5)) AND NOT p.type LIKE ANY ($6::text[])
          AND ($7::text[] IS NULL OR p.sender = ANY ($7)) AND NOT p.sender = ANY ($8::text[])
          AND (p.state_key_nid IS NOT NULL OR NOT p.sender = ANY ($9::text[]))
        ORDER BY e.shown_at ${order} LIMIT $4) AS page ON true
      ORDER BY page."shownAt" ${order}`,
    [roomId, after, upTo, limit, types, notTypes, senders, notSenders, ignored, ...relatedValues(related)],
  );
  let scannedTo: number | null = null;
  const found = rows.flatMap(({ edge, ...row }) => {
    scannedTo = edge;
    if (row.roomId === null) return [];
    const { stateKeyNid, isMember, ...pdu } = row;
    return [{ ...pdu, key: stateKeyNid === null ? null : trieKey(stateKeyNid, isMember) }];
  });
  return { rows: found, scannedTo };
}

/** From which position on an event is shown; `undefined`: it is not. */
export async function readShownPosition(sql: Sql, roomId: RoomId, eventId: EventId): Promise<number | undefined> {
  const [row] = await sql.query<{ shownAt: number }>(
    `SELECT shown_at AS "shownAt" FROM event_states WHERE room_id = $1 AND event_id = $2 AND shown_at IS NOT NULL`,
    [roomId, eventId],
  );
  return row?.shownAt;
}

/** A stay of ours in a room that we joined elsewhere. */
export interface Stay {
  readonly epoch: number;
  /** Position of the join that opened it; what is shown before is of an earlier stay. */
  readonly begun: number;
  readonly joinEventId: EventId;
}

/** All of them, the first one first; found by the index that holds what is told of joins and nothing else. */
export function readStays(sql: Sql, roomId: RoomId): Promise<Stay[]> {
  return sql.query<Stay>(
    `SELECT DISTINCT ON (epoch) epoch, position AS begun, data ->> 'joinEventId' AS "joinEventId"
       FROM journal WHERE room_id = $1 AND type IN ('PartialStateJoined', 'FullStateJoined')
      ORDER BY epoch, position`,
    [roomId],
  );
}
