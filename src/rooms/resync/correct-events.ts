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
 * A room never becomes partial again for any of it; in one that is being walked it comes between two batches.
 */
import {
  countCorrectionsDue,
  expandCauses,
  isCurrentStateDue,
  readCorrectionCauses,
  readCorrectionTargets,
  settleCurrentState,
} from '../../store/events/corrections.ts';
import { append } from '../../store/journal/journal.ts';
import { lockResync, readResync, readStanding, standsStill } from '../../store/journal/rooms.ts';
import { withTransaction } from '../../store/open-store.ts';
import { type RoomsContext } from '../context.ts';
import { rulesOfJoined } from '../judge/load-pdus.ts';
import { appendCurrentState } from './complete-walk.ts';
import { correctAnchors } from './correct-anchors.ts';
import { correctOutliers } from './correct-outliers.ts';
import { correctTimeline } from './correct-timeline.ts';
import { type Correcting, type CorrectionProgress, mayCorrect } from './correction-step.ts';
import { type Stay } from './fetch-gaps.ts';
import { stateOfExtremities } from './state-of-extremities.ts';

/** Changes whose dependants are looked for in one step: each step may read all events of the room once. */
const CAUSES_A_STEP = 200;
/** Events judged in a step. */
const TARGETS_A_STEP = 200;
/** In a room where something always comes in between, the current state is worked out under the lock after so many tries. */
const RESOLUTIONS_TRIED_MAX = 5;

/** Corrects until nothing is due in this stay, or what is due rests on partial events, which are walked first. */
export async function correctEvents(context: RoomsContext, stay: Stay, progress: CorrectionProgress): Promise<void> {
  for (let tried = 0; ;) {
    progress.signal.throwIfAborted();
    progress.heartbeat();
    const step = await correctSome(context, stay, progress, tried);
    if (step === 'nothing due') return;
    tried = step === 'in vain' ? tried + 1 : 0;
  }
}

/** What a step did; `in vain`: somebody else came in between. */
export type CorrectionStep = 'nothing due' | 'done' | 'in vain';

/** One step: a handful of statements and at most `TARGETS_A_STEP` judgements. Safe to run twice, also at once. */
export async function correctSome(
  context: RoomsContext,
  { roomId, epoch }: Stay,
  progress: CorrectionProgress,
  tried = 0,
): Promise<CorrectionStep> {
  const { store } = context;
  const resync = await readResync(store, roomId);
  if (resync?.epoch !== epoch || !mayCorrect(resync.state)) return 'nothing due';
  const { stateVersion, state } = resync;
  const rules = rulesOfJoined(state.roomVersion ?? '');
  const correcting = { context, roomId, epoch, rules, stateVersion, progress };
  const causes = await readCorrectionCauses(store, roomId, CAUSES_A_STEP);
  const atAnchors = causes.filter(({ anchors }) => anchors);
  if (atAnchors.length > 0) return (await correctAnchors(correcting, atAnchors)) ? 'done' : 'in vain';
  if (causes.length > 0) {
    await expandCauses(store, roomId, causes);
    return 'done';
  }
  const targets = await readCorrectionTargets(store, roomId, TARGETS_A_STEP);
  if (targets.length > 0) {
    const correct = targets[0]?.isOutlier === true ? correctOutliers : correctTimeline;
    return (await correct(correcting, targets)) ? 'done' : 'in vain';
  }
  if (!(await isCurrentStateDue(store, roomId))) return 'nothing due';
  return (await correctCurrentState(correcting, tried)) ? 'done' : 'in vain';
}

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
  return withTransaction(store, async (tx) => {
    const stay = await lockResync(tx, roomId, epoch);
    if (stay === undefined) return true;
    const { room } = stay;
    if (room.stateVersion !== stateVersion) return false;
    const stands = standsStill(standing, room);
    if (!stands && tried < RESOLUTIONS_TRIED_MAX) return false;
    await settleCurrentState(tx, roomId);
    if (room.partial) return true;
    const currentState = stands && decided !== null ? decided : await stateOfExtremities(tx, roomId, room.extremities);
    // A join of ours may have turned with what it rested on: as at the completion, it has failed.
    const at = clock.now();
    const isOther = currentState !== room.currentState;
    const resolved = isOther ? [{ type: 'CurrentStateResolved', currentState } as const] : [];
    const { members, isOver } = await appendCurrentState(tx, room, resolved, at);
    const remaining = await countCorrectionsDue(tx, roomId);
    const whole = remaining === 0 ? { members } : {};
    await append(tx, room, [
      { type: 'EventsCorrected', judged: 0, changed: 0, remaining, ...whole, at },
      ...(isOver ? [{ type: 'StayEnded', because: 'join-rejected', at } as const] : []),
    ]);
    return true;
  });
}
