/** Journals that a stay is over which everybody of us has left, when the last round of its resync is. */
import { nextAction } from '../../resync/next-action.ts';
import { append } from '../../store/journal/journal.ts';
import { lockResync } from '../../store/journal/rooms.ts';
import { withTransaction } from '../../store/open-store.ts';
import { type RoomsContext } from '../context.ts';
import { type Stay } from './ask-gap-residents.ts';

/** Does nothing when the stay is over already, or its last round is not. */
export async function endStay({ store, clock }: RoomsContext, { roomId, epoch }: Stay): Promise<void> {
  await withTransaction(store, async (tx) => {
    const stay = await lockResync(tx, roomId, epoch);
    const at = clock.now();
    if (stay === undefined || nextAction(stay.resync, at).type !== 'endStay') return;
    await append(tx, stay.room, [{ type: 'StayEnded', because: 'left', at }]);
  });
}
