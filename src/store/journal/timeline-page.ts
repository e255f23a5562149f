/** What was said in one room, page by page, in the order in which clients see it: by the positions at which events are shown. */
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { type Sql } from '../open-store.ts';
import { trieKey } from '../snapshots/snapshot-trie.ts';
import { textArray } from '../sql-values.ts';
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
}

/** The condition on `pdus p`, over the room `$1`, the parameter `$n` and the next; said only where it is wanted, since it has an index. */
export function relatedAs(related: RelatedTo | undefined, n: number): string {
  if (related === undefined) return '';
  return `AND p.room_id = $1 AND p.relates_to = ANY ($${n}::text[]) AND ($${n + 1}::text IS NULL OR p.rel_type = $${n + 1})`;
}

/** Its parameters. */
export function relatedValues(related: RelatedTo | undefined): (string | null)[] {
  if (related === undefined) return [];
  return [textArray(related.eventIds), related.relType === null ? null : storable(related.relType)];
}

/** An event of a page, with whether the states at it are provisional. */
export interface PagedPdu extends ShownPdu {
  readonly partial: boolean;
}

type Row = Omit<PagedPdu, 'key'> & { readonly stateKeyNid: number | null; readonly isMember: boolean };

/** Events after one position (exclusive) and up to another, the first `limit` of them in the order of reading. */
export async function readTimelinePage(
  sql: Sql,
  { roomId, direction, limit, types, notTypes, senders, notSenders, ignored, related }: PageSelection,
  { after, upTo }: { readonly after: number; readonly upTo: number },
): Promise<PagedPdu[]> {
  const rows = await sql.query<Row>(
    `SELECT e.room_id AS "roomId", e.event_id AS "eventId", e.event_nid AS nid, e.shown_at AS "shownAt",
            encode(e.state_before, 'hex') AS "stateBefore", encode(e.state_after, 'hex') AS "stateAfter", e.partial, p.sender,
            p.state_key_nid AS "stateKeyNid", p.type = 'm.room.member' AS "isMember", p.auth_events AS "authEvents",
            p.depth, p.json::text AS json
       FROM event_states e JOIN pdus p ON p.nid = e.event_nid
      WHERE e.room_id = $1 AND e.shown_at > $2 AND e.shown_at <= $3 ${relatedAs(related, 10)}
        AND ($5::text[] IS NULL OR p.type LIKE ANY ($5)) AND NOT p.type LIKE ANY ($6::text[])
        AND ($7::text[] IS NULL OR p.sender = ANY ($7)) AND NOT p.sender = ANY ($8::text[])
        AND (p.state_key_nid IS NOT NULL OR NOT p.sender = ANY ($9::text[]))
      ORDER BY e.shown_at ${direction === 'backwards' ? 'DESC' : 'ASC'} LIMIT $4`,
    [roomId, after, upTo, limit, types, notTypes, senders, notSenders, ignored, ...relatedValues(related)],
  );
  return rows.map(({ stateKeyNid, isMember, ...row }) => {
    return { ...row, key: stateKeyNid === null ? null : trieKey(stateKeyNid, isMember) };
  });
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
