/**
 * One workflow a partial-state room: it makes the room whole, carries corrections on, and closes.
 *
 *     load ──▶ fetch state from a resident ──▶ walk the partial events ──▶ complete ──▶ close
 *                │        ▲      │ fails: next resident
 *                ▼        │      ▼ no resident left
 *             (rung) ◀── wait until the next round, or, parked, until somebody rings
 *
 * The journal decides: `nextAction` reads the fold of its control events, an activity does what it names and answers with
 * every control event journalled since, and the workflow folds those and nothing else. So a lost completion, a Reset or
 * continue-as-new cannot make it disagree with the journal. `ring` says that somebody else wrote to the journal; `resume` is for people.
 */
import {
  ApplicationFailure,
  allHandlersFinished,
  condition,
  continueAsNew,
  defineSignal,
  patched,
  proxyActivities,
  setCurrentDetails,
  setHandler,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow';
import { defineSearchAttributeKey } from '@temporalio/common';
import { type GapsDue, type NextAction, nextAction } from '../src/resync/next-action.ts';
import { describeResync } from '../src/resync/explain.ts';
import { LONGEST_WAIT_IN_RUN_MS, STALLED_ROUNDS_MAX, foldAnswer, isNews } from '../src/resync/fold-answer.ts';
import { asResyncState, shownPhase } from '../src/resync/state.ts';
import {
  type Activities,
  type ControlEvents,
  type LoadedResync,
  type ResyncRoomInput,
  type ResyncRoomResult,
} from '../src/temporal/contract.ts';
import { RESUME_SIGNAL, RING_SIGNAL, SEARCH_ATTRIBUTES, fetchTaskQueue, gapsTaskQueue } from '../src/temporal/names.ts';

/** Visibility is written at most this often; the last value is always written before a wait or the close. */
const SEARCH_ATTRIBUTES_INTERVAL_MS = 10_000;

/** Between such rounds: the clocks of this workflow and of the database may differ by a little. */
const STALLED_PAUSE_MS = 2_000;

const retry = { initialInterval: '1 second', backoffCoefficient: 2, maximumInterval: '1 minute' } as const;

/** A worker beats every third of it, from a timer: whoever is silent for so long is dead, and another goes on. */
const heartbeatTimeout = '10 seconds';

/** Reads and single appends. */
const brief = proxyActivities<Pick<Activities, 'loadResync' | 'endRound' | 'endStay' | 'resumeResync'>>({
  startToCloseTimeout: '1 minute',
  heartbeatTimeout,
  retry,
});

/** Work that lasts: alive as long as it heartbeats. */
const lasting = proxyActivities<
  Pick<Activities, 'fetchState' | 'walkEvents' | 'correctEvents' | 'fetchGaps' | 'seekMissing' | 'leaveRoom'>
>({
  startToCloseTimeout: '6 hours',
  heartbeatTimeout,
  retry,
});

export const ring = defineSignal(RING_SIGNAL);
export const resume = defineSignal(RESUME_SIGNAL);

const phaseKey = defineSearchAttributeKey(SEARCH_ATTRIBUTES.phase, 'KEYWORD');
const residentKey = defineSearchAttributeKey(SEARCH_ATTRIBUTES.resident, 'KEYWORD');
const gapsKey = defineSearchAttributeKey(SEARCH_ATTRIBUTES.gaps, 'INT');

/** Marks runs in which what is due all the time takes turns: histories of earlier ones kept to one order. */
const TAKES_TURNS = 'what-is-due-takes-turns';
/** Marks runs that start anew when the server suggests it: histories of earlier ones went on. */
const STARTS_ANEW = 'starts-anew-when-suggested';

export async function resyncRoom(input: ResyncRoomInput): Promise<ResyncRoomResult> {
  const { roomId } = input;
  let rings = 0;
  setHandler(
    ring,
    () => {
      rings += 1;
    },
    {
      description: 'Look at the journal again: something was written for this room.',
    },
  );
  let resumesAsked = 0;
  setHandler(
    resume,
    () => {
      resumesAsked += 1;
      rings += 1;
    },
    {
      description: 'Ask residents again now: ends a pause between rounds, and resumes a room that is parked.',
    },
  );

  let heard = rings;
  let resumed = 0;
  let stalled = 0;
  let last: NextAction['type'] | undefined;
  const load = async (summary: string): Promise<LoadedResync> => {
    const loaded = await brief.loadResync.executeWithOptions({ summary }, [{ roomId }]);
    // A worker of an earlier version may have answered.
    return { ...loaded, state: asResyncState(loaded.state) };
  };
  let resync = await load('Read the journal');
  const visibility = createVisibility();

  for (;;) {
    if (resumesAsked > resumed) {
      [heard, resumed] = [rings, resumesAsked];
      await brief.resumeResync.executeWithOptions({ summary: 'Somebody wants residents to be asked now' }, [
        { roomId, epoch: resync.epoch, sinceSeq: resync.seq },
      ]);
      resync = await load('Read the journal again');
      continue;
    }
    setCurrentDetails(describeResync(resync.state));
    visibility.publishWhenDue(resync);
    const action = decide(resync, last);

    // A run that is rung a thousand times, or walks a room of a million events, would grow its history for ever.
    if (action.type !== 'close' && workflowInfo().continueAsNewSuggested && patched(STARTS_ANEW)) {
      visibility.publish(resync);
      await continueAsNew<typeof resyncRoom>({ roomId });
    }
    if (action.type === 'close') {
      visibility.publish(resync);
      // A ring between the last look and the close would be lost with this run.
      if (rings === heard && allHandlersFinished()) return summarise(resync);
    } else if (action.type === 'park') {
      visibility.publish(resync);
      // It may last for years: with a history of a few events.
      if (input.parkedSinceMs !== action.since && rings === heard) {
        await continueAsNew<typeof resyncRoom>({ roomId, parkedSinceMs: action.since });
      }
      await condition(() => rings > heard);
    } else if (action.type === 'sleep') {
      const waitMs = action.untilMs - Date.now();
      if (waitMs > LONGEST_WAIT_IN_RUN_MS && input.waitingUntilMs !== action.untilMs) {
        visibility.publish(resync);
        await continueAsNew<typeof resyncRoom>({ roomId, waitingUntilMs: action.untilMs });
      }
      const isGap = resync.gaps?.nextAt === action.untilMs;
      const summary = isGap ? 'Wait until a gap is due' : `Wait for round ${action.round}`;
      const rung = await condition(() => rings > heard, Math.min(waitMs, visibility.dueInMs(resync) ?? waitMs), {
        summary,
      });
      if (!rung) continue;
    } else {
      const seen = rings;
      last = action.type;
      const answer = await perform(action, resync);
      const isNew = isNews(resync, answer);
      stalled = isNew ? 0 : stalled + 1;
      if (isNew && answer.epoch === resync.epoch && seen === rings) {
        resync = foldAnswer(resync, answer);
        continue;
      }
      // The activity decided otherwise, at a later time or by what somebody else had written: decide again as it did.
      if (stalled > 0) await pauseStalled(stalled, () => rings > seen);
    }

    // Rung, stalled, or another epoch has begun: the journal knows more than we do.
    heard = rings;
    resync = await load('Read the journal again');
  }
}

function decide({ state, gaps, corrections }: LoadedResync, last: NextAction['type'] | undefined): NextAction {
  const now = Date.now();
  const before = nextAction(state, now, gaps, corrections);
  const inTurn = nextAction(state, now, gaps, corrections, last);
  return inTurn.type === before.type || !patched(TAKES_TURNS) ? before : inTurn;
}

function perform(
  action: Exclude<NextAction, { type: 'close' | 'sleep' | 'park' }>,
  { roomId, epoch, seq, state, gaps, corrections }: LoadedResync,
): Promise<ControlEvents> {
  const cursor = { roomId, epoch, sinceSeq: seq };
  switch (action.type) {
    case 'fetchState': {
      const { attemptNo, resident, atEventId, atJoin } = action;
      const summary = `State from ${resident}, attempt ${attemptNo}`;
      const attempt = { attemptNo, resident, atEventId, ...(atJoin === undefined ? {} : { atJoin }) };
      return lasting.fetchState.executeWithOptions(asking(fetchTaskQueue, summary), [{ ...cursor, ...attempt }]);
    }
    case 'endRound':
      return brief.endRound.executeWithOptions({ summary: `No resident left in round ${action.round}` }, [
        { ...cursor, round: action.round },
      ]);
    case 'endStay':
      return brief.endStay.executeWithOptions({ summary: 'Everybody of us has left' }, [cursor]);
    case 'leaveRoom':
      return lasting.leaveRoom.executeWithOptions({ summary: 'Given up: our users leave the room' }, [cursor]);
    case 'walk':
      return lasting.walkEvents.executeWithOptions({ summary: `Judge partial events, ${state.walked} done` }, [cursor]);
    case 'correct':
      return lasting.correctEvents.executeWithOptions({ summary: `Correct what follows, ${corrections ?? 0} due` }, [
        cursor,
      ]);
    case 'fetchGaps':
      return lasting.fetchGaps.executeWithOptions(asking(gapsTaskQueue, `State at gaps, ${gaps?.open ?? 0} open`), [
        cursor,
      ]);
    case 'seekMissing':
      return lasting.seekMissing.executeWithOptions(asking(gapsTaskQueue, 'Look for what the state lacks'), [cursor]);
  }
}

/** Of activities that ask other servers. */
function asking(
  queueOf: (taskQueue: string) => string,
  summary: string,
): { readonly summary: string; readonly taskQueue: string } {
  return { summary, taskQueue: queueOf(workflowInfo().taskQueue) };
}

/** A run that cannot go on fails, instead of spinning on one decision; the sweep then starts a fresh one. */
async function pauseStalled(rounds: number, isRung: () => boolean): Promise<void> {
  if (rounds >= STALLED_ROUNDS_MAX) {
    throw ApplicationFailure.nonRetryable(
      `${rounds} activities answered without a new control event`,
      'JournalStalled',
    );
  }
  await condition(isRung, STALLED_PAUSE_MS, { summary: 'Nothing new was journalled: look again' });
}

function summarise({ roomId, epoch, state }: LoadedResync): ResyncRoomResult {
  const { members, walked, corrected, degraded } = state;
  const result = { roomId, epoch, phase: shownPhase(state), members, walked, corrected };
  return degraded === null ? result : { ...result, degraded };
}

/** Keeps the search attributes true without writing them on every step. */
function createVisibility(): {
  publish(resync: LoadedResync): void;
  publishWhenDue(resync: LoadedResync): void;
  dueInMs(resync: LoadedResync): number | null;
} {
  let published: string | null = null;
  let publishedAt = Number.NEGATIVE_INFINITY;
  const residentOf = ({ state }: LoadedResync): string | null => state.attempt?.resident ?? state.joinedVia;
  const key = (resync: LoadedResync): string =>
    `${shownPhase(resync.state)} ${residentOf(resync) ?? ''} ${openGapsOf(resync)}`;

  const publish = (resync: LoadedResync): void => {
    if (key(resync) === published) return;
    published = key(resync);
    publishedAt = Date.now();
    upsertSearchAttributes([
      { key: phaseKey, value: shownPhase(resync.state) },
      { key: residentKey, value: residentOf(resync) },
      { key: gapsKey, value: openGapsOf(resync) },
    ]);
  };
  const dueInMs = (resync: LoadedResync): number | null =>
    key(resync) === published ? null : Math.max(0, publishedAt + SEARCH_ATTRIBUTES_INTERVAL_MS - Date.now());
  return {
    publish,
    dueInMs,
    publishWhenDue: (resync) => {
      if (dueInMs(resync) === 0) publish(resync);
    },
  };
}

/** Runs of before gaps were told of wrote nothing when these changed; the answers that they had say nothing of attempts. */
function openGapsOf({ gaps }: LoadedResync): number {
  return (gaps as Partial<GapsDue> | undefined)?.attempts === undefined ? 0 : (gaps?.open ?? 0);
}
