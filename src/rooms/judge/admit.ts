/** Takes one event into the timeline: judges it by the states at hand and says what is to be journalled about it. */
import { type EventId } from '../../matrix/identifiers.ts';
import { authEventIdsOf } from '../../matrix/auth/auth-events.ts';
import { type PduVerdict, checkReceived } from '../../matrix/pdu-checks.ts';
import { type Pdu } from '../../matrix/pdu.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { type SnapshotId, type TimelineEvent } from '../../resync/events.ts';
import { readEventStates } from '../../store/events/event-states.ts';
import { type Sql } from '../../store/open-store.ts';
import { type LockedRoom } from '../../store/journal/rooms.ts';
import { changeSnapshot } from '../../store/snapshots/snapshots.ts';
import { authStateOf, partialAuthStateOf } from './auth-state.ts';
import { loadPdus } from './load-pdus.ts';
import { resolveSnapshots } from './resolve.ts';

export interface Circumstances {
  readonly stateBefore: SnapshotId;
  /** The state before the event is partial. */
  readonly partial: boolean;
  /** Check 6 is made against it; `null` while the room is partial, or for our own events. */
  readonly currentState: SnapshotId | null;
}

/** Checks 4, 5 and 6 on an event whose auth events are stored as far as they can be had. */
export async function judgeReceived(
  sql: Sql,
  rules: RoomVersionRules,
  event: Pdu,
  { stateBefore, partial, currentState }: Circumstances,
): Promise<PduVerdict> {
  const loaded = await loadPdus(sql, event.roomId, rules, authEventIdsOf(event, rules));
  const authEvents = [...loaded.pdus.values()];
  return checkReceived({
    event,
    rules,
    authEvents,
    isRejected: (id) => loaded.rejected.has(id),
    stateBefore: partial
      ? await partialAuthStateOf(sql, event.roomId, rules, stateBefore, event, authEvents)
      : await authStateOf(sql, event.roomId, rules, stateBefore, event),
    currentState: currentState === null ? undefined : await authStateOf(sql, event.roomId, rules, currentState, event),
  });
}

/**
 * What the journal will say of a judged event. The current state is that of the forward extremities with this event among
 * them; the room is locked, so they are the newest. A soft-failed or rejected event moves nothing.
 */
export async function timelineEntry(
  sql: Sql,
  room: LockedRoom,
  rules: RoomVersionRules,
  event: Pdu,
  verdict: Exclude<PduVerdict, { outcome: 'drop' }>,
  { stateBefore, partial }: Pick<Circumstances, 'stateBefore' | 'partial'>,
): Promise<TimelineEvent> {
  const { eventId } = event;
  if (verdict.outcome === 'reject') {
    const { rule, reason } = verdict;
    return { type: 'PduRejected', eventId, partial, stateBefore, rule, reason };
  }
  const stateAfter =
    event.stateKey === undefined ? stateBefore : await changeSnapshot(sql, room.roomId, stateBefore, [{ eventId }]);
  const softFailed = verdict.outcome === 'softFail';
  const currentState =
    softFailed && room.currentState !== null
      ? room.currentState
      : await currentStateWith(sql, room, rules, event, stateAfter);
  return { type: 'PduAccepted', eventId, partial, softFailed, stateBefore, stateAfter, currentState };
}

async function currentStateWith(
  sql: Sql,
  room: LockedRoom,
  rules: RoomVersionRules,
  event: Pdu,
  stateAfter: SnapshotId,
): Promise<SnapshotId> {
  const replaced = new Set<EventId>(event.prevEvents);
  const others = await readEventStates(
    sql,
    room.roomId,
    room.extremities.filter((eventId) => !replaced.has(eventId)),
  );
  return resolveSnapshots(sql, room.roomId, rules, [
    ...[...others.values()].map((other) => other.stateAfter),
    stateAfter,
  ]);
}
