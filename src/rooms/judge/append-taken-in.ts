/**
 * Appends what takes events in, and notices when it takes the last of our users out of the room: nobody tells us of it any more, and
 * residents refuse us soon. A whole room's stay ends with the leave. A partial one's goes on for one more round of its resync, or as the
 * policy says, so that who has left may read the members of then; a join meanwhile opens the next stay all the same.
 */
import { type JournalEvent } from '../../resync/entries.ts';
import { type ResyncEvent } from '../../resync/events.ts';
import { everybodyLeft } from '../../resync/policy.ts';
import { append } from '../../store/journal/journal.ts';
import { type LockedRoom, isAnybodyIn } from '../../store/journal/rooms.ts';
import { readSilentLeaves } from '../../store/journal/silent-leaves.ts';
import { type Transaction } from '../../store/open-store.ts';
import { deleteOutside } from '../../store/tables/outside-memberships.ts';
import { type RoomsContext } from '../context.ts';
import { leavePolicyOf } from '../leave-policy.ts';

/**
 * @param room one that somebody of us is in
 * @returns why the room's workflow is to be rung once the transaction has committed; `undefined`: it need not be
 */
export async function appendTakenIn(
  tx: Transaction,
  room: LockedRoom,
  entries: readonly JournalEvent[],
  { clock, policy }: Pick<RoomsContext, 'clock' | 'policy'>,
): Promise<string | undefined> {
  const { users, isCorrection } = await append(tx, room, entries);
  const settled = room.isLeftSilently && users.length > 0 ? await readSilentLeaves(tx, room.roomId, users) : [];
  if (users.length > 0) await deleteOutside(tx, room.roomId, users);
  const at = clock.now();
  await append(
    tx,
    room,
    settled.map((userId) => ({ type: 'SilentLeaveSettled', userId, because: 'out', at })),
  );
  if (users.length > 0 && !(await isAnybodyIn(tx, room.roomId))) {
    const end: ResyncEvent = room.partial
      ? everybodyLeft(at, await leavePolicyOf(tx, room.roomId, policy))
      : { type: 'StayEnded', because: 'left', at };
    await append(tx, room, [end]);
    return 'for the last leave';
  }
  return isCorrection ? 'for a correction' : undefined;
}
