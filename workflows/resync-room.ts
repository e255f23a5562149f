/**
 * One workflow a partial-state room: it makes the room whole, carries corrections on, and closes.
 *
 *     load ──▶ fetch state from a resident ──▶ walk the partial events ──▶ complete ──▶ close
 *                │        ▲      │ fails: next resident
 *                ▼        │      ▼ no resident left
 *             (rung) ◀── wait until the next round, or, parked, until somebody rings
 *
 * The journal decides: `nextAction` reads the fold of its control events, an activity does what it names and answers
 * with every control event journalled since, and the workflow folds those and nothing else. So a lost completion, a
 * Reset or continue-as-new cannot make it disagree with the journal. `ring` says that somebody else wrote to the
 * journal; what people command is in take-commands.ts. When the run is cancelled it has that journalled, so that
 * nothing starts it again but a person or a further join, and closes as cancelled.
 */
import {
  ApplicationFailure,
  CancellationScope,
  allHandlersFinished,
  condition,
  continueAsNew,
  defineQuery,
  defineSignal,
  isCancellation,
  patched,
  proxyActivities,
  setCurrentDetails,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow';
import { type RoomId } from '../src/matrix/identifiers.ts';
import { type NextAction, nextAction } from '../src/resync/next-action.ts';
import { describeResync } from '../src/resync/explain.ts';
import { LONGEST_WAIT_IN_RUN_MS, STALLED_ROUNDS_MAX, foldAnswer, isNews } from '../src/resync/fold-answer.ts';
import { asResyncState, shownPhase } from '../src/resync/state.ts';
import {
  type Activities,
  type CommandAnswer,
  type ControlEvents,
  type GivenCommand,
  type LoadedResync,
  type ResyncRoomInput,
  type ResyncRoomResult,
} from '../src/temporal/contract.ts';
import { RING_SIGNAL, fetchTaskQueue, gapsTaskQueue } from '../src/temporal/names.ts';
import { takeCommands } from './take-commands.ts';
import { type Visibility, createVisibility } from './visibility.ts';

/** Between such rounds: the clocks of this workflow and of the database may differ by a little. */
const STALLED_PAUSE_MS = 2_000;

const retry = { initialInterval: '1 second', backoffCoefficient: 2, maximumInterval: '1 minute' } as const;

/** A worker beats every third of it, from a timer: whoever is silent for so long is dead, and another goes on. */
const heartbeatTimeout = '10 seconds';

/** Reads and single appends. */
const brief = proxyActivities<Pick<Activities, 'loadResync' | 'endRound' | 'endStay' | 'commandRoom' | 'resumeResync'>>(
  {
    startToCloseTimeout: '1 minute',
    heartbeatTimeout,
    retry,
  },
);

/** Work that lasts: alive as long as it heartbeats. */
const lasting = proxyActivities<
  Pick<Activities, 'fetchState' | 'walkEvents' | 'correctEvents' | 'fetchGaps' | 'seekMissing' | 'leaveRoom'>
>({
  startToCloseTimeout: '6 hours',
  heartbeatTimeout,
  retry,
});

export const ring = defineSignal(RING_SIGNAL);
export const status = defineQuery<string>('status');
export const folded = defineQuery<LoadedResync | null>('state');

/** Marks runs in which what is due all the time takes turns: histories of earlier ones kept to one order. */
const TAKES_TURNS = 'what-is-due-takes-turns';
/** Marks runs that start anew when the server suggests it: histories of earlier ones went on. */
const STARTS_ANEW = 'starts-anew-when-suggested';
/** Marks runs that journal their cancellation: earlier ones closed and were started again by the sweep. */
const CANCEL_PARKS = 'cancel-parks';

/** Who cancels, and why, is Temporal's to tell. */
const CANCELLED_AT_TEMPORAL = { by: 'somebody at Temporal', reason: 'the run was cancelled' };

export async function resyncRoom(input: ResyncRoomInput): Promise<ResyncRoomResult> {
  const { roomId } = input;
  const bell: Bell = { rings: 0, resumesAsked: 0 };
  let known: LoadedResync | null = null;
  setHandler(ring, () => void (bell.rings += 1), {
    description: 'Look at the journal again: something was written for this room.',
  });
  setHandler(status, () => (known === null ? 'Reading the journal' : describeResync(known.state)), {
    description: 'Where the room stands, in words.',
  });
  setHandler(folded, () => known, { description: 'What the journal says of the room, as data.' });
  takeCommands({
    obey: (command) => commandRoom(roomId, command),
    onObeyed: () => void (bell.rings += 1),
    onEarlierResume: () => {
      bell.resumesAsked += 1;
      bell.rings += 1;
    },
  });
  const visibility = createVisibility();
  try {
    return await drive(input, bell, visibility, (resync) => {
      known = resync;
    });
  } catch (error) {
    const isStopped = isCancellation(error) && CancellationScope.current().consideredCancelled;
    if (isStopped && patched(CANCEL_PARKS)) {
      known = await CancellationScope.nonCancellable(() => parkCancelled(roomId, visibility));
    }
    throw error;
  }
}

/** How often the run was rung, and asked to resume by a signal of before there were commands. */
interface Bell {
  rings: number;
  resumesAsked: number;
}

function commandRoom(roomId: RoomId, command: GivenCommand): Promise<CommandAnswer> {
  return brief.commandRoom.executeWithOptions({ summary: `Command: ${command.name}` }, [{ roomId, ...command }]);
}

async function load(roomId: RoomId, summary: string): Promise<LoadedResync> {
  const loaded = await brief.loadResync.executeWithOptions({ summary }, [{ roomId }]);
  // A worker of an earlier version may have answered.
  return { ...loaded, state: asResyncState(loaded.state) };
}

/** Of a room that is whole there is nothing to stop: what is due in it is taken up by the sweep. */
async function parkCancelled(roomId: RoomId, visibility: Visibility): Promise<LoadedResync> {
  await commandRoom(roomId, { name: 'cancel', body: CANCELLED_AT_TEMPORAL, isSignal: false });
  await condition(allHandlersFinished);
  const resync = await load(roomId, 'Read the journal again');
  setCurrentDetails(describeResync(resync.state));
  visibility.publish(resync);
  return resync;
}

async function drive(
  input: ResyncRoomInput,
  bell: Bell,
  visibility: Visibility,
  know: (resync: LoadedResync) => void,
): Promise<ResyncRoomResult> {
  const { roomId } = input;
  let heard = bell.rings;
  let resumed = 0;
  let stalled = 0;
  let last: NextAction['type'] | undefined;
  let resync = await load(roomId, 'Read the journal');

  for (;;) {
    if (bell.resumesAsked > resumed) {
      [heard, resumed] = [bell.rings, bell.resumesAsked];
      await brief.resumeResync.executeWithOptions({ summary: 'Somebody wants residents to be asked now' }, [
        { roomId, epoch: resync.epoch, sinceSeq: resync.seq },
      ]);
      resync = await load(roomId, 'Read the journal again');
      continue;
    }
    know(resync);
    setCurrentDetails(describeResync(resync.state));
    visibility.publishWhenDue(resync);
    const action = decide(resync, last);

    // A run that is rung a thousand times, or walks a room of a million events, would grow its history for ever.
    if (action.type !== 'close' && isToStartAnew()) {
      visibility.publish(resync);
      await continueAsNew<typeof resyncRoom>({ roomId });
    }
    if (action.type === 'close') {
      visibility.publish(resync);
      // A ring between the last look and the close would be lost with this run.
      if (bell.rings === heard && allHandlersFinished()) return summarise(resync);
      await condition(allHandlersFinished);
    } else if (action.type === 'park') {
      visibility.publish(resync);
      // It may last for years: with a history of a few events.
      if (input.parkedSinceMs !== action.since && bell.rings === heard && allHandlersFinished()) {
        await continueAsNew<typeof resyncRoom>({ roomId, parkedSinceMs: action.since });
      }
      await condition(() => bell.rings > heard);
    } else if (action.type === 'sleep') {
      const waitMs = action.untilMs - Date.now();
      if (waitMs > LONGEST_WAIT_IN_RUN_MS && input.waitingUntilMs !== action.untilMs && allHandlersFinished()) {
        visibility.publish(resync);
        await continueAsNew<typeof resyncRoom>({ roomId, waitingUntilMs: action.untilMs });
      }
      const isGap = resync.gaps?.nextAt === action.untilMs;
      const summary = isGap ? 'Wait until a gap is due' : `Wait for round ${action.round}`;
      const rung = await condition(() => bell.rings > heard, Math.min(waitMs, visibility.dueInMs(resync) ?? waitMs), {
        summary,
      });
      if (!rung) continue;
    } else {
      const seen = bell.rings;
      last = action.type;
      const answer = await perform(action, resync);
      const isNew = isNews(resync, answer);
      stalled = isNew ? 0 : stalled + 1;
      if (isNew && answer.epoch === resync.epoch && seen === bell.rings) {
        resync = foldAnswer(resync, answer);
        continue;
      }
      // The activity decided otherwise, at a later time or by what somebody else had written: decide again as it did.
      if (stalled > 0) await pauseStalled(stalled, () => bell.rings > seen);
    }

    // Rung, stalled, or another epoch has begun: the journal knows more than we do.
    heard = bell.rings;
    resync = await load(roomId, 'Read the journal again');
  }
}

/** Commands that are under way are not left behind. */
function isToStartAnew(): boolean {
  return workflowInfo().continueAsNewSuggested && allHandlersFinished() && patched(STARTS_ANEW);
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
