/** A room's events by the times that their servers say they were made at, which are claims: nothing keeps them in the graph's order. */
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { type Sql } from '../open-store.ts';

/** Towards which times is looked. */
export type TimeDirection = 'backwards' | 'forwards';

/** Where looking begins: at a time, or behind an event of that time. */
export interface TimePlace {
  /** Milliseconds since the Unix epoch. */
  readonly at: number;
  /** `null`: with the events of that time. */
  readonly nid: number | null;
}

export interface TimedEvent {
  readonly eventId: EventId;
  readonly nid: number;
  readonly at: number;
}

export interface TimedEvents {
  /** Shown ones of the timeline, and accepted ones of what lies before our stays, the nearest first. */
  readonly events: readonly TimedEvent[];
  /** Where looking goes on; `null`: nothing lies there. */
  readonly next: TimePlace | null;
}

/** Rows that one statement looks through: those of a state are among them, and are in no timeline. */
const LOOKED_THROUGH_MAX = 2_000;

/** The nearest events, at most `limit`. */
export async function readEventsByTime(
  sql: Sql,
  roomId: RoomId,
  direction: TimeDirection,
  from: TimePlace,
  limit: number,
): Promise<TimedEvents> {
  const [order, beyond] = direction === 'forwards' ? ['ASC', '>'] : ['DESC', '<'];
  const rows = await sql.query<TimedEvent & { readonly isMeant: boolean }>(
    `SELECT p.event_id AS "eventId", p.nid, p.at,
            coalesce((SELECT e.shown_at IS NOT NULL FROM event_states e WHERE e.event_nid = p.nid),
                     (SELECT o.verdict = 'accepted' FROM outlier_verdicts o WHERE o.event_nid = p.nid)
                       AND EXISTS (SELECT FROM history_events h WHERE h.room_id = $1 AND h.event_id = p.event_id),
                     false) AS "isMeant"
       FROM (SELECT event_id, nid, origin_server_ts AS at FROM pdus
              WHERE hashtext(room_id) = hashtext($1) AND room_id = $1
                AND origin_server_ts ${beyond}= $2
                AND ($3::bigint IS NULL OR origin_server_ts <> $2 OR nid ${beyond} $3)
              ORDER BY hashtext(room_id) ${order}, origin_server_ts ${order}, nid ${order} LIMIT $4) AS p`,
    [roomId, from.at, from.nid, LOOKED_THROUGH_MAX],
  );
  const events = rows.filter(({ isMeant }) => isMeant).slice(0, limit);
  const last = events.length === limit ? events.at(-1) : rows.length < LOOKED_THROUGH_MAX ? undefined : rows.at(-1);
  return {
    events: events.map(({ eventId, nid, at }) => ({ eventId, nid, at })),
    next: last === undefined ? null : { at: last.at, nid: last.nid },
  };
}
