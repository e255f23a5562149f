/** The folds of timeline entries: verdicts and states of events, forward extremities, memberships of local users. */
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { type SnapshotId, type TimelineEvent } from '../../resync/events.ts';
import { type Verdict } from '../events/event-states.ts';
import { type Transaction } from '../open-store.ts';
import { diffSnapshotTries } from '../snapshots/snapshots.ts';
import { stateKeyNidOf } from '../snapshots/snapshot-trie.ts';
import { int8Array } from '../sql-values.ts';
import { displayable } from '../storable-text.ts';

type Judged = Extract<TimelineEvent, { type: 'PduAccepted' | 'PduRejected' }>;
type UnPartialStated = Extract<TimelineEvent, { type: 'EventUnPartialStated' }>;

/** A row of `event_states`, but for what the journal entry itself gives it. */
export interface EventStateRow {
  readonly eventNid: number;
  readonly eventId: EventId;
  readonly stateBefore: SnapshotId;
  readonly stateAfter: SnapshotId;
  readonly verdict: Verdict;
  readonly softFailed: boolean;
  readonly rule: string | null;
  readonly reason: string | null;
  readonly partial: boolean;
  readonly authDepth: number | null;
}

/** What the folds need to know of an event that is taken in. */
export interface EventFacts {
  readonly nid: number;
  readonly type: string;
  readonly prevEvents: readonly EventId[];
  readonly authEvents: readonly EventId[];
  /** Of its auth events, in their order; `null`: not known before this append. */
  readonly authDepths: readonly (number | null)[];
}

function isJudged(event: TimelineEvent): event is Judged {
  return event.type === 'PduAccepted' || event.type === 'PduRejected';
}

/** Looks up the events that are taken in. Throws when one is not stored. */
export async function timelineFacts(
  tx: Transaction,
  roomId: RoomId,
  timeline: readonly TimelineEvent[],
): Promise<ReadonlyMap<EventId, EventFacts>> {
  const eventIds = timeline.filter(isJudged).map(({ eventId }) => eventId);
  if (eventIds.length === 0) return new Map();
  const rows = await tx.query<EventFacts & { eventId: EventId }>(
    `SELECT p.event_id AS "eventId", p.nid, p.type, p.prev_events AS "prevEvents", p.auth_events AS "authEvents",
            ARRAY(SELECT coalesce(e.auth_depth, o.auth_depth)
                    FROM unnest(p.auth_events) WITH ORDINALITY AS cited(event_id, ordinal)
                    LEFT JOIN pdus a ON a.event_id = cited.event_id AND a.room_id = p.room_id
                    LEFT JOIN event_states e ON e.event_nid = a.nid
                    LEFT JOIN outlier_verdicts o ON o.event_nid = a.nid
                   ORDER BY ordinal) AS "authDepths"
       FROM pdus p WHERE p.room_id = $1 AND p.event_id = ANY ($2::text[])`,
    [roomId, eventIds],
  );
  const facts = new Map(rows.map((row) => [row.eventId, row]));
  const absent = eventIds.find((eventId) => !facts.has(eventId));
  if (absent !== undefined) throw new Error(`${absent} is not a stored event of ${roomId}`);
  return facts;
}

/** Applies the folds that need no position, and gives the rows of `event_states` that do. */
export async function foldTimeline(
  tx: Transaction,
  roomId: RoomId,
  timeline: readonly TimelineEvent[],
  facts: ReadonlyMap<EventId, EventFacts>,
  currentStateBefore: string | null,
): Promise<EventStateRow[]> {
  const judged = timeline.filter(isJudged);
  const unPartialStated = timeline.filter((event) => event.type === 'EventUnPartialStated');
  if (unPartialStated.length > 0) await foldUnPartialStated(tx, roomId, unPartialStated);
  if (judged.length > 0) await advanceExtremities(tx, roomId, judged, facts);

  const resolved = timeline.findLast((event) => 'currentState' in event);
  if (resolved && 'currentState' in resolved && resolved.currentState !== currentStateBefore) {
    await foldLocalMembers(tx, roomId, currentStateBefore as SnapshotId | null, resolved.currentState);
  }
  const depths = new Map<EventId, number | null>();
  return judged.flatMap((event) => {
    const fact = facts.get(event.eventId);
    if (fact === undefined) return [];
    const authDepth = authDepthOf(fact, depths);
    depths.set(event.eventId, authDepth);
    return [toRow(event, fact.nid, authDepth)];
  });
}

/** One more than the greatest of its auth events, those of this append among them. The create event alone has none. */
function authDepthOf(
  { type, authEvents, authDepths }: EventFacts,
  ofThisAppend: ReadonlyMap<EventId, number | null>,
): number | null {
  let depth = type === 'm.room.create' ? 0 : 1;
  for (const [i, eventId] of authEvents.entries()) {
    const cited = authDepths[i] ?? ofThisAppend.get(eventId) ?? null;
    if (cited === null) return null;
    depth = Math.max(depth, cited + 1);
  }
  return depth;
}

function toRow(event: Judged, eventNid: number, authDepth: number | null): EventStateRow {
  const { eventId, stateBefore, partial } = event;
  const row = { eventNid, eventId, stateBefore, partial, authDepth };
  if (event.type === 'PduAccepted') {
    const { stateAfter, softFailed } = event;
    return { ...row, stateAfter, verdict: 'accepted', softFailed, rule: null, reason: null };
  }
  const rule = displayable(event.rule);
  const reason = displayable(event.reason);
  return { ...row, stateAfter: stateBefore, verdict: 'rejected', softFailed: false, rule, reason };
}

/** Parents reached through events that are rejected or soft-failed count as those of the event that cites these. */
const GONE = `
  gone (event_id) AS (
    SELECT unnest($2::text[])
    UNION
    SELECT prev.event_id
      FROM gone JOIN event_states e ON e.event_id = gone.event_id AND (e.verdict = 'rejected' OR e.soft_failed)
      JOIN pdus p ON p.nid = e.event_nid CROSS JOIN unnest(p.prev_events) AS prev(event_id)
  )`;

const DELETE_GONE = `
  WITH RECURSIVE ${GONE}
  DELETE FROM forward_extremities x USING gone WHERE x.room_id = $1 AND x.event_id = gone.event_id`;

/** New accepted events become extremities in the place of their parents. */
async function advanceExtremities(
  tx: Transaction,
  roomId: RoomId,
  judged: readonly Judged[],
  facts: ReadonlyMap<EventId, EventFacts>,
): Promise<void> {
  const accepted = new Set(
    judged.flatMap((event) => (event.type === 'PduAccepted' && !event.softFailed ? [event.eventId] : [])),
  );
  if (accepted.size === 0) return;
  const gone = new Set<EventId>();
  const cited = [...accepted].flatMap((eventId) => facts.get(eventId)?.prevEvents ?? []);
  for (let eventId = cited.pop(); eventId !== undefined; eventId = cited.pop()) {
    if (gone.has(eventId)) continue;
    gone.add(eventId);
    // Of this batch and refused; earlier ones are followed in SQL.
    if (!accepted.has(eventId)) cited.push(...(facts.get(eventId)?.prevEvents ?? []));
  }
  await tx.query(
    `INSERT INTO forward_extremities (room_id, event_id) SELECT $1, unnest($2::text[]) ON CONFLICT DO NOTHING`,
    [roomId, [...accepted].filter((eventId) => !gone.has(eventId))],
  );
  await tx.query(DELETE_GONE, [roomId, [...gone]]);
}

/** Gives events their full state and final verdict, and the extremities what flips mean for them. */
async function foldUnPartialStated(tx: Transaction, roomId: RoomId, events: readonly UnPartialStated[]): Promise<void> {
  await tx.query(
    `UPDATE event_states e
        SET partial = false, state_before = decode(u.state_before, 'hex'), state_after = decode(u.state_after, 'hex'),
            verdict = u.verdict, rule = u.rule, reason = u.reason
       FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
            AS u(event_id, state_before, state_after, verdict, rule, reason)
      WHERE e.event_id = u.event_id AND e.room_id = $1`,
    [
      roomId,
      events.map(({ eventId }) => eventId),
      events.map(({ stateBefore }) => stateBefore),
      events.map(({ stateAfter }) => stateAfter),
      events.map((event) => event.is),
      events.map(({ rule }) => (rule === undefined ? null : displayable(rule))),
      events.map(({ reason }) => (reason === undefined ? null : displayable(reason))),
    ],
  );
  const flipped = events.filter((event) => event.was !== event.is);
  const rejected = flipped.filter((event) => event.is === 'rejected').map(({ eventId }) => eventId);
  const accepted = flipped.filter((event) => event.is === 'accepted').map(({ eventId }) => eventId);
  if (rejected.length > 0) await tx.query(RETREAT_EXTREMITIES, [roomId, rejected]);
  if (accepted.length > 0) {
    await tx.query(REVIVE_EXTREMITIES, [roomId, accepted]);
    await tx.query(
      `WITH RECURSIVE revived AS (
         SELECT p.prev_events FROM event_states e JOIN pdus p ON p.nid = e.event_nid
          WHERE e.event_id = ANY ($2::text[]) AND e.verdict = 'accepted' AND NOT e.soft_failed
       ), ${GONE.replace('unnest($2::text[])', 'unnest(prev_events) FROM revived')}
       DELETE FROM forward_extremities x USING gone WHERE x.room_id = $1 AND x.event_id = gone.event_id`,
      [roomId, accepted],
    );
  }
}

/** Whether an accepted event cites `e`. Flips are rare enough to look through the whole timeline of the room. */
const HAS_ACCEPTED_CHILD = `
  EXISTS (SELECT FROM event_states c JOIN pdus cp ON cp.nid = c.event_nid
           WHERE c.room_id = e.room_id AND c.verdict = 'accepted' AND NOT c.soft_failed
             AND e.event_id = ANY (cp.prev_events))`;

/** An extremity that turns out to be rejected gives way to its nearest accepted ancestors. */
const RETREAT_EXTREMITIES = `
  WITH RECURSIVE dropped AS (
    DELETE FROM forward_extremities WHERE room_id = $1 AND event_id = ANY ($2::text[]) RETURNING event_id
  ), ancestor (event_id) AS (
    SELECT prev.event_id
      FROM dropped JOIN pdus p ON p.event_id = dropped.event_id CROSS JOIN unnest(p.prev_events) AS prev(event_id)
    UNION
    SELECT prev.event_id
      FROM ancestor a JOIN event_states e ON e.event_id = a.event_id AND (e.verdict = 'rejected' OR e.soft_failed)
      JOIN pdus p ON p.nid = e.event_nid CROSS JOIN unnest(p.prev_events) AS prev(event_id)
  )
  INSERT INTO forward_extremities (room_id, event_id)
  SELECT $1, e.event_id
    FROM ancestor a JOIN event_states e ON e.event_id = a.event_id
   WHERE e.room_id = $1 AND e.verdict = 'accepted' AND NOT e.soft_failed AND NOT ${HAS_ACCEPTED_CHILD}
  ON CONFLICT DO NOTHING`;

/** An event that turns out to be accepted is an extremity unless an accepted event cites it already. */
const REVIVE_EXTREMITIES = `
  INSERT INTO forward_extremities (room_id, event_id)
  SELECT $1, e.event_id FROM event_states e
   WHERE e.room_id = $1 AND e.event_id = ANY ($2::text[]) AND e.verdict = 'accepted' AND NOT e.soft_failed
     AND NOT ${HAS_ACCEPTED_CHILD}
  ON CONFLICT DO NOTHING`;

/** Follows the memberships of this server's users from one current state to the next; costs what differs. */
async function foldLocalMembers(
  tx: Transaction,
  roomId: RoomId,
  before: SnapshotId | null,
  after: SnapshotId,
): Promise<void> {
  const differences = await diffSnapshotTries(tx, roomId, before, after);
  if (differences.length === 0) return;
  await tx.query(
    `WITH changed AS (
       SELECT k.state_key AS user_id, p.membership, p.event_id
         FROM unnest($3::bigint[], $4::bigint[]) AS d(key, after)
         JOIN state_keys k ON k.nid = d.key
         LEFT JOIN pdus p ON p.nid = d.after
        WHERE k.type = 'm.room.member' AND substr(k.state_key, strpos(k.state_key, ':')) = $2
     ), gone AS (
       DELETE FROM local_members m USING changed c
        WHERE m.room_id = $1 AND m.user_id = c.user_id AND c.membership IS NULL
     )
     INSERT INTO local_members (room_id, user_id, membership, event_id)
     SELECT $1, user_id, membership, event_id FROM changed WHERE membership IS NOT NULL
     ON CONFLICT (room_id, user_id) DO UPDATE SET (membership, event_id) = (excluded.membership, excluded.event_id)`,
    [
      roomId,
      `:${tx.serverName}`,
      int8Array(differences.map(({ key }) => stateKeyNidOf(key))),
      `{${differences.map((difference) => difference.after ?? 'NULL').join(',')}}`,
    ],
  );
}
