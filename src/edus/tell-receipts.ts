/**
 * Tells other servers what users of ours have read, but in private: those that are in the room. Of a user and a room, or a thread in it, only
 * the last that is said waits for a server, and what waits for one travels together (merge-receipts.ts).
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#receipts
 */
import { canonicalJson } from '../matrix/json/canonical-json.ts';
import { type RoomId, type ServerName } from '../matrix/identifiers.ts';
import { type PassingEdu, insertPassing } from '../store/tables/outgoing-passing.ts';
import { type Receipt, settleReceipts, takeUntoldReceipts } from '../store/tables/receipts.ts';
import { holdRoomsOfOurs } from '../store/tables/shared-rooms.ts';
import { type RememberingContext } from './context.ts';
import { serversInRoom } from '../store/tables/servers-in-room.ts';

/** In one transaction. */
const RECEIPTS_AT_ONCE = 200;
/** Whoever does not take anything for so long is told of what is read then. */
const TOLD_WITHIN_MS = 3_600_000;

/** Writes down what is to be told; gives whether there was anything. */
export async function tellReceipts({
  store,
  clock,
  joined,
}: Pick<RememberingContext, 'store' | 'clock' | 'joined'>): Promise<boolean> {
  return store.inTransaction(async (tx) => {
    const untold = await takeUntoldReceipts(tx, RECEIPTS_AT_ONCE);
    if (untold.length === 0) return false;
    const rooms = await holdRoomsOfOurs(tx, [...new Set(untold.map(({ roomId }) => roomId))]);
    const servers = new Map<RoomId, ReadonlySet<ServerName>>();
    for (const room of rooms) servers.set(room.roomId, await serversInRoom(tx, joined, room));
    const now = clock.now();
    const edus = untold.map((receipt) => receiptEdu(receipt, now + TOLD_WITHIN_MS));
    await insertPassing(tx, edus, servers, now);
    await settleReceipts(tx, untold);
    return true;
  });
}

function receiptEdu({ roomId, userId, threadId, eventId, at }: Receipt, expiresAt: number): PassingEdu {
  const data = { ts: at, ...(threadId === '' ? {} : { thread_id: threadId }) };
  const content = { [roomId]: { 'm.read': { [userId]: { data, event_ids: [eventId] } } } };
  return {
    roomId,
    key: `receipt ${userId} ${threadId}`,
    edu: canonicalJson({ edu_type: 'm.receipt', content }),
    expiresAt,
  };
}
