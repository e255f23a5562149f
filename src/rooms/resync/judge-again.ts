/**
 * Judges partial events again once the full state before them is known: checks 4 and 5, parents first. Whatever a stranger
 * made of the graph ends in a verdict: an event whose parents cannot be had, or that is its own ancestor, is rejected with a
 * reason. Only what builds on a gap that is still open is left for later.
 */
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { authEventIdsOf, authEventsAmong } from '../../matrix/auth/auth-events.ts';
import { checkUnPartialStated } from '../../matrix/pdu-checks.ts';
import { type Pdu } from '../../matrix/pdu.ts';
import { type Refusal, refuse } from '../../matrix/refusal.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { type SnapshotId, type TimelineEvent } from '../../resync/events.ts';
import { type Parent, readFullAnchorState, readParents } from '../../store/events/anchors.ts';
import { type StoredEventState, type Verdict } from '../../store/events/event-states.ts';
import { invariant } from '../../invariant.ts';
import { type Sql } from '../../store/open-store.ts';
import { changeSnapshot } from '../../store/snapshots/snapshots.ts';
import { authStatesOf } from '../judge/auth-state.ts';
import { loadPdus } from '../judge/load-pdus.ts';
import { resolveInSteps } from '../judge/resolve-in-steps.ts';

type UnPartialStated = Extract<TimelineEvent, { type: 'EventUnPartialStated' }>;

export interface JudgedBatch {
  readonly timeline: readonly UnPartialStated[];
}

export interface Judging {
  /** Nothing else can be judged: what cites a partial event that is not among these is on a cycle with it. */
  readonly refusesUnlisted: boolean;
  /** Called before each event. */
  readonly onEvent: () => void;
  /** Ends the batch after the event that is being judged. */
  readonly isTimeUp: () => boolean;
}

/** An event whose state before is known, and whose verdict is not yet. */
interface Placed {
  readonly event: StoredEventState;
  readonly pdu: Pdu;
  readonly stateBefore: SnapshotId;
}

interface Decided {
  readonly stateBefore: SnapshotId;
  /** Absent: the event changes nothing. */
  readonly stateAfter?: SnapshotId;
  readonly refusal?: Refusal;
  /** The events that decided it. */
  readonly authState: readonly EventId[];
}

/**
 * Judges what can be judged of these events, in their order; what builds on an open gap is left out.
 *
 * @param partial as `readPartialEvents` gives them: an event stands after all partial ones that it cites, but for those with
 * which it is on a cycle.
 */
export async function judgeAgain(
  sql: Sql,
  roomId: RoomId,
  rules: RoomVersionRules,
  partial: readonly StoredEventState[],
  { refusesUnlisted, onEvent, isTimeUp }: Judging,
): Promise<JudgedBatch> {
  const cited = new Set(
    partial.flatMap(({ eventId, prevEvents, authEvents }) => [eventId, ...prevEvents, ...authEvents]),
  );
  if (rules.roomIdIsCreateHash) cited.add(`$${roomId.slice(1)}` as EventId);
  const loaded = await loadPdus(sql, roomId, rules, [...cited]);
  const parents = await readParents(sql, roomId, [...cited]);

  const listed = new Set(partial.map(({ eventId }) => eventId));
  const timeline: UnPartialStated[] = [];
  const verdicts = new Map<EventId, Verdict>();
  const after = new Map<EventId, SnapshotId>();
  const left = new Set<EventId>();
  /** Judged together, when a later event needs to know one of the verdicts. */
  let placed: Placed[] = [];

  const decide = (
    { eventId, verdict: was }: StoredEventState,
    { stateBefore, stateAfter = stateBefore, refusal, authState }: Decided,
  ): void => {
    const is = refusal === undefined ? 'accepted' : 'rejected';
    verdicts.set(eventId, is);
    after.set(eventId, stateAfter);
    const why = refusal === undefined ? {} : { rule: refusal.rule, reason: refusal.reason };
    timeline.push({ type: 'EventUnPartialStated', eventId, stateBefore, stateAfter, was, is, ...why, authState });
  };
  const judgePlaced = async (): Promise<void> => {
    const events = placed;
    placed = [];
    const wanted = events.map(({ pdu, stateBefore }) => ({ event: pdu, snapshot: stateBefore }));
    const authStates = await authStatesOf(sql, roomId, rules, wanted);
    for (const [i, { event, pdu, stateBefore }] of events.entries()) {
      const state = authStates[i] ?? (() => undefined);
      const verdict = checkUnPartialStated({
        event: pdu,
        rules,
        authEvents: authEventIdsOf(pdu, rules).flatMap((id) => loaded.pdus.get(id) ?? []),
        isRejected: (id) => (verdicts.get(id) ?? (loaded.rejected.has(id) ? 'rejected' : 'accepted')) === 'rejected',
        stateBefore: state,
      });
      const authState = authEventsAmong(state, pdu, rules);
      if (verdict.outcome !== 'accept') {
        decide(event, { stateBefore, refusal: refuse(verdict.rule, verdict.reason), authState });
      } else if (pdu.stateKey === undefined) {
        decide(event, { stateBefore, authState });
      } else {
        const stateAfter = await changeSnapshot(sql, roomId, stateBefore, [{ eventId: event.eventId }]);
        decide(event, { stateBefore, stateAfter, authState });
      }
    }
  };
  const place = async (event: StoredEventState): Promise<void> => {
    const pdu = loaded.pdus.get(event.eventId);
    invariant(pdu !== undefined, `partial event ${event.eventId} has a body`);
    const needed = new Set([...event.prevEvents, ...event.authEvents]);
    // A message leaves the state as it was whatever is thought of it; of a state event, and of an auth event, that is asked.
    const needsVerdict = placed.some(
      (other) =>
        needed.has(other.event.eventId) &&
        (other.pdu.stateKey !== undefined || event.authEvents.includes(other.event.eventId)),
    );
    if (needsVerdict) await judgePlaced();
    const states = event.prevEvents.flatMap((prev) => after.get(prev) ?? parents.get(prev)?.stateAfter ?? []);
    const stateBefore = await resolveInSteps(sql, roomId, rules, states);
    after.set(event.eventId, stateBefore);
    placed.push({ event, pdu, stateBefore });
  };
  /** Others may build on a refused event: the state there is that of a parent which has one, or the one where we joined. */
  const refuseAt = async (event: StoredEventState, refusal: Refusal): Promise<void> => {
    const known = event.prevEvents.map((prev) => after.get(prev) ?? fullStateAfter(parents.get(prev)));
    const state = known.find((id) => id !== undefined) ?? (await readFullAnchorState(sql, roomId)) ?? event.stateBefore;
    decide(event, { stateBefore: state, refusal, authState: [] });
  };

  for (const event of partial) {
    if (timeline.length + placed.length > 0 && isTimeUp()) break;
    onEvent();
    const cites = [...event.prevEvents, ...event.authEvents];
    const isOpenGap = (id: EventId): boolean => parents.get(id)?.isAnchor === true && parents.get(id)?.partial === true;
    if (cites.some((id) => isOpenGap(id) || left.has(id))) {
      left.add(event.eventId);
      continue;
    }
    // A partial event that is not listed has come since: it is judged with the next batch, and this one after it.
    const isAhead = (id: EventId): boolean => parents.get(id)?.partial === true && !after.has(id);
    if (!refusesUnlisted && cites.some((id) => isAhead(id) && !listed.has(id))) {
      left.add(event.eventId);
      continue;
    }
    const refusal = refusalByPlace(event, parents, cites.find(isAhead));
    if (refusal !== undefined) {
      await refuseAt(event, refusal);
      continue;
    }
    await place(event);
  }
  await judgePlaced();
  return { timeline };
}

function fullStateAfter(parent: Parent | undefined): SnapshotId | undefined {
  return parent?.partial === false ? parent.stateAfter : undefined;
}

/** Why an event has no state before it that anybody could work out. `ahead`: what it cites and stands before. */
function refusalByPlace(
  { prevEvents }: StoredEventState,
  parents: ReadonlyMap<EventId, Parent>,
  ahead: EventId | undefined,
): Refusal | undefined {
  const missing = prevEvents.find((id) => !parents.has(id));
  if (missing !== undefined) {
    return refuse('prev-event-missing', `its prev_event ${missing} is no event of this room that can be had`);
  }
  return ahead === undefined ? undefined : refuse('graph-cycle', `it is its own ancestor, through ${ahead}`);
}
