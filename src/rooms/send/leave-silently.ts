/**
 * Leaving a partial room silently, where the policy is `silent`: the last of our users is out here at once, and the room has him as joined until
 * its resync is done, so that residents go on answering us. Then the leave is made. Who comes back before that has never been away, and
 * who is kicked or banned meanwhile needs no leave.
 */
import { type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { append } from '../../store/journal/journal.ts';
import { lockRoom, readLocalMembers } from '../../store/journal/rooms.ts';
import { readSilentLeaves } from '../../store/journal/silent-leaves.ts';
import { withTransaction } from '../../store/open-store.ts';
import { ringRoom } from '../ring.ts';
import { type SendContext } from './send-event.ts';

/** Has the last of our users leave a partial room silently; `false`: he is not the last, or the room is whole, and nothing was done. */
export async function leaveSilently(context: SendContext, roomId: RoomId, userId: UserId): Promise<boolean> {
  const { store, clock } = context;
  const hasLeft = await withTransaction(store, async (tx) => {
    const room = await lockRoom(tx, roomId);
    if (room?.partial !== true) return false;
    const joined = (await readLocalMembers(tx, roomId)).filter(({ membership }) => membership === 'join');
    if (joined.length !== 1 || joined[0]?.userId !== userId) return false;
    await append(tx, room, [{ type: 'LeftSilently', userId, at: clock.now() }]);
    return true;
  });
  // In a room for whose state nobody is asked any more the leave is due at once.
  if (hasLeft) await ringRoom(context, roomId, 'for a silent leave');
  return hasLeft;
}

/** Takes a silent leave back, where the user comes back before it was made. */
export async function comeBack(
  { store, clock }: Pick<SendContext, 'store' | 'clock'>,
  roomId: RoomId,
  userId: UserId,
): Promise<void> {
  if ((await readSilentLeaves(store, roomId, [userId])).length === 0) return;
  await withTransaction(store, async (tx) => {
    const room = await lockRoom(tx, roomId);
    if (room === undefined || (await readSilentLeaves(tx, roomId, [userId])).length === 0) return;
    await append(tx, room, [{ type: 'SilentLeaveSettled', userId, because: 'returned', at: clock.now() }]);
  });
}
