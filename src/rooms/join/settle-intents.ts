/** What becomes of a join that has not come about: tried again later, left again, or given up with a reason. */
import { oneLine } from '../../federation/error.ts';
import { type ServerName } from '../../matrix/identifiers.ts';
import { type JoinIntent, deleteJoinIntent, releaseIntent } from '../../store/tables/intents.ts';
import { type RoomsContext } from '../context.ts';

const FIRST_RETRY_MS = 60_000;
const LONGEST_RETRY_MS = 3_600_000;
/** A join whose fate is unclear for a day is left instead, a knock forgotten, and a room that could not be left for another day let go. */
const ABANDONED_MS = 24 * 3_600_000;

/** The user is out of the room as soon as the background comes to it. `resident`: who took the join. */
export async function intendToLeave(
  context: RoomsContext,
  { roomId, userId, eventId }: JoinIntent,
  resident: ServerName,
  reason: string,
): Promise<void> {
  const lastReason = oneLine(reason);
  context.logger.warn({ roomId, userId, eventId, resident, reason: lastReason }, 'a join is left again');
  const notBefore = context.clock.now();
  await releaseIntent(context.store, { eventId }, { what: 'leave', resident, attempts: 0, notBefore, lastReason });
}

/** After a try that failed for a reason that may pass. */
export async function postpone(context: RoomsContext, intent: JoinIntent, failure: unknown): Promise<void> {
  const { store, clock, random, logger } = context;
  const { roomId, userId, eventId, what } = intent;
  const lastReason = oneLine(failure instanceof Error ? failure.message : String(failure));
  const age = clock.now() - intent.createdAt;
  if (what === 'leave' && age > 2 * ABANDONED_MS) {
    logger.error({ roomId, userId, eventId, reason: lastReason }, 'a join that could not be left again is given up');
    return deleteJoinIntent(store, eventId);
  }
  if (what === 'knock' && age > ABANDONED_MS) {
    logger.warn(
      { roomId, userId, eventId, reason: lastReason },
      'a knock of which nobody can say what became of it is given up',
    );
    return deleteJoinIntent(store, eventId);
  }
  if (what === 'join' && age > ABANDONED_MS) return intendToLeave(context, intent, intent.resident, lastReason);
  const pause = Math.min(FIRST_RETRY_MS * 2 ** intent.attempts, LONGEST_RETRY_MS) * (1 + random() / 10);
  const attempts = intent.attempts + 1;
  await releaseIntent(store, intent, { attempts, notBefore: Math.ceil(clock.now() + pause), lastReason });
}
