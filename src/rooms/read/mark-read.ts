/** What a user of ours says he has read. Other servers are not told. */
import { type EventId, type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { holdLocalMember } from '../../store/journal/rooms.ts';
import { readShownAt } from '../../store/journal/seen-by-clients.ts';
import { type Sql, type Store } from '../../store/open-store.ts';
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
  await requireJoined(store, roomId, userId);
  const shownAt = await readShownAt(store, roomId, [...marks.values()]);
  for (const [type, eventId] of marks) {
    if (type === 'm.fully_read') {
      await store.inTransaction(async (tx) => {
        await requireJoined(tx, roomId, userId);
        upsertAccountData(tx, userId, { roomId, type, content: JSON.stringify({ event_id: eventId }) });
      });
      continue;
    }
    const upTo = shownAt.get(eventId);
    if (upTo === undefined || upTo <= ((await readReceiptPosition(store, { userId, roomId, type })) ?? 0)) continue;
    await store.inTransaction(async (tx) => {
      await requireJoined(tx, roomId, userId);
      await upsertReadReceipt(tx, { userId, roomId, type, eventId, upTo });
    });
  }
}

/** In a transaction he stays so until its end. */
async function requireJoined(sql: Sql, roomId: RoomId, userId: UserId): Promise<void> {
  if ((await holdLocalMember(sql, roomId, userId)) === 'join') return;
  throw new RoomError('forbidden', `${userId} is not in ${roomId}`);
}
