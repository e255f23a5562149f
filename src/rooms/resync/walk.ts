/**
 * Walks a room's partial events in order, auth events and parents first, and judges each again with full state (checks 4
 * and 5). Batches are decided outside the room lock and appended under it; the last batch is decided under it, so that no
 * event can slip in between the last verdict and completion.
 */
import { type RoomId } from '../../matrix/identifiers.ts';
import { type ResyncEvent, type SnapshotId } from '../../resync/events.ts';
import { type ResyncState } from '../../resync/state.ts';
import { invariant } from '../../invariant.ts';
import { readPartialAnchors } from '../../store/events/anchors.ts';
import { countPartial, readEventStates, readPartialEvents } from '../../store/events/event-states.ts';
import { append, readResyncEvents } from '../../store/journal/journal.ts';
import { type LockedRoom, isAnybodyIn, lockResync, lockRoom, readResync, readRoom } from '../../store/journal/rooms.ts';
import { type Transaction, withTransaction } from '../../store/open-store.ts';
import { summaryOf } from '../../store/journal/room-summaries.ts';
import { type RoomsContext } from '../context.ts';
import { rulesOfJoined } from '../judge/load-pdus.ts';
import { resolveSnapshots } from '../judge/resolve.ts';
import { type JudgedBatch, judgeAgain } from './judge-again.ts';

/** Events judged between two appends. The last such batch is judged while the room is locked. */
const BATCH_EVENTS_MAX = 200;

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
  const rules = rulesOfJoined(before.state.roomVersion ?? '');
  const events = await readPartialEvents(store, roomId, BATCH_EVENTS_MAX);
  const judged = await judgeAgain(store, roomId, rules, events);
  return withTransaction(store, async (tx) => {
    const room = await lockRoom(tx, roomId);
    if (room?.epoch !== epoch) return true;
    if (room.stateVersion !== before.stateVersion) return false;
    if (judged.timeline.length === 0) await assumeGaps(context, tx, room);
    else await append(tx, room, [...judged.timeline, walkedEvent(context, judged, remaining)]);
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
    const judged = await judgeAgain(tx, roomId, rulesOfJoined(room.roomVersion), events);
    await append(tx, room, [...judged.timeline, walkedEvent(context, judged, events.length)]);
    const walked = await relock(tx, roomId);
    if ((await countPartial(tx, roomId)) > 0) {
      await assumeGaps(context, tx, walked);
      return false;
    }
    await complete(context, tx, walked, resync);
    return true;
  });
}

/**
 * What is left builds on gaps that are still open. A room does not wait for these: who can make one could make the next. The
 * state of the events that are judged stands for the state at them; what a resident says of it later is a correction.
 */
async function assumeGaps(context: RoomsContext, tx: Transaction, room: LockedRoom): Promise<void> {
  const eventIds = await readPartialAnchors(tx, room.roomId);
  invariant(eventIds.length > 0, `a partial event of ${room.roomId} that builds on no open gap can be judged`);
  const assumedState = await stateOfExtremities(tx, room);
  await append(tx, room, [{ type: 'GapsAssumed', eventIds, assumedState, at: context.clock.now() }]);
}

/** The resolution of the full states after the extremities; where none has one, the state at the join. */
async function stateOfExtremities(tx: Transaction, room: LockedRoom): Promise<SnapshotId> {
  const { roomId, extremities } = room;
  const rules = rulesOfJoined(room.roomVersion);
  const events = await readEventStates(tx, roomId, extremities);
  let states = [...events.values()].flatMap(({ partial, stateAfter }) => (partial ? [] : [stateAfter]));
  if (states.length === 0) {
    const { joinEventId } = (await readRoom(tx, roomId)) ?? { joinEventId: null };
    const joins = await readEventStates(tx, roomId, joinEventId === null ? [] : [joinEventId]);
    states = [...joins.values()].map(({ stateAfter }) => stateAfter);
  }
  invariant(states.length > 0, `the join that opened the stay in ${roomId} is in its timeline`);
  return resolveSnapshots(tx, roomId, rules, states);
}

/**
 * Works the current state out again from the full states of the extremities and closes the resync. Joins of ours that the full
 * state refuses have failed; where they leave nobody of us in the room, the stay ends.
 */
async function complete(
  context: RoomsContext,
  tx: Transaction,
  room: LockedRoom,
  { degraded }: ResyncState,
): Promise<void> {
  const { roomId } = room;
  const at = context.clock.now();
  const currentState = await stateOfExtremities(tx, room);
  const refused = await refusedJoins(tx, room, at);
  await append(tx, room, [{ type: 'CurrentStateResolved', currentState }, ...refused]);
  const resolved = await readRoom(tx, roomId);
  invariant(resolved, `room ${roomId} is locked by this transaction`);
  const { members } = await summaryOf(tx, resolved);
  const lacking = degraded === null ? {} : { lacking: degraded.count };
  const isOver = refused.length > 0 && !(await isAnybodyIn(tx, roomId));
  await append(tx, await relock(tx, roomId), [
    isOver ? { type: 'StayEnded', because: 'join-rejected', at } : { type: 'ResyncCompleted', members, ...lacking, at },
  ]);
}

/** The joins of this stay that were rejected, as the journal will name them. */
async function refusedJoins(tx: Transaction, room: LockedRoom, at: number): Promise<ResyncEvent[]> {
  const journal = await readResyncEvents(tx, room.roomId, room.epoch, 0);
  const joins = journal.flatMap(({ event }) =>
    event.type === 'PartialStateJoined' || event.type === 'ResidentsLearned' ? [event] : [],
  );
  const verdicts = await readEventStates(
    tx,
    room.roomId,
    joins.map(({ joinEventId }) => joinEventId),
  );
  return joins.flatMap(({ joinEventId, userId }): ResyncEvent[] => {
    const { verdict, rule, reason } = verdicts.get(joinEventId) ?? { verdict: 'accepted', rule: null, reason: null };
    if (verdict === 'accepted') return [];
    return [{ type: 'JoinRejected', joinEventId, userId, rule: rule ?? '', reason: reason ?? '', at }];
  });
}

function walkedEvent(
  context: RoomsContext,
  { timeline, corrected }: JudgedBatch,
  partialBefore: number,
): Extract<ResyncEvent, { type: 'EventsWalked' }> {
  const remaining = Math.max(0, partialBefore - timeline.length);
  return { type: 'EventsWalked', walked: timeline.length, corrected, remaining, at: context.clock.now() };
}

async function relock(tx: Transaction, roomId: RoomId): Promise<LockedRoom> {
  const room = await lockRoom(tx, roomId);
  invariant(room !== undefined, `room ${roomId} is locked by this transaction`);
  return room;
}
