/**
 * Walks a room's partial events in order, auth events and parents first, and judges each again with full state (checks 4
 * and 5). Everything is worked out outside the room's lock, and appended under it when it still holds: a verdict flip, another
 * phase or other extremities make it void, and it is worked out again.
 */
import { type RoomId } from '../../matrix/identifiers.ts';
import { type ResyncEvent } from '../../resync/events.ts';
import { type ResyncState } from '../../resync/state.ts';
import { invariant } from '../../invariant.ts';
import { readPartialAnchors } from '../../store/events/anchors.ts';
import { countCorrectionsDue } from '../../store/events/corrections.ts';
import { countPartial, readEventStates, readPartialEvents, stillPartial } from '../../store/events/event-states.ts';
import { append, readResyncEvents } from '../../store/journal/journal.ts';
import {
  type LockedRoom,
  isAnybodyIn,
  lockResync,
  lockRoom,
  readResync,
  readRoom,
  readStanding,
  standsStill,
} from '../../store/journal/rooms.ts';
import { type Transaction, withTransaction } from '../../store/open-store.ts';
import { summaryOf } from '../../store/journal/room-summaries.ts';
import { type RoomsContext } from '../context.ts';
import { rulesOfJoined } from '../judge/load-pdus.ts';
import { correctSome } from './correct-events.ts';
import { type JudgedBatch, judgeAgain } from './judge-again.ts';
import { stateOfExtremities } from './state-of-extremities.ts';

/** Events judged between two appends, */
const BATCH_EVENTS_MAX = 200;
/** which come after this long at the latest: what is decided is kept, and who watches sees that it goes on. */
const BATCH_MS_MAX = 5_000;
/** In a room where something always comes in between, the completion is worked out under the lock after so many tries. */
const COMPLETIONS_TRIED_MAX = 5;

interface Walk {
  readonly context: RoomsContext;
  readonly roomId: RoomId;
  readonly epoch: number;
  readonly progress: { readonly signal: AbortSignal; readonly heartbeat: () => void };
  completionsTried: number;
}

/**
 * Walks until nothing partial is left and appends `ResyncCompleted`, or returns early when the epoch has changed.
 * Safe to run twice at once and to repeat: an event that somebody else has judged is no longer partial.
 */
export async function walkPartialEvents(
  context: RoomsContext,
  roomId: RoomId,
  epoch: number,
  progress: Walk['progress'],
): Promise<void> {
  const walk = { context, roomId, epoch, progress, completionsTried: 0 };
  for (let isOver = false; !isOver;) {
    progress.signal.throwIfAborted();
    progress.heartbeat();
    isOver = await walkOn(walk);
  }
}

/** One batch, one assumption about gaps, or the completion; true: there is nothing left to do in this stay. */
async function walkOn(walk: Walk): Promise<boolean> {
  const { context, roomId, epoch, progress } = walk;
  const { store, clock } = context;
  const before = await readResync(store, roomId);
  if (before?.epoch !== epoch || before.state.phase !== 'walking') return true;
  // What is judged next rests on what is corrected now.
  if ((await correctSome(context, { roomId, epoch }, progress)) !== 'nothing due') return false;
  const events = await readPartialEvents(store, roomId, BATCH_EVENTS_MAX);
  if (events.length === 0) return complete(walk, before.stateVersion);

  const rules = rulesOfJoined(before.state.roomVersion ?? '');
  const until = clock.now() + BATCH_MS_MAX;
  const judge = (refusesUnlisted: boolean): Promise<JudgedBatch> =>
    judgeAgain(store, roomId, rules, events, {
      refusesUnlisted,
      onEvent: progress.heartbeat,
      isTimeUp: () => clock.now() >= until,
    });
  let judged = await judge(false);
  if (judged.timeline.length === 0) {
    if (await assumeGaps(walk, before.stateVersion)) return false;
    // What is left waits for each other: a cycle that is longer than a batch.
    judged = await judge(true);
  }
  await withWalkingRoom(walk, before.stateVersion, async (tx, room) => {
    const open = await stillPartial(tx, roomId, judged.timeline);
    const remaining = (await countPartial(tx, roomId)) - open.length;
    if (open.length > 0) await append(tx, room, [...open, walkedEvent(context, open, remaining)]);
  });
  return false;
}

/** Runs `work` under the room's lock, unless what was read before it no longer holds: then nothing happens. */
async function withWalkingRoom(
  { context, roomId, epoch }: Walk,
  stateVersion: number,
  work: (tx: Transaction, room: LockedRoom, resync: ResyncState) => Promise<void>,
): Promise<void> {
  await withTransaction(context.store, async (tx) => {
    const stay = await lockResync(tx, roomId, epoch);
    if (stay?.resync.phase !== 'walking' || stay.room.stateVersion !== stateVersion) return;
    await work(tx, stay.room, stay.resync);
  });
}

/**
 * What is left builds on gaps that are still open. A room does not wait for these: who can make one could make the next. The
 * state of the events that are judged stands for the state at them; what a resident says of it later is a correction.
 */
async function assumeGaps(walk: Walk, stateVersion: number): Promise<boolean> {
  const { context, roomId } = walk;
  const { store, clock } = context;
  if ((await readPartialAnchors(store, roomId)).length === 0) return false;
  const { extremities = [] } = (await readStanding(store, roomId)) ?? {};
  const assumedState = await stateOfExtremities(store, roomId, extremities);
  await withWalkingRoom(walk, stateVersion, async (tx, room) => {
    // A walking room has fetched all that its joins want: anchors that are partial now are those of gaps.
    const eventIds = await readPartialAnchors(tx, roomId);
    if (eventIds.length > 0) await append(tx, room, [{ type: 'GapsAssumed', eventIds, assumedState, at: clock.now() }]);
  });
  return true;
}

/**
 * Works the current state out again from the full states of the extremities and closes the resync. Joins of ours that the full
 * state refuses have failed; where they leave nobody of us in the room, the stay ends.
 */
async function complete(walk: Walk, stateVersion: number): Promise<boolean> {
  const { context, roomId } = walk;
  const standing = await readStanding(context.store, roomId);
  if (standing === undefined) return true;
  const decided = await stateOfExtremities(context.store, roomId, standing.extremities);
  walk.completionsTried += 1;
  let isDone = false;
  await withWalkingRoom(walk, stateVersion, async (tx, room, { degraded }) => {
    const stands = standsStill(standing, room);
    if ((await countPartial(tx, roomId)) > 0 || (await countCorrectionsDue(tx, roomId)) > 0) return;
    if (!stands && walk.completionsTried < COMPLETIONS_TRIED_MAX) return;
    const currentState = stands ? decided : await stateOfExtremities(tx, roomId, room.extremities);
    const at = context.clock.now();
    const refused = await refusedJoins(tx, room, at);
    await append(tx, room, [{ type: 'CurrentStateResolved', currentState }, ...refused]);
    const resolved = await readRoom(tx, roomId);
    invariant(resolved, `room ${roomId} is locked by this transaction`);
    const { members } = await summaryOf(tx, resolved);
    const lacking = degraded === null ? {} : { lacking: degraded.count };
    const isOver = refused.length > 0 && !(await isAnybodyIn(tx, roomId));
    await append(tx, await relock(tx, roomId), [
      isOver
        ? { type: 'StayEnded', because: 'join-rejected', at }
        : { type: 'ResyncCompleted', members, ...lacking, at },
    ]);
    isDone = true;
  });
  return isDone;
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
  timeline: JudgedBatch['timeline'],
  remaining: number,
): Extract<ResyncEvent, { type: 'EventsWalked' }> {
  const corrected = timeline.filter(({ was, is }) => was !== is).length;
  return { type: 'EventsWalked', walked: timeline.length, corrected, remaining, at: context.clock.now() };
}

async function relock(tx: Transaction, roomId: RoomId): Promise<LockedRoom> {
  const room = await lockRoom(tx, roomId);
  invariant(room !== undefined, `room ${roomId} is locked by this transaction`);
  return room;
}
