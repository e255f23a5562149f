/**
 * The fold of forward extremities: what no accepted event of this stay reaches over prev edges. Events that are rejected or
 * soft-failed are no extremities, and edges lead through them; here an event that is neither is called _solid_. Events of an
 * earlier stay are none either, though a verdict on one may change late.
 *
 * New events nearly always come after what they cite and before what cites them: two statements. Where a verdict changes, or an
 * event is taken in after its children, the neighbourhood of what changed is looked at anew.
 */
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { REFUSED_ANCESTRY_MAX, followedMax } from '../events/event-states.ts';
import { type Transaction } from '../open-store.ts';

/** An event whose verdict is new, or has changed. */
export interface ChangedEvent {
  readonly eventId: EventId;
  readonly isSolid: boolean;
}

/** An event that is being taken into the timeline. Its row of `event_states` is written later in the append. */
export interface TakenInEvent extends ChangedEvent {
  readonly prevEvents: readonly EventId[];
}

/** Makes the extremities of a locked room right after these changes, all at once. Rows of flipped events are written. */
export async function settleExtremities(
  tx: Transaction,
  roomId: RoomId,
  takenIn: readonly TakenInEvent[],
  flipped: readonly ChangedEvent[],
): Promise<void> {
  const parents = takenIn.length > 0 ? await writeEdges(tx, roomId, takenIn) : [];
  if (flipped.length > 0 || parents.length > 0) await settleAround(tx, roomId, takenIn, flipped);
  else await advance(tx, roomId, takenIn);
}

/** Gives those of the new events that are cited already. */
async function writeEdges(tx: Transaction, roomId: RoomId, takenIn: readonly TakenInEvent[]): Promise<EventId[]> {
  const edges = takenIn.flatMap(({ eventId, prevEvents }) => prevEvents.map((prev) => ({ eventId, prev })));
  const cited = await tx.query<{ eventId: EventId }>(
    `WITH written AS (
       INSERT INTO event_edges (room_id, prev_event_id, event_id)
       SELECT $1, edge.* FROM unnest($2::text[], $3::text[]) AS edge ON CONFLICT DO NOTHING
     )
     SELECT DISTINCT prev_event_id AS "eventId" FROM event_edges
      WHERE room_id = $1 AND prev_event_id = ANY ($4::text[])`,
    [roomId, edges.map(({ prev }) => prev), edges.map(({ eventId }) => eventId), takenIn.map(({ eventId }) => eventId)],
  );
  return cited.map(({ eventId }) => eventId);
}

/** New solid events take the place of their ancestors, as far as edges lead through what is not solid, within its bound. */
async function advance(tx: Transaction, roomId: RoomId, takenIn: readonly TakenInEvent[]): Promise<void> {
  const parentsOf = new Map(takenIn.map(({ eventId, prevEvents }) => [eventId, prevEvents]));
  const solid = new Set(takenIn.flatMap(({ eventId, isSolid }) => (isSolid ? [eventId] : [])));
  if (solid.size === 0) return;
  const gone = new Set<EventId>();
  const cited = [...solid].flatMap((eventId) => parentsOf.get(eventId) ?? []);
  for (let eventId = cited.pop(); eventId !== undefined; eventId = cited.pop()) {
    if (gone.has(eventId)) continue;
    gone.add(eventId);
    // Of these events and not solid; earlier ones are followed in SQL.
    if (!solid.has(eventId)) cited.push(...(parentsOf.get(eventId) ?? []));
  }
  await tx.query(
    `WITH RECURSIVE gone (event_id) AS (
       SELECT unnest($2::text[])
       UNION
       SELECT prev.event_id
         FROM gone JOIN event_states e ON e.room_id = $1 AND e.event_id = gone.event_id
                                      AND (e.verdict = 'rejected' OR e.soft_failed)
         JOIN pdus p ON p.nid = e.event_nid CROSS JOIN unnest(p.prev_events) AS prev(event_id)
     ), removed AS (
       DELETE FROM forward_extremities x USING (SELECT event_id FROM gone LIMIT $4) AS gone
        WHERE x.room_id = $1 AND x.event_id = gone.event_id
     )
     INSERT INTO forward_extremities (room_id, event_id) SELECT $1, unnest($3::text[]) ON CONFLICT DO NOTHING`,
    [roomId, [...gone], [...solid].filter((eventId) => !gone.has(eventId)), gone.size + REFUSED_ANCESTRY_MAX],
  );
}

/**
 * Decides anew for what changed and for its nearest solid ancestors: each is an extremity when it is solid, of this stay, and
 * reaches no solid event downwards. Costs what lies between them, within a bound (`followedMax`): chains of refused events are as
 * long as strangers make them. New events take the place of no extremity that lies further behind (`advance`), so none beyond
 * it needs to become one again; one with so many refused events below it that no other is found is one, until it is cited.
 */
async function settleAround(
  tx: Transaction,
  roomId: RoomId,
  takenIn: readonly ChangedEvent[],
  flipped: readonly ChangedEvent[],
): Promise<void> {
  const changed = [...takenIn, ...flipped].map(({ eventId }) => eventId);
  const fresh = takenIn.map(({ eventId }) => eventId);
  const freshSolid = takenIn.flatMap(({ eventId, isSolid }) => (isSolid ? [eventId] : []));
  // Parents are followed through events of the timeline: an edge out of it ends at an anchor, and an outlier says nothing about it.
  const doubtful = await tx.query<{ eventId: EventId; isTip: boolean }>(
    `WITH RECURSIVE stay AS (
       SELECT CASE WHEN r.join_event_id IS NULL THEN 0
                   -- The row of a join that is being appended is not written yet: nothing that is there is of its stay.
                   ELSE coalesce((SELECT e.position FROM event_states e
                                   WHERE e.room_id = r.room_id AND e.event_id = r.join_event_id AND e.epoch = r.epoch),
                                 9223372036854775807) END AS position
         FROM rooms r WHERE r.room_id = $1
     ), up (event_id, passes) AS (
       SELECT unnest($2::text[]), true
       UNION
       SELECT prev.event_id, NOT ${isSolid('prev')} AND ${isKnown('prev')}
         FROM up JOIN pdus p ON p.event_id = up.event_id AND p.room_id = $1
        CROSS JOIN unnest(p.prev_events) AS prev(event_id)
        WHERE up.passes
     ), tip AS (
       SELECT DISTINCT up.event_id,
              ${isSolid('up')} AND (up.event_id = ANY ($3::text[]) OR EXISTS (
                SELECT FROM event_states e WHERE e.room_id = $1 AND e.event_id = up.event_id
                   AND e.position >= (SELECT position FROM stay))) AS solid
         FROM (SELECT event_id FROM up LIMIT $5) AS up
     ), down (root, event_id, passes) AS (
       SELECT tip.event_id, c.event_id, NOT ${isSolid('c')}
         FROM tip JOIN event_edges c ON c.room_id = $1 AND c.prev_event_id = tip.event_id WHERE tip.solid
       UNION
       SELECT down.root, c.event_id, NOT ${isSolid('c')}
         FROM down JOIN event_edges c ON c.room_id = $1 AND c.prev_event_id = down.event_id WHERE down.passes
     ), below AS MATERIALIZED (
       SELECT root, event_id, passes FROM down LIMIT $5
     )
     SELECT tip.event_id AS "eventId",
            tip.solid AND NOT EXISTS (SELECT FROM below WHERE root = tip.event_id AND NOT passes
                                         AND below.event_id <> tip.event_id) AS "isTip"
       FROM tip`,
    [roomId, changed, fresh, freshSolid, followedMax(changed.length)],
  );
  const tips = doubtful.flatMap(({ eventId, isTip }) => (isTip ? [eventId] : []));
  const others = doubtful.flatMap(({ eventId, isTip }) => (isTip ? [] : [eventId]));
  await tx.query(
    `WITH removed AS (DELETE FROM forward_extremities WHERE room_id = $1 AND event_id = ANY ($2::text[]))
     INSERT INTO forward_extremities (room_id, event_id) SELECT $1, unnest($3::text[]) ON CONFLICT DO NOTHING`,
    [roomId, others, tips],
  );
}

/** Of new events, `$3`, those in `$4` are solid; of the others it is written. */
function isSolid(row: string): string {
  return `CASE WHEN ${row}.event_id = ANY ($3::text[]) THEN ${row}.event_id = ANY ($4::text[])
          ELSE EXISTS (SELECT FROM event_states s WHERE s.room_id = $1 AND s.event_id = ${row}.event_id
                          AND s.verdict = 'accepted' AND NOT s.soft_failed) END`;
}

function isKnown(row: string): string {
  return `(${row}.event_id = ANY ($3::text[])
           OR EXISTS (SELECT FROM event_states s WHERE s.room_id = $1 AND s.event_id = ${row}.event_id))`;
}
