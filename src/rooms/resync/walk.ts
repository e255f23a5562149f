/**
 * Walks a room's partial events in order, auth events and parents first, and judges each again with full state (checks 4
 * and 5). Batches are decided outside the room lock and appended under it; the last batch is decided under it, so that no
 * event can slip in between the last verdict and completion.
 */
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { authEventIdsOf } from '../../matrix/auth/auth-events.ts';
import { checkUnPartialStated } from '../../matrix/pdu-checks.ts';
import { type ResyncEvent, type SnapshotId, type TimelineEvent } from '../../resync/events.ts';
import { type ResyncState } from '../../resync/state.ts';
import { invariant } from '../../invariant.ts';
import {
  type StoredEventState,
  countPartial,
  readEventStates,
  readPartialEvents,
} from '../../store/events/event-states.ts';
import { readParents } from '../../store/events/anchors.ts';
import { append } from '../../store/journal/journal.ts';
import { type Sql, type Transaction, withTransaction } from '../../store/open-store.ts';
import { type LockedRoom, lockResync, lockRoom, readResync } from '../../store/journal/rooms.ts';
import { changeSnapshot, countMembers } from '../../store/snapshots/snapshots.ts';
import { type RoomsContext } from '../context.ts';
import { loadPdus, rulesOfJoined } from '../judge/load-pdus.ts';
import { resolveSnapshots } from '../judge/resolve.ts';
import { authStateOf } from '../judge/auth-state.ts';

/** Events judged between two appends. The last such batch is judged while the room is locked. */
const BATCH_EVENTS_MAX = 200;

interface Judged {
  readonly timeline: readonly Extract<TimelineEvent, { type: 'EventUnPartialStated' }>[];
  readonly corrected: number;
}

/**
 * Walks until nothing partial is left and appends `ResyncCompleted`, or returns early when the epoch has changed.
 * Safe to run twice at once and to repeat: an event that somebody else has judged is no longer partial.
 */
export async function walkPartialEvents(
  context: RoomsContext,
  roomId: RoomId,
  epoch: number,
  progress: { readonly signal: AbortSignal; readonly heartbeat: () => void },
): Promise<void> {
  for (;;) {
    progress.signal.throwIfAborted();
    progress.heartbeat();
    const remaining = await countPartial(context.store, roomId);
    const done =
      remaining > BATCH_EVENTS_MAX
        ? await walkBatch(context, roomId, epoch, remaining)
        : await walkLastBatch(context, roomId, epoch);
    if (done) return;
  }
}

/** Decides outside the lock; a verdict flip in between makes the batch void, and the next round decides it again. */
async function walkBatch(context: RoomsContext, roomId: RoomId, epoch: number, remaining: number): Promise<boolean> {
  const { store } = context;
  const before = await readResync(store, roomId);
  if (before?.epoch !== epoch || before.state.phase !== 'walking') return true;
  const judged = await judgeBatch(
    store,
    roomId,
    before.state,
    await readPartialEvents(store, roomId, BATCH_EVENTS_MAX),
  );
  return withTransaction(store, async (tx) => {
    const room = await lockRoom(tx, roomId);
    if (room?.epoch !== epoch) return true;
    if (room.stateVersion !== before.stateVersion) return false;
    await append(tx, room, [...judged.timeline, walkedEvent(context, judged, remaining)]);
    return false;
  });
}

async function walkLastBatch(context: RoomsContext, roomId: RoomId, epoch: number): Promise<boolean> {
  return withTransaction(context.store, async (tx) => {
    const stay = await lockResync(tx, roomId, epoch);
    if (stay?.resync.phase !== 'walking') return true;
    const { room, resync } = stay;
    const events = await readPartialEvents(tx, roomId, BATCH_EVENTS_MAX + 1);
    if (events.length > BATCH_EVENTS_MAX) return false;
    const judged = await judgeBatch(tx, roomId, resync, events);
    await append(tx, room, [...judged.timeline, walkedEvent(context, judged, events.length)]);
    invariant(
      (await countPartial(tx, roomId)) === 0,
      `some partial events of ${roomId} have parents that are not held`,
    );
    await complete(context, tx, await relock(tx, roomId));
    return true;
  });
}

/** Works the current state out again from the full states of the extremities and closes the resync. */
async function complete(context: RoomsContext, tx: Transaction, room: LockedRoom): Promise<void> {
  const rules = rulesOfJoined(room.roomVersion);
  const extremities = await readEventStates(tx, room.roomId, room.extremities);
  const currentState = await resolveSnapshots(
    tx,
    room.roomId,
    rules,
    [...extremities.values()].map(({ stateAfter }) => stateAfter),
  );
  const members = await countMembers(tx, room.roomId, currentState);
  await append(tx, room, [
    { type: 'CurrentStateResolved', currentState },
    { type: 'ResyncCompleted', members, at: context.clock.now() },
  ]);
}

function walkedEvent(
  context: RoomsContext,
  { timeline, corrected }: Judged,
  partialBefore: number,
): Extract<ResyncEvent, { type: 'EventsWalked' }> {
  const remaining = Math.max(0, partialBefore - timeline.length);
  return { type: 'EventsWalked', walked: timeline.length, corrected, remaining, at: context.clock.now() };
}

async function judgeBatch(
  sql: Sql,
  roomId: RoomId,
  resync: ResyncState,
  partial: readonly StoredEventState[],
): Promise<Judged> {
  invariant(resync.roomVersion !== null, 'a walking resync knows its room version');
  const rules = rulesOfJoined(resync.roomVersion);
  const ids = partial.map(({ eventId }) => eventId);
  const cited = new Set([...ids, ...partial.flatMap(({ prevEvents, authEvents }) => [...prevEvents, ...authEvents])]);
  if (rules.roomIdIsCreateHash) cited.add(`$${roomId.slice(1)}` as EventId);
  const loaded = await loadPdus(sql, roomId, rules, [...cited]);
  const parents = await readParents(sql, roomId, [...cited]);

  const after = new Map<EventId, SnapshotId>();
  const verdicts = new Map<EventId, 'accepted' | 'rejected'>();
  const timeline: Extract<TimelineEvent, { type: 'EventUnPartialStated' }>[] = [];
  let corrected = 0;

  for (const event of partial) {
    const statesAfterParents: SnapshotId[] = [];
    for (const prev of event.prevEvents) {
      const parent = parents.get(prev);
      const full = after.get(prev) ?? (parent?.partial === false ? parent.stateAfter : undefined);
      if (full !== undefined) statesAfterParents.push(full);
    }
    // A parent or auth event outside this batch is still partial: the event waits for the batch after it.
    if (statesAfterParents.length < event.prevEvents.length) continue;
    if (event.authEvents.some((id) => parents.get(id)?.partial === true && !after.has(id))) continue;

    const stateBefore = await resolveSnapshots(sql, roomId, rules, statesAfterParents);
    const pdu = loaded.pdus.get(event.eventId);
    invariant(pdu !== undefined, `partial event ${event.eventId} has a body`);
    const isRejected = (id: EventId): boolean =>
      (verdicts.get(id) ?? (loaded.rejected.has(id) ? 'rejected' : 'accepted')) === 'rejected';
    const authEvents = authEventIdsOf(pdu, rules).flatMap((id) => loaded.pdus.get(id) ?? []);
    const verdict = checkUnPartialStated({
      event: pdu,
      rules,
      authEvents,
      isRejected,
      stateBefore: await authStateOf(sql, roomId, rules, stateBefore, pdu),
    });

    const is = verdict.outcome === 'accept' ? 'accepted' : 'rejected';
    const stateAfter =
      is === 'accepted' && pdu.stateKey !== undefined
        ? await changeSnapshot(sql, roomId, stateBefore, [{ eventId: event.eventId }])
        : stateBefore;
    if (is !== event.verdict) corrected += 1;
    verdicts.set(event.eventId, is);
    after.set(event.eventId, stateAfter);
    timeline.push({
      type: 'EventUnPartialStated',
      eventId: event.eventId,
      stateBefore,
      stateAfter,
      was: event.verdict,
      is,
      ...(verdict.outcome === 'accept' ? {} : { rule: verdict.rule, reason: verdict.reason }),
    });
  }
  invariant(
    timeline.length > 0 || partial.length === 0,
    `no partial event of ${roomId} can be judged: their parents are not held`,
  );
  return { timeline, corrected };
}

async function relock(tx: Transaction, roomId: RoomId): Promise<LockedRoom> {
  const room = await lockRoom(tx, roomId);
  invariant(room !== undefined, `room ${roomId} is locked by this transaction`);
  return room;
}
