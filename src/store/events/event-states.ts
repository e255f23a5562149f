/** Verdicts on the events of the timeline and the states before and after them. */
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type Sql } from '../open-store.ts';
import { textArray } from '../sql-values.ts';

export type Verdict = 'accepted' | 'rejected';

/** The rule by which an event is rejected that is its own ancestor, or rests on itself otherwise. Its edges lead nowhere. */
export const CYCLE = 'graph-cycle';

export interface StoredEventState {
  readonly eventId: EventId;
  readonly roomId: RoomId;
  readonly epoch: number;
  /** Of the journal entry that took the event in. */
  readonly position: number;
  readonly prevEvents: readonly EventId[];
  readonly authEvents: readonly EventId[];
  readonly stateBefore: SnapshotId;
  /** Equals `stateBefore` where the event is rejected or no state event. */
  readonly stateAfter: SnapshotId;
  readonly verdict: Verdict;
  readonly softFailed: boolean;
  /** Why it is rejected. */
  readonly rule: string | null;
  readonly reason: string | null;
  /** Judged by partial state: the verdict and the states are provisional. */
  readonly partial: boolean;
}

const COLUMNS = `
  e.event_id AS "eventId", e.room_id AS "roomId", e.epoch, e.position, p.prev_events AS "prevEvents",
  p.auth_events AS "authEvents", encode(e.state_before, 'hex') AS "stateBefore",
  encode(e.state_after, 'hex') AS "stateAfter", e.verdict, e.soft_failed AS "softFailed", e.rule, e.reason, e.partial`;

/** Those of `eventIds` that are in the timeline of the room; outliers, unknown events and those of other rooms are absent. */
export async function readEventStates(
  sql: Sql,
  roomId: RoomId,
  eventIds: readonly EventId[],
): Promise<Map<EventId, StoredEventState>> {
  if (eventIds.length === 0) return new Map();
  const rows = await sql.query<StoredEventState>(
    `SELECT ${COLUMNS} FROM event_states e JOIN pdus p ON p.nid = e.event_nid
      WHERE e.room_id = $1 AND e.event_id = ANY ($2::text[])`,
    [roomId, eventIds],
  );
  return new Map(rows.map((row) => [row.eventId, row]));
}

/** Of events of many rooms, in their order; `undefined`: it is not in the timeline of its room. */
export async function readStatesOfEvents(
  sql: Sql,
  wanted: readonly { readonly roomId: RoomId; readonly eventId: EventId }[],
): Promise<(StoredEventState | undefined)[]> {
  const rows = await sql.query<StoredEventState & { readonly nth: number }>(
    `SELECT w.nth, ${COLUMNS}
       FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS w(room_id, event_id, nth)
       JOIN event_states e ON e.room_id = w.room_id AND e.event_id = w.event_id JOIN pdus p ON p.nid = e.event_nid`,
    [textArray(wanted.map(({ roomId }) => roomId)), textArray(wanted.map(({ eventId }) => eventId))],
  );
  const states: (StoredEventState | undefined)[] = wanted.map(() => undefined);
  for (const { nth, ...state } of rows) states[nth - 1] = state;
  return states;
}

/**
 * Rejected and soft-failed events that an accepted one on `eventIds` would cover, each with its prev_events: those of `eventIds` and
 * all that is reached from them through such alone, as far as no accepted event has covered it before
 * (src/store/journal/fold-extremities.ts).
 */
export async function readUncovered(
  sql: Sql,
  roomId: RoomId,
  eventIds: readonly EventId[],
): Promise<Map<EventId, readonly EventId[]>> {
  if (eventIds.length === 0) return new Map();
  const rows = await sql.query<{ eventId: EventId; prevEvents: EventId[] }>(
    `WITH RECURSIVE uncovered (event_id, prev_events) AS (
       SELECT p.event_id, p.prev_events
         FROM unnest($2::text[]) AS given(event_id) JOIN pdus p ON p.event_id = given.event_id AND p.room_id = $1
        WHERE ${isUncovered('p')}
       UNION
       SELECT p.event_id, p.prev_events
         FROM uncovered u CROSS JOIN unnest(u.prev_events) AS prev(event_id)
        CROSS JOIN LATERAL (SELECT event_id, prev_events FROM pdus
                             WHERE event_id = prev.event_id AND room_id = $1 OFFSET 0) AS p
        WHERE ${isUncovered('p')}
     )
     SELECT event_id AS "eventId", prev_events AS "prevEvents" FROM uncovered`,
    [roomId, eventIds],
  );
  return new Map(rows.map(({ eventId, prevEvents }) => [eventId, prevEvents]));
}

function isUncovered(row: string): string {
  return `coalesce((SELECT (e.verdict = 'rejected' OR e.soft_failed) AND NOT e.covered AND coalesce(e.rule, '') <> '${CYCLE}' FROM event_states e
                     WHERE e.event_id = ${row}.event_id AND e.room_id = $1), false)`;
}

/**
 * Those of `eventIds` that an accepted event of the timeline reaches, through events that are rejected or soft-failed if need be: the
 * children say it.
 */
export async function readReached(sql: Sql, roomId: RoomId, eventIds: readonly EventId[]): Promise<Set<EventId>> {
  if (eventIds.length === 0) return new Set();
  const rows = await sql.query<{ eventId: EventId }>(
    `SELECT DISTINCT b.prev_event_id AS "eventId" FROM event_edges b
      WHERE b.room_id = $1 AND b.prev_event_id = ANY ($2::text[])
        AND (SELECT e.covered OR e.verdict = 'accepted' AND NOT e.soft_failed
               FROM event_states e WHERE e.event_id = b.event_id AND e.room_id = $1)`,
    [roomId, eventIds],
  );
  return new Set(rows.map(({ eventId }) => eventId));
}

/** What is looked at of what builds on events that come after it: far more than comes before one that is asked for. */
const BELOW_MAX = 20_000;

/** By event, what builds on it by prev edges, directly or not, as far as anybody looks. */
export async function readBelow(
  sql: Sql,
  roomId: RoomId,
  eventIds: readonly EventId[],
): Promise<Map<EventId, ReadonlySet<EventId>>> {
  const below = new Map<EventId, Set<EventId>>(eventIds.map((eventId) => [eventId, new Set()]));
  if (eventIds.length === 0) return below;
  const rows = await sql.query<{ root: EventId; eventId: EventId }>(
    `WITH RECURSIVE below (root, event_id) AS (
       SELECT given.event_id, given.event_id FROM unnest($2::text[]) AS given(event_id)
       UNION
       SELECT b.root, edge.event_id
         FROM below b CROSS JOIN LATERAL (SELECT event_id FROM event_edges
                                           WHERE room_id = $1 AND prev_event_id = b.event_id OFFSET 0) AS edge
     )
     SELECT root, event_id AS "eventId" FROM below LIMIT $3`,
    [roomId, eventIds, BELOW_MAX],
  );
  for (const { root, eventId } of rows) if (eventId !== root) below.get(root)?.add(eventId);
  return below;
}

/**
 * Up to `limit` partial events of the room, each after all of its prev and auth events that are partial too; otherwise in
 * the order they came. Order of arrival alone is not enough: a parent may have come after its children, and the first
 * `limit` events then wait for one that is never among them.
 */
export async function readPartialEvents(sql: Sql, roomId: RoomId, limit: number): Promise<StoredEventState[]> {
  const rows = await sql.query<StoredEventState>(
    `WITH RECURSIVE wanted (nid) AS (
       (SELECT event_nid FROM event_states WHERE room_id = $1 AND partial ORDER BY position LIMIT $2)
       UNION
       SELECT e.event_nid
         FROM wanted w JOIN pdus p ON p.nid = w.nid
        CROSS JOIN unnest(p.prev_events || p.auth_events) AS cited(event_id)
         JOIN event_states e ON e.event_id = cited.event_id AND e.room_id = $1 AND e.partial
     )
     SELECT ${COLUMNS} FROM wanted w JOIN event_states e ON e.event_nid = w.nid JOIN pdus p ON p.nid = w.nid
      ORDER BY e.position`,
    [roomId, limit],
  );
  return parentsFirst(rows).slice(0, limit);
}

/** How many events of the room are partial. */
export async function countPartial(sql: Sql, roomId: RoomId): Promise<number> {
  const [row] = await sql.query<{ partial: number }>(
    `SELECT count(*) AS partial FROM event_states WHERE room_id = $1 AND partial`,
    [roomId],
  );
  return row?.partial ?? 0;
}

/**
 * The events in their order, but each after what it cites of them. Those on a cycle, possible in room versions 1 and 2, come together,
 * after all that any of them cites beside. Depth first without recursion, since chains are long: Tarjan's components.
 */
export function parentsFirst(events: readonly StoredEventState[]): StoredEventState[] {
  interface Entered {
    readonly event: StoredEventState;
    readonly cited: EventId[];
    readonly number: number;
    /** The first entered of those that it reaches and that are not ordered. */
    low: number;
    /** The order in which all that they cite had been looked at. */
    left: number;
    isOrdered: boolean;
  }
  const byId = new Map(events.map((event) => [event.eventId, event]));
  const entered = new Map<EventId, Entered>();
  const ordered: StoredEventState[] = [];
  let left = 0;
  /** The way to what is looked at, and all that is entered and not ordered. */
  const [way, open]: [Entered[], Entered[]] = [[], []];
  const enter = (event: StoredEventState): void => {
    const number = entered.size;
    const one = {
      event,
      cited: [...event.prevEvents, ...event.authEvents],
      number,
      low: number,
      left: 0,
      isOrdered: false,
    };
    entered.set(event.eventId, one);
    way.push(one);
    open.push(one);
  };
  for (const root of events) {
    if (!entered.has(root.eventId)) enter(root);
    for (let top = way.at(-1); top !== undefined; top = way.at(-1)) {
      const citedId = top.cited.pop();
      const cited = citedId === undefined ? undefined : byId.get(citedId);
      if (citedId !== undefined) {
        const known = entered.get(citedId);
        if (known === undefined && cited !== undefined) enter(cited);
        else if (known?.isOrdered === false) top.low = Math.min(top.low, known.number);
        continue;
      }
      way.pop();
      top.left = left += 1;
      const before = way.at(-1);
      if (before !== undefined) before.low = Math.min(before.low, top.low);
      if (top.low < top.number) continue;
      const component = open.splice(open.lastIndexOf(top)).sort((a, b) => a.left - b.left);
      for (const one of component) one.isOrdered = true;
      ordered.push(...component.map(({ event }) => event));
    }
  }
  return ordered;
}

/** Those of `events` that are still to be judged again: somebody else may have done so. */
export async function stillPartial<Event extends { readonly eventId: EventId }>(
  sql: Sql,
  roomId: RoomId,
  events: readonly Event[],
): Promise<Event[]> {
  const rows = await sql.query<{ eventId: EventId }>(
    `SELECT event_id AS "eventId" FROM event_states WHERE room_id = $1 AND event_id = ANY ($2::text[]) AND partial`,
    [roomId, events.map(({ eventId }) => eventId)],
  );
  const partial = new Set(rows.map(({ eventId }) => eventId));
  return events.filter(({ eventId }) => partial.has(eventId));
}
