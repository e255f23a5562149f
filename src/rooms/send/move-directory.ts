/** Our aliases and our list, for the room that takes another's place. */
import { type RoomId } from '../../matrix/identifiers.ts';
import { withTransaction } from '../../store/open-store.ts';
import { isRoomListed, listRoom, unlistRoom } from '../../store/tables/listed-rooms.ts';
import { moveAliases } from '../../store/tables/room-aliases.ts';
import { type SendContext } from './send-event.ts';

/** May be done again, and changes nothing then. */
export async function moveDirectory({ store, clock }: SendContext, from: RoomId, to: RoomId): Promise<void> {
  await withTransaction(store, async (tx) => {
    await moveAliases(tx, from, to);
    if (!(await isRoomListed(tx, from))) return;
    await unlistRoom(tx, from);
    await listRoom(tx, to, clock.now());
  });
}
