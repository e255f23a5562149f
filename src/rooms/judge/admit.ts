/** Takes events into the timeline: judges them by the states at hand and says what is to be journalled about them. */
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { authEventIdsOf } from '../../matrix/auth/auth-events.ts';
import { type PduVerdict, checkReceived } from '../../matrix/pdu-checks.ts';
import { type Pdu } from '../../matrix/pdu.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { type SnapshotId, type TimelineEvent } from '../../resync/events.ts';
import { invariant } from '../../invariant.ts';
import { readParents } from '../../store/events/anchors.ts';
import { readEventStates } from '../../store/events/event-states.ts';
import { append } from '../../store/journal/journal.ts';
import { type Sql, type Transaction, withTransaction } from '../../store/open-store.ts';
import { type LockedRoom, lockRoom, readRoom } from '../../store/journal/rooms.ts';
import { changeSnapshot } from '../../store/snapshots/snapshots.ts';
import { type RoomsContext } from '../context.ts';
import { authStateOf, partialAuthStateOf } from './auth-state.ts';
import { loadPdu, loadPdus, rulesOfJoined } from './load-pdus.ts';
import { parentsFirst } from './parents-first.ts';
import { ResolutionTooLarge, resolveSnapshots } from './resolve.ts';

/** Events of one call. */
export const ADMITTED_AT_ONCE_MAX = 50;

/** What became of an event that was given to be admitted. */
export type Admission =
  | { readonly outcome: 'admitted'; readonly verdict: 'accepted' | 'softFailed' | 'rejected' }
  /** It is in the timeline already, or an anchor. */
  | { readonly outcome: 'known' }
  /** Prev_events that are neither events of the timeline nor anchors, and were not admitted before it. */
  | { readonly outcome: 'waits'; readonly missingParents: readonly EventId[] }
  /** Check 4 cannot be made: auth events that are not held, or not judged. */
  | { readonly outcome: 'unjudged'; readonly missingAuthEvents: readonly EventId[]; readonly reason: string }
  /** A state that it needs is too much to work out; our own limit, so nothing is concluded from it. */
  | { readonly outcome: 'too-large'; readonly reason: string };

/**
 * Admits stored events of a room, given in any order, into its timeline, those first that others cite. Of events of which
 * we know no room, or no stay, all parents are missing.
 *
 * @param eventIds at most `ADMITTED_AT_ONCE_MAX`, all stored
 */
export async function admitEvents(
  context: RoomsContext,
  roomId: RoomId,
  eventIds: readonly EventId[],
  signal?: AbortSignal,
): Promise<ReadonlyMap<EventId, Admission>> {
  invariant(eventIds.length <= ADMITTED_AT_ONCE_MAX, 'events are admitted some at a time');
  const { store } = context;
  const admissions = new Map<EventId, Admission>();
  const row = await readRoom(store, roomId);
  if (row === undefined) {
    eventIds.forEach((id) => admissions.set(id, { outcome: 'waits', missingParents: [] }));
    return admissions;
  }
  const rules = rulesOfJoined(row.roomVersion);
  const events: Pdu[] = [];
  for (const eventId of new Set(eventIds)) {
    const event = await loadPdu(store, roomId, rules, eventId);
    invariant(event !== undefined, `${eventId} is stored before it is admitted`);
    events.push(event);
  }
  for (const event of parentsFirst(events)) {
    signal?.throwIfAborted();
    admissions.set(event.eventId, await withTransaction(store, (tx) => admitOne(tx, rules, event)));
  }
  return admissions;
}

async function admitOne(tx: Transaction, rules: RoomVersionRules, event: Pdu): Promise<Admission> {
  const { roomId, eventId } = event;
  const room = await lockRoom(tx, roomId);
  invariant(room !== undefined, 'the row of a room stays');
  const cited = await readParents(tx, roomId, [eventId, ...event.prevEvents, ...event.authEvents]);
  if (cited.has(eventId)) return { outcome: 'known' };
  const missingParents = event.prevEvents.filter((id) => !cited.has(id));
  if (missingParents.length > 0) return { outcome: 'waits', missingParents };
  const before = event.prevEvents.flatMap((prev) => cited.get(prev)?.stateAfter ?? []);
  const partial = [...cited.values()].some((parent) => parent.partial);
  try {
    const stateBefore = await resolveSnapshots(tx, roomId, rules, before);
    const currentState = room.partial ? null : room.currentState;
    const verdict = await judgeReceived(tx, rules, event, { stateBefore, partial, currentState });
    if (verdict.outcome === 'drop') {
      const { absent } = await loadPdus(tx, roomId, rules, authEventIdsOf(event, rules));
      return { outcome: 'unjudged', missingAuthEvents: [...absent], reason: verdict.reason };
    }
    await append(tx, room, [await timelineEntry(tx, room, rules, event, verdict, { stateBefore, partial })]);
    const outcomes = { accept: 'accepted', softFail: 'softFailed', reject: 'rejected' } as const;
    return { outcome: 'admitted', verdict: outcomes[verdict.outcome] };
  } catch (error) {
    if (!(error instanceof ResolutionTooLarge)) throw error;
    return { outcome: 'too-large', reason: error.message };
  }
}

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
