/**
 * Appends what takes events in, and notices when it takes the last of our users out of the room: nobody tells us of it any more, and
 * residents refuse us soon. A whole room's stay ends with the leave. A partial one's goes on for one more round of its resync, so that
 * who has left may read the members of then; a join meanwhile opens the next stay all the same.
 */
import { type Clock } from '../../clock.ts';
import { type JournalEvent } from '../../resync/entries.ts';
import { type ResyncEvent } from '../../resync/events.ts';
import { LAST_ROUND_MS } from '../../resync/policy.ts';
import { append } from '../../store/journal/journal.ts';
import { type LockedRoom, isAnybodyIn } from '../../store/journal/rooms.ts';
import { type Transaction } from '../../store/open-store.ts';

/**
 * @param room one that somebody of us is in
 * @returns why the room's workflow is to be rung once the transaction has committed; `undefined`: it need not be
 */
export async function appendTakenIn(
  tx: Transaction,
  room: LockedRoom,
  entries: readonly JournalEvent[],
  clock: Clock,
): Promise<string | undefined> {
  const { users, isCorrection } = await append(tx, room, entries);
  if (users.length > 0 && !(await isAnybodyIn(tx, room.roomId))) {
    await append(tx, room, [endOf(room, clock.now())]);
    return 'for the last leave';
  }
  return isCorrection ? 'for a correction' : undefined;
}

function endOf({ partial }: LockedRoom, at: number): ResyncEvent {
  return partial
    ? { type: 'EverybodyLeft', until: at + LAST_ROUND_MS, at }
    : { type: 'StayEnded', because: 'left', at };
}
