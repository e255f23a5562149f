/** The leaves of those who left silently (leave-silently.ts), when the resync of the room is done or given up. */
import { type RoomId } from '../../matrix/identifiers.ts';
import { append } from '../../store/journal/journal.ts';
import { lockResync } from '../../store/journal/rooms.ts';
import { readSilentLeaves } from '../../store/journal/silent-leaves.ts';
import { withTransaction } from '../../store/open-store.ts';
import { RoomError } from '../error.ts';
import { changeMembership } from './change-membership.ts';
import { type SendContext } from './send-event.ts';

/** Makes the leaves that are due since the resync is done. Who cannot leave by the room's rules, is in it again. */
export async function makeSilentLeaves(
  context: SendContext,
  { roomId, epoch }: { readonly roomId: RoomId; readonly epoch: number },
): Promise<void> {
  const { store, clock, logger } = context;
  for (const userId of await readSilentLeaves(store, roomId)) {
    try {
      await changeMembership(context, { roomId, sender: userId, userId, act: 'leave', isDue: true });
    } catch (error) {
      if (!(error instanceof RoomError)) throw error;
      logger.warn({ err: error, roomId, userId }, 'a leave that was put off cannot be made');
    }
    await withTransaction(store, async (tx) => {
      const stay = await lockResync(tx, roomId, epoch);
      if (stay === undefined || (await readSilentLeaves(tx, roomId, [userId])).length === 0) return;
      await append(tx, stay.room, [{ type: 'SilentLeaveSettled', userId, because: 'returned', at: clock.now() }]);
    });
  }
}
