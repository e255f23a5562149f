/** What becomes of a room for whose state nobody is asked any more, where our users are to leave it. */
import { oneLine } from '../../federation/error.ts';
import { append } from '../../store/journal/journal.ts';
import { lockResync, readLocalMembers, readResync } from '../../store/journal/rooms.ts';
import { withTransaction } from '../../store/open-store.ts';
import { type RoomsContext } from '../context.ts';
import { RoomError } from '../error.ts';
import { changeMembership } from '../send/change-membership.ts';
import { type Stay } from './ask-gap-residents.ts';

/** What other users of the room see beside the leave. */
const LEAVE_REASON = 'The state of the room could not be had';

/**
 * Has every user of ours leave a room that was given up, as if he did so himself: with the last of them the stay has its last round. What
 * keeps one from it, which only the rules of the room can, leaves the room parked with him in it.
 */
export async function leaveGivenUp(context: RoomsContext, { roomId, epoch }: Stay): Promise<void> {
  const { store, clock } = context;
  const isToLeave = async (): Promise<boolean> => {
    const resync = await readResync(store, roomId);
    return resync?.epoch === epoch && resync.state.phase === 'parked' && resync.state.parked?.isLeaving === true;
  };
  let kept: string | undefined;
  for (const { userId, membership } of await readLocalMembers(store, roomId)) {
    // Those who left silently are out already.
    if (membership !== 'join' || !(await isToLeave())) continue;
    try {
      await changeMembership(context, {
        roomId,
        sender: userId,
        userId,
        act: 'leave',
        reason: LEAVE_REASON,
        isForced: true,
      });
    } catch (error) {
      if (!(error instanceof RoomError)) throw error;
      kept = `${userId} cannot leave: ${error.message}`;
    }
  }
  await withTransaction(store, async (tx) => {
    const stay = await lockResync(tx, roomId, epoch);
    const parked = stay?.resync.phase === 'parked' ? stay.resync.parked : null;
    if (stay === undefined || parked?.isLeaving !== true) return;
    const reason = oneLine(kept ?? 'nobody of this server is in the room');
    await append(tx, stay.room, [{ type: 'ResyncParked', because: parked.because, reason, at: clock.now() }]);
  });
}
