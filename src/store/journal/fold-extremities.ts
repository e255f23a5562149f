/**
 * The fold of forward extremities: accepted events of this stay that no other accepted event reaches over prev edges. Events that are
 * rejected or soft-failed are no extremities, and edges lead through them; here an event that is neither is called _solid_. Events of
 * an earlier stay are none either, though a verdict on one may change late; but what lies before one of these and comes late is
 * none of the newest: a server that has been in the room all along holds what builds on it, too. (To ask which events of this stay
 * reach it instead, on ways through earlier ones, would be to follow all that these stays left, in one append.) An edge out of the timeline ends at an anchor, and at an event that is refused as its own ancestor: else whoever may
 * speak, where senders choose ids, could leave a room without a newest event.
 *
 * Whoever is banned may make chains of refused events of any length and width, so no look may follow one again and again. A refused
 * event that some solid one reaches is _covered_ (`event_states.covered`), and so is then all that it leads to itself: a new event
 * follows only what nothing has covered before it, and covers that. Each refused event is so followed once, whatever is built
 * on it, and what covers an event is told by its children alone. Only where a solid event is refused after all, what it alone
 * covered is followed once more.
 *
 * New events nearly always come after what they cite and before what cites them: two statements. Where a verdict changes, or an
 * event is taken in after its children, what changed is looked at with its children and what it leads to.
 */
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { type Transaction } from '../open-store.ts';
import { CYCLE } from '../events/event-states.ts';
import { textArray } from '../sql-values.ts';

/** An event whose verdict is new, or has changed. */
export interface ChangedEvent {
  readonly eventId: EventId;
  readonly isSolid: boolean;
}

/** An event that is being taken into the timeline. Its row of `event_states` is written later in the append. */
export interface TakenInEvent extends ChangedEvent {
  readonly prevEvents: readonly EventId[];
  /** It is refused as its own ancestor. */
  readonly isCut: boolean;
}

/**
 * Makes the extremities of a locked room right after these changes, all at once. Rows of flipped events are written. Gives those of
 * the new events that are refused and covered.
 */
export async function settleExtremities(
  tx: Transaction,
  roomId: RoomId,
  takenIn: readonly TakenInEvent[],
  flipped: readonly ChangedEvent[],
): Promise<ReadonlySet<EventId>> {
  const citedOrCut = takenIn.length > 0 ? await writeEdges(tx, roomId, takenIn) : [];
  const leading = takenIn.filter(({ isCut }) => !isCut);
  const cited = citedOrCut.filter((eventId) => leading.some((event) => event.eventId === eventId));
  if (flipped.length === 0 && cited.length === 0) return advance(tx, roomId, leading);
  return settleAround(tx, roomId, { takenIn: leading, flipped, cited });
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

/** New solid events take the place of what they reach. */
async function advance(
  tx: Transaction,
  roomId: RoomId,
  takenIn: readonly TakenInEvent[],
): Promise<ReadonlySet<EventId>> {
  const parents = new Map(takenIn.map(({ eventId, prevEvents }) => [eventId, prevEvents]));
  const solid = new Set(takenIn.flatMap(({ eventId, isSolid }) => (isSolid ? [eventId] : [])));
  const gone = new Set<EventId>();
  const covered = new Set<EventId>();
  if (solid.size === 0) return covered;
  const cited = [...solid].flatMap((eventId) => parents.get(eventId) ?? []);
  for (let eventId = cited.pop(); eventId !== undefined; eventId = cited.pop()) {
    if (gone.has(eventId)) continue;
    gone.add(eventId);
    const prevEvents = parents.get(eventId);
    if (prevEvents === undefined || solid.has(eventId)) continue;
    // Of these events, and refused; earlier ones are followed in SQL.
    covered.add(eventId);
    cited.push(...prevEvents);
  }
  await tx.query(
    `WITH RECURSIVE gone (event_id, passes) AS (
       SELECT given.event_id, ${passes('given')} FROM unnest($4::text[]) AS given(event_id)
       UNION
       SELECT prev.event_id, ${passes('prev')}
         FROM gone CROSS JOIN LATERAL ${parentsOf('gone')} AS prev(event_id)
        WHERE gone.passes
     ), covered AS (
       UPDATE event_states SET covered = true
        WHERE event_id = ANY (ARRAY(SELECT event_id FROM gone WHERE passes)) AND room_id = $1
     ), removed AS (
       DELETE FROM forward_extremities WHERE room_id = $1 AND event_id = ANY (ARRAY(SELECT event_id FROM gone))
     )
     INSERT INTO forward_extremities (room_id, event_id) SELECT $1, unnest($5::text[]) ON CONFLICT DO NOTHING`,
    [
      roomId,
      textArray([...parents.keys()]),
      textArray([...solid]),
      textArray([...gone]),
      textArray([...solid].filter((eventId) => !gone.has(eventId))),
    ],
  );
  return covered;
}

interface Changes {
  readonly takenIn: readonly ChangedEvent[];
  readonly flipped: readonly ChangedEvent[];
  /** New ones that are cited already. */
  readonly cited: readonly EventId[];
}

/** Decides anew for what changed and for what it leads to: what is covered by what, and what is an extremity. */
async function settleAround(
  tx: Transaction,
  roomId: RoomId,
  { takenIn, flipped, cited }: Changes,
): Promise<ReadonlySet<EventId>> {
  const idsOf = (events: readonly ChangedEvent[], isSolid: boolean): EventId[] =>
    events.filter((event) => event.isSolid === isSolid).map(({ eventId }) => eventId);
  const fresh = takenIn.map(({ eventId }) => eventId);
  const freshSolid = idsOf(takenIn, true);
  const about = [roomId, textArray(fresh), textArray(freshSolid)];
  const { maybeCovered, solid } = await uncover(tx, about, idsOf(flipped, false));
  const isSolid = new Set(freshSolid);
  const doubtful = cited.filter((eventId) => !isSolid.has(eventId));
  const raised = [...freshSolid, ...idsOf(flipped, true)];
  const covered = await cover(tx, about, raised, [...doubtful, ...maybeCovered]);
  await decide(tx, about, covered, [...raised, ...solid], [...fresh, ...flipped.map(({ eventId }) => eventId)]);
  return new Set(covered);
}

/**
 * Takes back what refused events, which were solid, have covered, unless a solid event cites it directly. Gives what was taken back,
 * and may be covered by others, and the solid events at the end of it.
 */
async function uncover(
  tx: Transaction,
  about: readonly string[],
  refused: readonly EventId[],
): Promise<{ readonly maybeCovered: readonly EventId[]; readonly solid: readonly EventId[] }> {
  if (refused.length === 0) return { maybeCovered: [], solid: [] };
  const isCitedBySolid = (row: string): string => `
    (SELECT true FROM event_edges c
      WHERE c.room_id = $1 AND c.prev_event_id = ${row}.event_id AND c.event_id <> ${row}.event_id AND ${isSolid('c')}
      LIMIT 1) IS NOT NULL`;
  const rows = await tx.query<{ eventId: EventId; passes: boolean; isSolid: boolean }>(
    `WITH RECURSIVE up (event_id, passes) AS (
       SELECT given.event_id, ${isCut('given.event_id')} OR NOT ${isCitedBySolid('given')} FROM unnest($4::text[]) AS given(event_id)
       UNION
       SELECT prev.event_id, ${passes('prev', 'true')} AND NOT ${isCitedBySolid('prev')}
         FROM up CROSS JOIN LATERAL ${parentsOf('up')} AS prev(event_id)
        WHERE up.passes
     ), uncovered AS (
       UPDATE event_states SET covered = false
        WHERE event_id = ANY (ARRAY(SELECT event_id FROM up WHERE passes)) AND room_id = $1 AND covered
     )
     SELECT up.event_id AS "eventId", up.passes, ${isSolid('up')} AS "isSolid" FROM up`,
    [...about, textArray(refused)],
  );
  const maybe = rows.flatMap(({ eventId, passes: isOpen }) => (isOpen ? [eventId] : []));
  const solid = rows.flatMap(({ eventId, isSolid: isEnd }) => (isEnd ? [eventId] : []));
  return { maybeCovered: [...new Set([...refused, ...maybe])], solid };
}

/**
 * Covers what solid events lead to, `raised`, and those of `maybeCovered` that their children cover; what is reached is no extremity.
 * Gives those of the new events that are covered.
 */
async function cover(
  tx: Transaction,
  about: readonly string[],
  raised: readonly EventId[],
  maybeCovered: readonly EventId[],
): Promise<EventId[]> {
  const rows = await tx.query<{ eventId: EventId }>(
    `WITH RECURSIVE ${below('$5')}, up (event_id, passes, is_reached) AS (
       SELECT root.event_id, true, false
         FROM (SELECT unnest($4::text[]) UNION SELECT root FROM below WHERE ${covers('below')} AND NOT ${isCut('root')}) AS root(event_id)
       UNION
       SELECT prev.event_id, ${passes('prev')}, true
         FROM up CROSS JOIN LATERAL ${parentsOf('up')} AS prev(event_id)
        WHERE up.passes
     ), marked AS (
       UPDATE event_states SET covered = event_id <> ALL ($4::text[])
        WHERE event_id = ANY (ARRAY(SELECT event_id FROM up WHERE passes)) AND room_id = $1
     ), removed AS (
       DELETE FROM forward_extremities
        WHERE room_id = $1 AND event_id = ANY (ARRAY(SELECT event_id FROM up WHERE is_reached))
     )
     SELECT DISTINCT event_id AS "eventId" FROM up
      WHERE up.passes AND event_id = ANY ($2::text[]) AND event_id <> ALL ($3::text[])`,
    [...about, textArray(raised), textArray(maybeCovered)],
  );
  return rows.map(({ eventId }) => eventId);
}

/** Of solid events, those of this stay that nothing covers are extremities, and nothing else that changed. */
async function decide(
  tx: Transaction,
  about: readonly string[],
  covered: readonly EventId[],
  solid: readonly EventId[],
  changed: readonly EventId[],
): Promise<void> {
  await tx.query(
    `WITH stay AS (
       SELECT CASE WHEN r.join_event_id IS NULL THEN 0
                   -- The row of a join that is being appended is not written yet: nothing that is there is of its stay.
                   ELSE coalesce((SELECT e.position FROM event_states e
                                   WHERE e.room_id = r.room_id AND e.event_id = r.join_event_id AND e.epoch = r.epoch),
                                 9223372036854775807) END AS position
         FROM rooms r WHERE r.room_id = $1
     ), ${below('$5')}, tip AS (
       SELECT given.event_id FROM unnest($5::text[]) AS given(event_id)
        WHERE given.event_id NOT IN (SELECT root FROM below WHERE ${covers('below', '$4')})
          AND ${isSolid('given')}
          AND (given.event_id = ANY ($2::text[]) OR EXISTS (
                SELECT FROM event_states e WHERE e.room_id = $1 AND e.event_id = given.event_id
                   AND e.position >= (SELECT position FROM stay)))
     ), removed AS (
       DELETE FROM forward_extremities
        WHERE room_id = $1 AND event_id = ANY ($5::text[] || $6::text[]) AND event_id NOT IN (SELECT event_id FROM tip)
     )
     INSERT INTO forward_extremities (room_id, event_id) SELECT DISTINCT $1, event_id FROM tip ON CONFLICT DO NOTHING`,
    [...about, textArray(covered), textArray(solid), textArray(changed)],
  );
}

/*
 * Of an event of which a row has the id. Of new events, `$2`, those in `$3` are solid; of the others it is written. Scalar
 * subqueries, OFFSET 0 and arrays, so that each is one look into an index: as joins and EXISTS the planner reads whole tables.
 */

function isSolid(row: string): string {
  return `CASE WHEN ${row}.event_id = ANY ($2::text[]) THEN ${row}.event_id = ANY ($3::text[])
          ELSE coalesce((SELECT s.verdict = 'accepted' AND NOT s.soft_failed FROM event_states s
                          WHERE s.event_id = ${row}.event_id AND s.room_id = $1), false) END`;
}

const IS_NO_CUT = `coalesce(s.rule, '') <> '${CYCLE}'`;

/** Of an event that is there, by its id. */
function isCut(eventId: string): string {
  return `coalesce((SELECT s.rule = '${CYCLE}' FROM event_states s WHERE s.event_id = ${eventId} AND s.room_id = $1), false)`;
}

/** It is refused and not covered yet. An outlier says nothing about the timeline. `ifCovered`: what holds then. */
function passes(row: string, ifCovered = 'NOT s.covered'): string {
  return `CASE WHEN ${row}.event_id = ANY ($2::text[]) THEN ${row}.event_id <> ALL ($3::text[])
          ELSE coalesce((SELECT (s.verdict = 'rejected' OR s.soft_failed) AND ${ifCovered} AND ${IS_NO_CUT} FROM event_states s
                          WHERE s.event_id = ${row}.event_id AND s.room_id = $1), false) END`;
}

/** It is solid or covered. `covered`: the new events that are. */
function covers(row: string, covered?: string): string {
  const isCovered = covered === undefined ? '' : `OR ${row}.event_id = ANY (${covered}::text[])`;
  return `CASE WHEN ${row}.event_id = ANY ($2::text[]) THEN ${row}.event_id = ANY ($3::text[]) ${isCovered}
          ELSE coalesce((SELECT s.covered OR s.verdict = 'accepted' AND NOT s.soft_failed FROM event_states s
                          WHERE s.event_id = ${row}.event_id AND s.room_id = $1), false) END`;
}

/** The children of the events `given`. */
function below(given: string): string {
  return `below (root, event_id) AS (
       SELECT given.event_id, c.event_id
         FROM unnest(${given}::text[]) AS given(event_id)
        CROSS JOIN LATERAL (SELECT event_id FROM event_edges
                             WHERE room_id = $1 AND prev_event_id = given.event_id OFFSET 0) AS c
        WHERE c.event_id <> given.event_id)`;
}

function parentsOf(row: string): string {
  return `(SELECT unnest(prev_events) FROM pdus WHERE event_id = ${row}.event_id AND room_id = $1 OFFSET 0)`;
}
