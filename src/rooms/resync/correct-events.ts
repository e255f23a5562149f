/**
 * Carries corrections on. What the journal's fold notes as changed (a verdict, a state after an event or an anchor) is followed to
 * what rests on it, which is judged again like any event, until nothing changes any more:
 *
 *     an entry that changes something ──▶ `correction_causes` ──▶ the states at anchors ──▶ `correction_targets` ──▶ judged again
 *                        ▲                                                                                              │
 *                        └────────────────────── what got another verdict or other states ◀─────────────────────────────┘
 *
 * A step reads and judges outside the room's lock; under it it appends what it found, if no verdict and no state has changed
 * since, and removes what it looked at in the same transaction. So a kill, a second worker and a lost commit cost a step at most.
 *
 * **Why it ends.** What is judged rests on what it cites by prev and auth edges, and on the states at anchors. Prev edges lead from
 * each event to events that were in the timeline before it was, or to anchors, which rest on verdicts only; so as long as no
 * verdict changes, states change along a graph without cycles, and come to rest. Verdicts could go round: by auth edges in versions
 * 1 and 2, where ids are chosen by senders, or through an anchor's state, where a resident names an event that itself builds on
 * the anchor. But an event whose changes keep leading to its own next one is refused for its place, as events are that the walk
 * finds on a cycle, and so is any whose verdict has changed `CHANGES_AN_EVENT_MAX` times; what is refused so is never looked at
 * again. A room that has no such cycle comes to rest long before: parents are judged before their children.
 *
 * A room never becomes partial again for any of it; in one that is being walked it comes between two batches. Whoever brings
 * corrections all the time keeps neither the walk nor the gaps of a room waiting: what is done in one go is bounded.
 */
import {
  countCorrectionsDue,
  isCurrentStateDue,
  readCorrectionTargets,
  settleCurrentState,
} from '../../store/events/corrections.ts';
import { expandToChildren, lookThrough, readCorrectionCauses } from '../../store/events/expand-causes.ts';
import { append } from '../../store/journal/journal.ts';
import { lockResync, readResync, readStanding, standsStill } from '../../store/journal/rooms.ts';
import { withTransaction } from '../../store/open-store.ts';
import { wakeTooLarge } from '../../store/tables/staged-pdus.ts';
import { type RoomsContext } from '../context.ts';
import { rulesOfJoined } from '../judge/load-pdus.ts';
import { RESOLVED_UNDER_LOCK_MS_MAX } from '../judge/outside-the-lock.ts';
import { ResolutionTakesLong, resolveBriefly } from '../judge/resolve-in-time.ts';
import { appendCurrentState } from './complete-walk.ts';
import { correctAnchors } from './correct-anchors.ts';
import { correctOutliers } from './correct-outliers.ts';
import { correctTimeline } from './correct-timeline.ts';
import { type Correcting, type CorrectionProgress, mayCorrect } from './correction-step.ts';
import { type Stay } from './ask-gap-residents.ts';
import { stateOfExtremities } from './state-of-extremities.ts';

/** Changes whose dependants are looked for in one step. */
const CAUSES_A_STEP = 200;
/** Events judged in a step. */
const TARGETS_A_STEP = 200;
/** What has waited for this long has its turn. */
const OVERDUE_MS = 60_000;
/** In a room where something always comes in between, the current state is worked out under the lock after so many tries, if it is brief. */
const RESOLUTIONS_TRIED_MAX = 5;

interface StepsLimit {
  /** Further steps are begun up to this many, */
  readonly stepsMax: number;
  /** and for this long, milliseconds. */
  readonly msMax: number;
}

/** What a whole room has before its gaps have their turn: whoever brings corrections all the time keeps nothing waiting for ever. */
const OF_A_WHOLE_ROOM: StepsLimit = { stepsMax: 100, msMax: 20_000 };
/** And what comes between two batches of a walk: each kind of step twice. */
const BETWEEN_BATCHES: StepsLimit = { stepsMax: 6, msMax: 5_000 };

/**
 * Corrects until nothing is due in this stay, or what is due rests on partial events, which are walked first; or for a while.
 * `false`: something is due still.
 */
export async function correctEvents(context: RoomsContext, stay: Stay, progress: CorrectionProgress): Promise<boolean> {
  const isAtRest = await takeSteps(context, stay, progress, OF_A_WHOLE_ROOM);
  if (!isAtRest) await followCurrentState(context, stay);
  return isAtRest;
}

/** As `correctEvents`, for as long as a walk waits for it. `tried`: how often the walk was no nearer to its end. */
export function correctBetweenBatches(
  context: RoomsContext,
  stay: Stay,
  progress: CorrectionProgress,
  tried: number,
): Promise<boolean> {
  return takeSteps(context, stay, progress, BETWEEN_BATCHES, tried);
}

async function takeSteps(
  context: RoomsContext,
  stay: Stay,
  progress: CorrectionProgress,
  { stepsMax, msMax }: StepsLimit,
  triedBefore = 0,
): Promise<boolean> {
  const until = context.clock.now() + msMax;
  let tried = triedBefore;
  for (let taken = 0; taken < stepsMax && context.clock.now() < until; taken += 1) {
    progress.signal.throwIfAborted();
    progress.heartbeat();
    const step = await correctSome(context, stay, progress, { tried, taken });
    if (step === 'nothing due') return true;
    tried = step === 'in vain' ? tried + 1 : triedBefore;
  }
  return false;
}

/** What a step did; `in vain`: somebody else came in between. */
export type CorrectionStep = 'nothing due' | 'done' | 'in vain';

/**
 * One step: a handful of statements and at most `TARGETS_A_STEP` judgements. Safe to run twice, also at once.
 *
 * What changed comes before what rests on it, so that events are judged once, by all that has changed; but each third step goes the
 * other way round: where something changes all the time, all that has changed meanwhile is taken together after it.
 *
 * @param about.tried how often it was in vain before
 * @param about.taken steps before it
 */
export async function correctSome(
  context: RoomsContext,
  { roomId, epoch }: Stay,
  progress: CorrectionProgress,
  { tried = 0, taken = 0 }: { readonly tried?: number; readonly taken?: number } = {},
): Promise<CorrectionStep> {
  const { store } = context;
  const resync = await readResync(store, roomId);
  if (resync?.epoch !== epoch || !mayCorrect(resync.state)) return 'nothing due';
  const { stateVersion, state } = resync;
  const rules = rulesOfJoined(state.roomVersion ?? '');
  const correcting = { context, roomId, epoch, rules, stateVersion, progress };
  for (const kind of KINDS_BY_TURNS[taken % KINDS_BY_TURNS.length] ?? []) {
    const step = await KINDS[kind](correcting);
    if (step !== 'nothing due') return step;
  }
  if (!(await isCurrentStateDue(store, roomId))) return 'nothing due';
  return (await correctCurrentState(correcting, tried)) ? 'done' : 'in vain';
}

type Step = (correcting: Correcting) => Promise<CorrectionStep>;

const KINDS: Readonly<Record<'anchors' | 'causes' | 'targets' | 'overdue', Step>> = {
  async anchors(correcting) {
    const { context, roomId } = correcting;
    const causes = await readCorrectionCauses(context.store, roomId, CAUSES_A_STEP);
    const atAnchors = causes.filter(({ anchors }) => anchors);
    if (atAnchors.length === 0) return 'nothing due';
    return (await correctAnchors(correcting, atAnchors)) ? 'done' : 'in vain';
  },

  async causes({ context: { store }, roomId }) {
    const causes = await readCorrectionCauses(store, roomId, CAUSES_A_STEP);
    const expandable = causes.filter(({ anchors }) => !anchors);
    if (expandable.length === 0) return 'nothing due';
    const toChildren = expandable.filter(({ lookedTo }) => lookedTo === null);
    // Those go on with which it has begun, so that changes that come all the time are taken together after them.
    const furthest = Math.max(...expandable.map(({ lookedTo }) => lookedTo ?? -1));
    const looking = expandable.filter(({ lookedTo }) => lookedTo === furthest);
    if (looking.length > 0) {
      const looked = await lookThrough(store, roomId, looking);
      if (looked.isLast) toChildren.push(...looked.causes);
    }
    if (toChildren.length > 0) await expandToChildren(store, roomId, toChildren);
    return 'done';
  },

  targets: (correcting) => judgeTargets(correcting, 0),
  /** Before those that come first in the room, should these be due again and again. */
  overdue: (correcting) => judgeTargets(correcting, OVERDUE_MS),
};

async function judgeTargets(correcting: Correcting, waitedMs: number): Promise<CorrectionStep> {
  const { context, roomId } = correcting;
  const targets = await readCorrectionTargets(context.store, roomId, TARGETS_A_STEP, waitedMs);
  if (targets.length === 0) return 'nothing due';
  const correct = targets[0]?.isOutlier === true ? correctOutliers : correctTimeline;
  return (await correct(correcting, targets)) ? 'done' : 'in vain';
}

/** The order in which a step looks for something to do, by the steps before it. */
const KINDS_BY_TURNS: readonly (readonly (keyof typeof KINDS)[])[] = [
  ['anchors', 'causes', 'targets'],
  ['causes', 'anchors', 'targets'],
  ['overdue', 'targets', 'anchors', 'causes'],
];

/**
 * The current state follows from the states after the extremities as they are now, in a room that is whole; a partial one gets it
 * at its completion.
 */
async function correctCurrentState(correcting: Correcting, tried: number): Promise<boolean> {
  const { context, roomId, epoch, stateVersion } = correcting;
  const { store, clock } = context;
  const standing = await readStanding(store, roomId);
  if (standing === undefined) return true;
  const decided = standing.partial ? null : await stateOfExtremities(store, roomId, standing.extremities);
  const isDone = withTransaction(store, async (tx) => {
    const stay = await lockResync(tx, roomId, epoch);
    if (stay === undefined) return true;
    const { room } = stay;
    if (room.stateVersion !== stateVersion) return false;
    const stands = standsStill(standing, room);
    if (!stands && tried < RESOLUTIONS_TRIED_MAX) return false;
    const ownRow = (await isCurrentStateDue(tx, roomId)) ? 1 : 0;
    // What has become due since may turn what is told here of our joins.
    if (!room.partial && (await countCorrectionsDue(tx, roomId)) > ownRow) return false;
    await settleCurrentState(tx, roomId);
    await wakeTooLarge(tx, roomId);
    if (room.partial) return true;
    const currentState =
      stands && decided !== null
        ? decided
        : await stateOfExtremities(tx, roomId, room.extremities, resolveBriefly(RESOLVED_UNDER_LOCK_MS_MAX));
    // A join of ours may have turned with what it rested on: as at the completion, it has failed.
    const at = clock.now();
    const isOther = currentState !== room.currentState;
    const resolved = isOther ? [{ type: 'CurrentStateResolved', currentState } as const] : [];
    const { members, end } = await appendCurrentState(tx, room, resolved, { isLast: true, at });
    await append(tx, room, [
      { type: 'EventsCorrected', judged: 0, changed: 0, remaining: 0, members, at },
      ...(end === undefined ? [] : [end]),
    ]);
    return true;
  });
  return isDone.catch((error: unknown) => {
    // It stays due, and is resolved outside again.
    if (error instanceof ResolutionTakesLong) return false;
    throw error;
  });
}

/**
 * In a whole room in which corrections are due all the time the current state follows what is corrected by now. It stays due: what the
 * joins of ours are in the end is told when all has come to rest.
 */
async function followCurrentState({ store }: RoomsContext, { roomId, epoch }: Stay): Promise<void> {
  const standing = await readStanding(store, roomId);
  if (standing === undefined || standing.partial || !(await isCurrentStateDue(store, roomId))) return;
  const currentState = await stateOfExtremities(store, roomId, standing.extremities);
  await withTransaction(store, async (tx) => {
    const stay = await lockResync(tx, roomId, epoch);
    if (stay === undefined || stay.room.stateVersion !== standing.stateVersion) return;
    const { room } = stay;
    if (!standsStill(standing, room) || room.currentState === currentState) return;
    await append(tx, room, [{ type: 'CurrentStateResolved', currentState }]);
  });
}
