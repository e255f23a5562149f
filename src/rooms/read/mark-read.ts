/** What a user of ours says he has read. */
import { type EventId, type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { holdLocalMember } from '../../store/journal/rooms.ts';
import { readShownAt } from '../../store/journal/seen-by-clients.ts';
import { type Sql } from '../../store/open-store.ts';
import { upsertAccountData } from '../../store/tables/account-data.ts';
import { readReceiptPosition, upsertReadReceipt } from '../../store/tables/read-receipts.ts';
import { readReceiptEvent, upsertThreadReceipt } from '../../store/tables/receipts.ts';
import { type ReadMark } from '../client-contract.ts';
import { type RoomsContext } from '../context.ts';
import { RoomError } from '../error.ts';

/**
 * Throws `forbidden` for who is not joined. What is not shown here, was said already, or lies in the room before what was, changes nothing. `threadId`: of a
 * thread, or of `main` all that is in none; null: of the room. Who has read a thread has not read the room.
 */
export async function markRead(
  { store, clock }: Pick<RoomsContext, 'store' | 'clock'>,
  userId: UserId,
  roomId: RoomId,
  marks: ReadonlyMap<ReadMark, EventId>,
  threadId: string | null,
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
    if (upTo === undefined) continue;
    const read = { userId, roomId, eventId, threadId: threadId ?? '', at: clock.now() };
    if (threadId !== null && threadId !== 'main') {
      if ((await readReceiptEvent(store, read, type)) === eventId) continue;
      await store.inTransaction(async (tx) => {
        await requireJoined(tx, roomId, userId);
        await upsertThreadReceipt(tx, read, type);
      });
      continue;
    }
    if (upTo <= ((await readReceiptPosition(store, { userId, roomId, type })) ?? 0)) continue;
    await store.inTransaction(async (tx) => {
      await requireJoined(tx, roomId, userId);
      await upsertReadReceipt(tx, { ...read, type, upTo });
    });
  }
}

/** In a transaction he stays so until its end. */
async function requireJoined(sql: Sql, roomId: RoomId, userId: UserId): Promise<void> {
  if ((await holdLocalMember(sql, roomId, userId)) === 'join') return;
  throw new RoomError('forbidden', `${userId} is not in ${roomId}`);
}
