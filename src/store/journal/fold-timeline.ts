/** The folds of timeline entries: verdicts and states of events, forward extremities. */
import { type EventId, type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type SnapshotId, type TimelineEvent } from '../../resync/events.ts';
import { CYCLE, type Verdict } from '../events/event-states.ts';
import { type Transaction } from '../open-store.ts';
import { type OutlierBefore } from './fold-corrections.ts';
import { type ChangedEvent, settleExtremities } from './fold-extremities.ts';
import { int8Array, textArray } from '../sql-values.ts';
import { displayable } from '../storable-text.ts';

type Judged = Extract<TimelineEvent, { type: 'PduAccepted' | 'PduRejected' }>;
type UnPartialStated = Extract<TimelineEvent, { type: 'EventUnPartialStated' }>;
type SoftFailed = Extract<TimelineEvent, { type: 'EventSoftFailed' }>;
type Lifted = Extract<TimelineEvent, { type: 'SoftFailureLifted' }>;
type StatesChanged = Extract<TimelineEvent, { type: 'StatesChanged' }>;
type VerdictChanged = Extract<TimelineEvent, { type: 'VerdictChanged' }>;
/** A verdict on an event of the timeline, with its states. */
type JudgedAgain =
  UnPartialStated | (VerdictChanged & { readonly stateBefore: SnapshotId; readonly stateAfter: SnapshotId });

/** A row of `event_states`, but for what the journal entry itself gives it. */
export interface EventStateRow {
  readonly eventNid: number;
  readonly eventId: EventId;
  readonly stateBefore: SnapshotId;
  readonly stateAfter: SnapshotId;
  readonly verdict: Verdict;
  readonly softFailed: boolean;
  readonly covered: boolean;
  readonly rule: string | null;
  readonly reason: string | null;
  readonly partial: boolean;
  readonly authDepth: number | null;
  /** Nids, as an array of the database; `null`: the entry does not say. */
  readonly authState: string | null;
}

/** What the folds need to know of the events of an append. */
export interface TimelineFacts {
  /** Those that are taken in. */
  readonly events: ReadonlyMap<EventId, EventFacts>;
  /** Of these, and of the events that verdicts were made by. */
  readonly nids: ReadonlyMap<EventId, number>;
  /** Of the state events that entries are about. */
  readonly stateEvents: ReadonlyMap<EventId, OutlierBefore>;
  /** Of those that entries are about, the ones that stand as anchors with a full state, with that state. */
  readonly anchors: ReadonlyMap<EventId, SnapshotId>;
}

/** What the folds need to know of an event that is taken in. */
export interface EventFacts {
  readonly nid: number;
  readonly type: string;
  readonly sender: UserId;
  /** Its server is known to be in the room by more than a stranger's word. */
  readonly isSpeakerKnown: boolean;
  readonly prevEvents: readonly EventId[];
  readonly authEvents: readonly EventId[];
  /** Of its auth events, in their order; `null`: not known before this append. */
  readonly authDepths: readonly (number | null)[];
}

/** What the folds need to know of any event that an entry names. */
interface NamedEvent {
  readonly eventId: EventId;
  readonly isState: boolean;
  readonly outlierVerdict: Verdict | null;
  readonly isAwaited: boolean;
  readonly anchorState: SnapshotId | null;
}

function isJudged(event: TimelineEvent): event is Judged {
  return event.type === 'PduAccepted' || event.type === 'PduRejected';
}

/** Looks up the events that entries name. Throws when one that is taken in is not stored. */
export async function timelineFacts(
  tx: Transaction,
  roomId: RoomId,
  timeline: readonly TimelineEvent[],
): Promise<TimelineFacts> {
  const judged = timeline.filter(isJudged).map(({ eventId }) => eventId);
  const named = timeline.flatMap((event) => ('eventId' in event ? [event.eventId] : []));
  const authStates = timeline.flatMap((event) => ('authState' in event ? event.authState : []));
  if (named.length + authStates.length === 0) {
    return { events: new Map(), nids: new Map(), stateEvents: new Map(), anchors: new Map() };
  }
  const rows = await tx.query<EventFacts & NamedEvent>(
    `SELECT p.event_id AS "eventId", p.nid, p.type, p.sender,
            EXISTS (SELECT FROM room_servers s
                     WHERE s.room_id = p.room_id AND s.server_name = substr(p.sender, strpos(p.sender, ':') + 1)
                       AND s.source <> 'hint') AS "isSpeakerKnown",
            p.prev_events AS "prevEvents", p.auth_events AS "authEvents", p.state_key_nid IS NOT NULL AS "isState",
            (SELECT o.verdict FROM outlier_verdicts o WHERE o.event_nid = p.nid) AS "outlierVerdict",
            EXISTS (SELECT FROM awaited_events w WHERE w.room_id = p.room_id AND w.event_id = p.event_id)
              OR EXISTS (SELECT FROM left_out l WHERE l.room_id = p.room_id AND l.event_id = p.event_id) AS "isAwaited",
            (SELECT encode(a.state_after, 'hex') FROM anchors a
              WHERE a.room_id = p.room_id AND a.event_id = p.event_id AND NOT a.partial) AS "anchorState",
            CASE WHEN p.event_id = ANY ($3::text[]) THEN
              ARRAY(SELECT coalesce(e.auth_depth, o.auth_depth)
                      FROM unnest(p.auth_events) WITH ORDINALITY AS cited(event_id, ordinal)
                      LEFT JOIN pdus a ON a.event_id = cited.event_id AND a.room_id = p.room_id
                      LEFT JOIN event_states e ON e.event_nid = a.nid
                      LEFT JOIN outlier_verdicts o ON o.event_nid = a.nid
                     ORDER BY ordinal) END AS "authDepths"
       FROM pdus p WHERE p.room_id = $1 AND p.event_id = ANY ($2::text[])`,
    [roomId, [...new Set([...named, ...authStates])], judged],
  );
  const byId = new Map(rows.map((row) => [row.eventId, row]));
  const events = new Map<EventId, EventFacts>();
  for (const eventId of judged) {
    const facts = byId.get(eventId);
    if (facts === undefined) throw new Error(`${eventId} is not a stored event of ${roomId}`);
    events.set(eventId, facts);
  }
  const about = new Set(named);
  const stateEvents = new Map<EventId, OutlierBefore>();
  const anchors = new Map<EventId, SnapshotId>();
  for (const { eventId, isState, outlierVerdict, isAwaited, anchorState } of rows) {
    if (!about.has(eventId)) continue;
    if (isState) stateEvents.set(eventId, { verdict: outlierVerdict, isAwaited });
    if (anchorState !== null) anchors.set(eventId, anchorState);
  }
  return { events, nids: new Map(rows.map(({ eventId, nid }) => [eventId, nid])), stateEvents, anchors };
}

/** The nids of what a verdict was made by, as an array of the database; `null`: the entry does not say. */
function authStateOf({ authState }: Judged | JudgedAgain | SoftFailed, { nids }: TimelineFacts): string | null {
  return authState === undefined ? null : int8Array(authState.flatMap((eventId) => nids.get(eventId) ?? []));
}

/** Applies the folds that need no position, and gives the rows of `event_states` that do. */
export async function foldTimeline(
  tx: Transaction,
  roomId: RoomId,
  timeline: readonly TimelineEvent[],
  facts: TimelineFacts,
): Promise<EventStateRow[]> {
  const judged = timeline.filter(isJudged);
  const judgedAgain = timeline.filter(isJudgedAgain);
  const flipped = judgedAgain.length > 0 ? await foldJudgedAgain(tx, roomId, judgedAgain, facts) : [];
  const softFailed = timeline.filter((event) => event.type === 'EventSoftFailed');
  if (softFailed.length > 0) flipped.push(...(await foldSoftFailed(tx, roomId, softFailed, facts)));
  const lifted = timeline.filter((event) => event.type === 'SoftFailureLifted');
  if (lifted.length > 0) flipped.push(...(await foldLifted(tx, roomId, lifted)));
  await foldStatesChanged(
    tx,
    roomId,
    timeline.filter((event) => event.type === 'StatesChanged'),
  );
  await foldOutliers(tx, roomId, timeline.filter(isOutlierChanged));
  const takenIn = judged.map((event) => ({
    eventId: event.eventId,
    isSolid: event.type === 'PduAccepted' && !event.softFailed,
    prevEvents: facts.events.get(event.eventId)?.prevEvents ?? [],
    isCut: event.type === 'PduRejected' && event.rule === CYCLE,
  }));
  const covered = await settleExtremities(tx, roomId, takenIn, flipped);

  const depths = new Map<EventId, number | null>();
  return judged.flatMap((event) => {
    const fact = facts.events.get(event.eventId);
    if (fact === undefined) return [];
    const authDepth = authDepthOf(fact, depths);
    depths.set(event.eventId, authDepth);
    const row = toRow(event, fact.nid, authDepth, authStateOf(event, facts));
    return [{ ...row, covered: covered.has(event.eventId) }];
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

function toRow(
  event: Judged,
  eventNid: number,
  authDepth: number | null,
  authState: string | null,
): Omit<EventStateRow, 'covered'> {
  const { eventId, stateBefore, partial } = event;
  const row = { eventNid, eventId, stateBefore, partial, authDepth, authState };
  if (event.type === 'PduAccepted') {
    const { stateAfter, softFailed } = event;
    return { ...row, stateAfter, verdict: 'accepted', softFailed, rule: null, reason: null };
  }
  const rule = displayable(event.rule);
  const reason = displayable(event.reason);
  return { ...row, stateAfter: stateBefore, verdict: 'rejected', softFailed: false, rule, reason };
}

function isJudgedAgain(event: TimelineEvent): event is JudgedAgain {
  if (event.type === 'EventUnPartialStated') return true;
  return event.type === 'VerdictChanged' && event.stateBefore !== undefined && event.stateAfter !== undefined;
}

function isOutlierChanged(event: TimelineEvent): event is VerdictChanged {
  return event.type === 'VerdictChanged' && !isJudgedAgain(event);
}

/** Gives events their full state and another verdict, or the final one; returns those whose verdict, or whether they lead on, has changed. */
async function foldJudgedAgain(
  tx: Transaction,
  roomId: RoomId,
  events: readonly JudgedAgain[],
  facts: TimelineFacts,
): Promise<ChangedEvent[]> {
  const rows = await tx.query<ChangedEvent & { readonly isMoved: boolean }>(
    `UPDATE event_states e
        SET partial = false, state_before = decode(u.state_before, 'hex'), state_after = decode(u.state_after, 'hex'),
            verdict = u.verdict, rule = u.rule, reason = u.reason, auth_state = u.auth_state::bigint[],
            shown_at = CASE WHEN u.verdict = 'accepted' THEN e.shown_at END
       FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[])
            AS u(event_id, state_before, state_after, verdict, rule, reason, auth_state)
       JOIN event_states was ON was.event_id = u.event_id AND was.room_id = $1
      WHERE e.event_nid = was.event_nid
      RETURNING e.event_id AS "eventId", e.verdict = 'accepted' AND NOT e.soft_failed AS "isSolid",
                (coalesce(was.rule, '') = '${CYCLE}') <> (coalesce(e.rule, '') = '${CYCLE}') AS "isMoved"`,
    [
      roomId,
      events.map(({ eventId }) => eventId),
      events.map(({ stateBefore }) => stateBefore),
      events.map(({ stateAfter }) => stateAfter),
      events.map((event) => event.is),
      events.map(({ rule }) => (rule === undefined ? null : displayable(rule))),
      events.map(({ reason }) => (reason === undefined ? null : displayable(reason))),
      textArray(events.map((event) => authStateOf(event, facts))),
    ],
  );
  const flipped = new Set(events.flatMap((event) => (event.was === event.is ? [] : [event.eventId])));
  return rows.filter(({ eventId, isMoved }) => flipped.has(eventId) || isMoved);
}

/** Makes accepted events soft-failed ones; returns those that were not. */
async function foldSoftFailed(
  tx: Transaction,
  roomId: RoomId,
  events: readonly SoftFailed[],
  facts: TimelineFacts,
): Promise<ChangedEvent[]> {
  return tx.query<ChangedEvent>(
    `UPDATE event_states e SET soft_failed = true, shown_at = NULL, auth_state = s.auth_state::bigint[]
       FROM unnest($2::text[], $3::text[]) AS s(event_id, auth_state)
      WHERE e.event_id = s.event_id AND e.room_id = $1 AND e.verdict = 'accepted' AND NOT e.soft_failed
      RETURNING e.event_id AS "eventId", false AS "isSolid"`,
    [roomId, events.map(({ eventId }) => eventId), textArray(events.map((event) => authStateOf(event, facts)))],
  );
}

/** Makes soft-failed events extremities again, or what may be one. By what else they were judged is not kept: it follows from their states. */
async function foldLifted(tx: Transaction, roomId: RoomId, events: readonly Lifted[]): Promise<ChangedEvent[]> {
  return tx.query<ChangedEvent>(
    `UPDATE event_states e SET soft_failed = false, auth_state = NULL
      WHERE e.room_id = $1 AND e.event_id = ANY ($2::text[]) AND e.soft_failed
      RETURNING e.event_id AS "eventId", e.verdict = 'accepted' AS "isSolid"`,
    [roomId, events.map(({ eventId }) => eventId)],
  );
}

/** What events that keep their verdict were judged by is not kept again for each: it follows from the state before them. */
async function foldStatesChanged(tx: Transaction, roomId: RoomId, entries: readonly StatesChanged[]): Promise<void> {
  const rows = entries.flatMap(({ eventIds, ...states }) => eventIds.map((eventId) => ({ eventId, ...states })));
  if (rows.length === 0) return;
  await tx.query(
    `UPDATE event_states e
        SET state_before = decode(c.state_before, 'hex'), state_after = decode(c.state_after, 'hex'),
            auth_state = CASE WHEN e.soft_failed THEN e.auth_state END
       FROM unnest($2::text[], $3::text[], $4::text[]) AS c(event_id, state_before, state_after)
      WHERE e.event_id = c.event_id AND e.room_id = $1`,
    [
      roomId,
      rows.map(({ eventId }) => eventId),
      rows.map(({ stateBefore }) => stateBefore),
      rows.map(({ stateAfter }) => stateAfter),
    ],
  );
}

async function foldOutliers(tx: Transaction, roomId: RoomId, entries: readonly VerdictChanged[]): Promise<void> {
  if (entries.length === 0) return;
  await tx.query(
    `UPDATE outlier_verdicts o SET verdict = c.verdict, rule = c.rule, reason = c.reason
       FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS c(event_id, verdict, rule, reason)
       JOIN pdus p ON p.event_id = c.event_id AND p.room_id = $1
      WHERE o.event_nid = p.nid`,
    [
      roomId,
      entries.map(({ eventId }) => eventId),
      entries.map(({ is }) => is),
      entries.map(({ rule }) => (rule === undefined ? null : displayable(rule))),
      entries.map(({ reason }) => (reason === undefined ? null : displayable(reason))),
    ],
  );
}
