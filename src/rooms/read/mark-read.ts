/** What a user of ours says he has read. Other servers are not told. */
import { type EventId, type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { readLocalMember } from '../../store/journal/rooms.ts';
import { readShownAt } from '../../store/journal/seen-by-clients.ts';
import { type Store } from '../../store/open-store.ts';
import { upsertAccountData } from '../../store/tables/account-data.ts';
import { readReceiptPosition, upsertReadReceipt } from '../../store/tables/read-receipts.ts';
import { type ReadMark } from '../client-contract.ts';
import { RoomError } from '../error.ts';

/** Throws `forbidden` for who is not joined. What is not shown here, or lies before what was said already, changes nothing. */
export async function markRead(
  store: Store,
  userId: UserId,
  roomId: RoomId,
  marks: ReadonlyMap<ReadMark, EventId>,
): Promise<void> {
  if ((await readLocalMember(store, roomId, userId)) !== 'join') {
    throw new RoomError('forbidden', `${userId} is not in ${roomId}`);
  }
  const shownAt = await readShownAt(store, roomId, [...marks.values()]);
  for (const [type, eventId] of marks) {
    if (type === 'm.fully_read') {
      await store.inTransaction((tx) => {
        upsertAccountData(tx, userId, { roomId, type, content: JSON.stringify({ event_id: eventId }) });
        return Promise.resolve();
      });
      continue;
    }
    const upTo = shownAt.get(eventId);
    if (upTo === undefined || upTo <= ((await readReceiptPosition(store, { userId, roomId, type })) ?? 0)) continue;
    await store.inTransaction((tx) => upsertReadReceipt(tx, { userId, roomId, type, eventId, upTo }));
  }
}
