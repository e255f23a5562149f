/**
 * Walks a room's partial events in order, auth events and parents first, and judges each again with full state (checks 4
 * and 5). Everything is worked out outside the room's lock, and appended under it when it still holds: a verdict flip, another
 * phase or other extremities make it void, and it is worked out again.
 *
 * In a busy room events come while a batch is judged, and build on partial ones. Where so many come that the walk gets no
 * nearer to its end, a batch is judged under the lock, for a short time: whoever brings more waits meanwhile, and it ends. States that
 * take long to resolve are none of that time: the lock is let go, and the next round is made outside.
 * Corrections take turns with the batches, for a short time each; a walk that has nothing else left waits some turns for them.
 */
import { type RoomId } from '../../matrix/identifiers.ts';
import { type ResyncEvent, type SnapshotId } from '../../resync/events.ts';
import { readPartialAnchors } from '../../store/events/anchors.ts';
import { countCorrectionsDue } from '../../store/events/corrections.ts';
import { countPartial, readPartialEvents, stillPartial } from '../../store/events/event-states.ts';
import { append } from '../../store/journal/journal.ts';
import { type LockedResync, type ResyncRow, lockResync, readResync, readStanding } from '../../store/journal/rooms.ts';
import { type Sql, type Transaction, withTransaction } from '../../store/open-store.ts';
import { type RoomsContext } from '../context.ts';
import { rulesOfJoined } from '../judge/load-pdus.ts';
import { RESOLVED_UNDER_LOCK_MS_MAX } from '../judge/outside-the-lock.ts';
import { ResolutionTakesLong, resolveBriefly } from '../judge/resolve-in-time.ts';
import { type Resolve, resolveSnapshots } from '../judge/resolve.ts';
import { assumedState } from './assumed-state.ts';
import { Completion, sayHeldUp } from './complete-walk.ts';
import { correctBetweenBatches } from './correct-events.ts';
import { type JudgedBatch, judgeAgain } from './judge-again.ts';

/** Events judged between two appends, */
const BATCH_EVENTS_MAX = 200;
/** which come after this long at the latest: what is decided is kept, and who watches sees that it goes on. */
const BATCH_MS_MAX = 5_000;
/** Rounds in a row that bring a walk no nearer to its end than it was; then one is made under the lock, */
const VAIN_ROUNDS_MAX = 5;
/** which holds it for this long, and for what was begun by then. */
const LOCKED_MS_MAX = 1_000;
/** Rounds under the lock by which no less was left; in the next, states are resolved for as long as it takes. */
const LOCKED_IN_VAIN_MAX = 16;
/** Turns of corrections for which a room waits that is walked to its end. */
const CORRECTION_TURNS_MAX = 10;

export interface WalkProgress {
  readonly signal: AbortSignal;
  readonly heartbeat: () => void;
}

interface Walk {
  readonly context: RoomsContext;
  readonly roomId: RoomId;
  readonly epoch: number;
  readonly progress: WalkProgress;
  readonly completion: Completion;
  /** The fewest partial events that a round has left. */
  fewestLeft: number;
  /** Rounds since. */
  vainRounds: number;
  /** Turns for which its end has waited for corrections. */
  turnsWaited: number;
  /** The lock was let go, since states take long to resolve: they are resolved outside first. */
  isHeldUp: boolean;
  /** Rounds under the lock by which no less was left. */
  lockedInVain: number;
}

/**
 * Walks until nothing partial is left and appends `ResyncCompleted`, or returns early when the epoch has changed.
 * Safe to run twice at once and to repeat: an event that somebody else has judged is no longer partial.
 */
export async function walkPartialEvents(
  context: RoomsContext,
  roomId: RoomId,
  epoch: number,
  progress: WalkProgress,
): Promise<void> {
  const completion = new Completion(context, roomId, progress.heartbeat);
  const walk: Walk = {
    ...{ context, roomId, epoch, progress, completion },
    ...{ fewestLeft: Number.POSITIVE_INFINITY, vainRounds: 0, turnsWaited: 0, isHeldUp: false, lockedInVain: 0 },
  };
  for (let isOver = false; !isOver;) {
    progress.signal.throwIfAborted();
    progress.heartbeat();
    if (await waitsForCorrections(walk)) continue;
    isOver = walk.vainRounds < VAIN_ROUNDS_MAX || walk.isHeldUp ? await walkOn(walk) : await walkUnderLock(walk);
  }
}

/**
 * Corrects for a turn: what is judged next had better rest on it. Where nothing is partial any more the completion waits, some turns
 * long, and then for nothing: whoever brings corrections all the time does not keep the room from its end. `true`: it waits.
 */
async function waitsForCorrections(walk: Walk): Promise<boolean> {
  const { context, roomId, epoch, progress } = walk;
  const isPartial = async (): Promise<boolean> => (await countPartial(context.store, roomId)) > 0;
  const hasWaited = walk.turnsWaited >= CORRECTION_TURNS_MAX;
  if (hasWaited && !(await isPartial())) return false;
  const isAtRest = await correctBetweenBatches(context, { roomId, epoch }, progress, walk.vainRounds);
  if (isAtRest || hasWaited || (await isPartial())) return false;
  walk.turnsWaited += 1;
  return true;
}

/** One batch, one assumption about gaps, or the completion; true: there is nothing left to do in this stay. */
async function walkOn(walk: Walk): Promise<boolean> {
  const { context, roomId, epoch, isHeldUp } = walk;
  const { store } = context;
  walk.isHeldUp = false;
  const before = await readResync(store, roomId);
  if (before?.epoch !== epoch || before.state.phase !== 'walking') return true;
  const events = await readPartialEvents(store, roomId, BATCH_EVENTS_MAX);
  if (events.length === 0) {
    if (!(await assumeGaps(walk, before))) return complete(walk, before);
    // Who opens gaps all the time must not keep the room from its end.
    walk.vainRounds += 1;
    return false;
  }

  const { roomVersion } = before.state;
  const judged = await judge(walk, store, roomVersion, events, { msMax: BATCH_MS_MAX });
  // What is left waits for gaps, or for each other: a cycle that is longer than a batch.
  if (judged.timeline.length === 0) {
    if (await assumeGaps(walk, before)) return false;
    // Nothing is concluded from it: the states are at hand then.
    if (isHeldUp) await judge(walk, store, roomVersion, events, { msMax: BATCH_MS_MAX, refusesUnlisted: true });
    return walkUnderLock(walk);
  }
  const left = await withWalkingRoom(walk, before.stateVersion, (tx, { room }) => appendJudged(walk, tx, room, judged));
  if (left === undefined) walk.vainRounds += 1;
  return false;
}

interface JudgingLimits {
  readonly msMax: number;
  readonly refusesUnlisted?: boolean;
  readonly resolve?: Resolve;
}

function judge(
  { context: { clock }, roomId, progress }: Walk,
  sql: Sql,
  roomVersion: string | null,
  events: Parameters<typeof judgeAgain>[3],
  { msMax, refusesUnlisted = false, resolve }: JudgingLimits,
): Promise<JudgedBatch> {
  const until = clock.now() + msMax;
  const isTimeUp = (): boolean => clock.now() >= until;
  const judging = { refusesUnlisted, onEvent: progress.heartbeat, isTimeUp, resolve };
  return judgeAgain(sql, roomId, rulesOfJoined(roomVersion ?? ''), events, judging);
}

/** Appends what is still to be judged of a batch; gives how many partial events are left. */
async function appendJudged(
  walk: Walk,
  tx: Transaction,
  room: LockedResync['room'],
  { timeline }: JudgedBatch,
): Promise<number> {
  const { context, roomId } = walk;
  const open = await stillPartial(tx, roomId, timeline);
  const remaining = (await countPartial(tx, roomId)) - open.length;
  if (open.length > 0) {
    const corrected = open.filter(({ was, is }) => was !== is).length;
    const walked = { walked: open.length, corrected, remaining, at: context.clock.now() };
    await append(tx, room, [...open, { type: 'EventsWalked', ...walked } satisfies ResyncEvent]);
    walk.completion.flipped(room.stateVersion, corrected);
  }
  countRound(walk, remaining);
  return remaining;
}

function countRound(walk: Walk, left: number): void {
  walk.vainRounds = left < walk.fewestLeft ? 0 : walk.vainRounds + 1;
  walk.fewestLeft = Math.min(walk.fewestLeft, left);
}

/**
 * Runs `work` under the room's lock, unless what was read before it no longer holds: then nothing happens, and neither where states take
 * long to resolve: what was counted by then is as it was before.
 */
async function withWalkingRoom<Result>(
  walk: Walk,
  stateVersion: number | undefined,
  work: (tx: Transaction, stay: LockedResync) => Promise<Result>,
): Promise<Result | undefined> {
  const { context, roomId, epoch, completion, fewestLeft, vainRounds } = walk;
  const { replayedVersion } = completion;
  try {
    return await withTransaction(context.store, async (tx) => {
      const stay = await lockResync(tx, roomId, epoch);
      if (stay?.resync.phase !== 'walking') return undefined;
      if (stateVersion !== undefined && stay.room.stateVersion !== stateVersion) return undefined;
      return work(tx, stay);
    });
  } catch (error) {
    if (!(error instanceof ResolutionTakesLong)) throw error;
    Object.assign(walk, { fewestLeft, vainRounds });
    completion.undone(replayedVersion);
    holdUp(walk);
    return undefined;
  }
}

function holdUp(walk: Walk): void {
  walk.isHeldUp = true;
  sayHeldUp(walk.context, walk.roomId);
}

/**
 * What is left builds on gaps that are still open. A room does not wait for these: who can make one could make the next. The
 * state of the events that are judged stands for the state at them; what a resident says of it later is a correction.
 */
async function assumeGaps(walk: Walk, { stateVersion, state }: ResyncRow): Promise<boolean> {
  const { context, roomId } = walk;
  const { store } = context;
  if ((await readPartialAnchors(store, roomId)).length === 0) return false;
  const { extremities = [] } = (await readStanding(store, roomId)) ?? {};
  const assumed = await assumedState(store, roomId, rulesOfJoined(state.roomVersion ?? ''), extremities);
  await withWalkingRoom(walk, stateVersion, (tx, stay) =>
    appendAssumed(walk, tx, stay, () => Promise.resolve(assumed)),
  );
  return true;
}

/** Whether there was a gap to assume something of. @throws what `assume` does, and nothing is appended */
async function appendAssumed(
  { context, roomId }: Walk,
  tx: Transaction,
  { room }: LockedResync,
  assume: () => Promise<SnapshotId>,
): Promise<boolean> {
  // A walking room has fetched all that its joins want: anchors that are partial now are those of gaps.
  const eventIds = await readPartialAnchors(tx, roomId);
  if (eventIds.length === 0) return false;
  await append(tx, room, [{ type: 'GapsAssumed', eventIds, assumedState: await assume(), at: context.clock.now() }]);
  return true;
}

/** What stands for the state at gaps in a locked room. @throws ResolutionTakesLong */
function assumeLocked(tx: Transaction, { room, resync }: LockedResync, resolve: Resolve): () => Promise<SnapshotId> {
  return () => assumedState(tx, room.roomId, rulesOfJoined(resync.roomVersion ?? ''), room.extremities, resolve);
}

/**
 * Nothing is partial, and no anchor either: what comes to build on one would be partial in a room in which nobody walks any more.
 */
async function isAllFull(tx: Transaction, roomId: RoomId, partialEvents: number): Promise<boolean> {
  return partialEvents === 0 && (await readPartialAnchors(tx, roomId)).length === 0;
}

/** Nothing is to be corrected first; or there always is, and that can be done in a whole room as well. */
async function mayComplete({ roomId, vainRounds, turnsWaited }: Walk, tx: Transaction): Promise<boolean> {
  if (turnsWaited >= CORRECTION_TURNS_MAX || vainRounds >= 2 * VAIN_ROUNDS_MAX) return true;
  return (await countCorrectionsDue(tx, roomId)) === 0;
}

/** Whether the resync is over. */
async function complete(walk: Walk, before: ResyncRow): Promise<boolean> {
  const { context, roomId, completion } = walk;
  const { stateVersion } = before;
  if (!(await completion.prepare(context.store, before))) {
    if (!(await appendBatch(walk, stateVersion))) walk.vainRounds += 1;
    return false;
  }
  const isDone = await withWalkingRoom(walk, stateVersion, async (tx, stay) => {
    const left = await countPartial(tx, roomId);
    const mayEnd = (await isAllFull(tx, roomId, left)) && (await mayComplete(walk, tx));
    const isDone = mayEnd && (await completion.append(tx, stay, 0));
    if (!isDone) countRound(walk, left);
    return isDone;
  });
  if (isDone === undefined) walk.vainRounds += 1;
  return isDone === true;
}

/** A batch of the replay of check 6; `false`: somebody else came in between, and it is appended when the replay holds all the same. */
async function appendBatch(walk: Walk, stateVersion: number): Promise<boolean> {
  const { completion } = walk;
  const isAppended = await withWalkingRoom(walk, stateVersion, async (tx, { room }) => {
    await completion.appendBatch(tx, room);
    return true;
  });
  if (isAppended === true) completion.batchAppended();
  return isAppended === true;
}

/**
 * The next batch, judged while nobody else can bring events, and the completion where it was the last. Nothing that a batch
 * reads changes under the lock: so what cites a partial event that is not listed is on a cycle with it.
 */
async function walkUnderLock(walk: Walk): Promise<boolean> {
  const { context, roomId, completion } = walk;
  const { store } = context;
  const before = await readResync(store, roomId);
  if (before?.epoch !== walk.epoch || before.state.phase !== 'walking') return true;
  // What was found before is gone through outside as far as it goes.
  while (!(await completion.prepare(store, before))) if (!(await appendBatch(walk, before.stateVersion))) break;
  const { fewestLeft } = walk;
  // Whoever brings an end each time that the lock is let go keeps no room partial for ever.
  const isPatient = walk.lockedInVain >= LOCKED_IN_VAIN_MAX;
  const resolve = isPatient ? resolveSnapshots : resolveBriefly(RESOLVED_UNDER_LOCK_MS_MAX);
  const isDone = await withWalkingRoom(walk, undefined, async (tx, stay) => {
    const events = await readPartialEvents(tx, roomId, BATCH_EVENTS_MAX);
    if (events.length === 0) {
      countRound(walk, 0);
      return completeUnderLock(walk, tx, resolve);
    }
    const { roomVersion } = stay.resync;
    let judged = await judge(walk, tx, roomVersion, events, { msMax: LOCKED_MS_MAX, resolve });
    if (judged.timeline.length === 0 && !judged.isCutShort) {
      if (await appendAssumed(walk, tx, stay, assumeLocked(tx, stay, resolve))) return false;
      judged = await judge(walk, tx, roomVersion, events, { msMax: LOCKED_MS_MAX, refusesUnlisted: true, resolve });
    }
    if (judged.isCutShort) holdUp(walk);
    return (await appendJudged(walk, tx, stay.room, judged)) === 0 && completeUnderLock(walk, tx, resolve);
  });
  if (isDone === true) return true;
  walk.lockedInVain = walk.fewestLeft < fewestLeft ? 0 : walk.lockedInVain + 1;
  return false;
}

/** Where no event is partial: a gap that was opened since its state was last assumed is no reason to wait. */
async function completeUnderLock(walk: Walk, tx: Transaction, resolve: Resolve): Promise<boolean> {
  const { roomId, epoch, completion } = walk;
  if (!(await mayComplete(walk, tx))) return false;
  const judged = await lockResync(tx, roomId, epoch);
  if (judged === undefined) return false;
  const assume = assumeLocked(tx, judged, resolve);
  const stay = (await appendAssumed(walk, tx, judged, assume)) ? await lockResync(tx, roomId, epoch) : judged;
  return stay !== undefined && completion.append(tx, stay, LOCKED_MS_MAX, resolve);
}
