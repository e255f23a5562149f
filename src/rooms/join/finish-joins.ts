/**
 * Settles what joins have left open: those that a resident may have accepted and we lost before they were journalled
 * (https://github.com/matrix-org/matrix-spec/issues/752), likewise knocks, and joins that it accepted and we could not use. Each on its own:
 * one that fails, or whose residents are silent, keeps no other waiting.
 */
import { invariant } from '../../invariant.ts';
import { type JoinIntent, claimDueIntent, deleteJoinIntent, releaseIntent } from '../../store/tables/intents.ts';
import { type RoomsContext } from '../context.ts';
import { finishKnock } from '../invites/send-knock.ts';
import { leaveAgain } from './leave-again.ts';
import { intendToLeave, postpone } from './settle-intents.ts';
import { sendJoin } from './send-join.ts';
import { isPortable } from './prepare-join.ts';
import { Timings } from './timings.ts';

/** They wait for other servers most of the time. */
const SIDE_BY_SIDE = 8;
/** Of one pass, so that it ends; the next one goes on. */
const INTENTS_A_PASS = 200;
/** No intent is begun later than this in a pass. */
const PASS_MS_MAX = 2 * 60_000;
/** Of one intent: it is tried again with longer pauses, so that a silent resident costs little. */
const INTENT_MS_MAX = 60_000;
/** Of one resident, so that another gets its turn. */
const RESIDENT_MS_MAX = 30_000;

/** Works off the intents that are due, several side by side; gives how many of them are settled now. */
export async function finishStaleJoins(context: RoomsContext, signal: AbortSignal): Promise<number> {
  const begun = context.clock.now();
  const deadline = AbortSignal.timeout(PASS_MS_MAX);
  let left = INTENTS_A_PASS;
  let settled = 0;
  const worker = async (): Promise<void> => {
    while (left > 0 && !signal.aborted && !deadline.aborted) {
      left -= 1;
      // By the time at which the pass began, so that what fails in it is not tried in it again.
      const intent = await claimDueIntent(context.store, begun);
      if (intent === undefined) return;
      if (await settle(context, intent, signal)) settled += 1;
    }
  };
  await Promise.all(Array.from({ length: SIDE_BY_SIDE }, worker));
  signal.throwIfAborted();
  return settled;
}

/** Whether the intent is settled. Throws only what recording a failure throws. */
async function settle(context: RoomsContext, intent: JoinIntent, stop: AbortSignal): Promise<boolean> {
  const { roomId, eventId, what } = intent;
  const signal = AbortSignal.any([stop, AbortSignal.timeout(INTENT_MS_MAX)]);
  try {
    if (what === 'join') return await finishJoin(context, intent, signal);
    if (what === 'knock') {
      await finishKnock(context, intent, AbortSignal.any([signal, AbortSignal.timeout(RESIDENT_MS_MAX)]));
      return true;
    }
    await leaveAgain(context, intent, signal);
    await deleteJoinIntent(context.store, eventId);
    return true;
  } catch (error) {
    if (stop.aborted) {
      await releaseIntent(context.store, intent);
      return false;
    }
    context.logger.warn({ err: error, roomId, eventId, what }, 'an open join could not be settled; it is tried again');
    await postpone(context, intent, error);
    return false;
  }
}

/** The same event at the resident that may have it, then at the others. @throws when its fate is still unclear */
async function finishJoin(context: RoomsContext, intent: JoinIntent, signal: AbortSignal): Promise<boolean> {
  const timings = new Timings(context.clock);
  const residents = isPortable(intent) ? [intent.resident, ...intent.via] : [intent.resident];
  const { roomId, userId, eventId } = intent;
  let failure: Error | undefined;
  for (const resident of new Set(residents)) {
    const sent = await sendJoin(context, intent, resident, { signal, timings, limitMs: RESIDENT_MS_MAX });
    if (sent.outcome === 'joined') return true;
    if (sent.outcome === 'unusable') {
      await intendToLeave(context, intent, resident, sent.error.message);
      return false;
    }
    if (sent.outcome === 'refused' && resident === intent.resident) {
      context.logger.info({ err: sent.error, roomId, userId, eventId }, 'a join whose answer was lost was refused');
      await deleteJoinIntent(context.store, eventId);
      return true;
    }
    failure ??= sent.error;
  }
  invariant(failure !== undefined, 'somebody was asked');
  throw failure;
}
