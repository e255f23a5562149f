/** A user wants to see no more of a room that he is out of. */
import { type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { readRoomViews } from '../../store/journal/views.ts';
import { forgetRoom } from '../../store/tables/forgotten-rooms.ts';
import { readOutside } from '../../store/tables/outside-memberships.ts';
import { RoomError } from '../error.ts';
import { type SendContext } from './send-event.ts';

/** `false`: he is joined, invited or knocking, and nothing was done. Throws `RoomError` `forbidden` for who never was there. */
export async function forget({ store }: SendContext, userId: UserId, roomId: RoomId): Promise<boolean> {
  const [view] = await readRoomViews(store, [{ roomId, userId }]);
  const outside = await readOutside(store, roomId, userId);
  const open = ['join', 'invite', 'knock'];
  if (open.includes(view?.membership ?? '') || open.includes(outside?.membership ?? '')) return false;
  const wasThere = view !== undefined && (view.membership !== null || view.isFormer);
  if (!wasThere && outside === undefined) {
    throw new RoomError('forbidden', `${userId} is not in ${roomId}, and never was`);
  }
  if (wasThere) await forgetRoom(store, userId, roomId);
  return true;
}
