/**
 * Tells other servers what users of ours have read, but in private: those that are in the room. Of a user and a room, or a thread in it, only
 * the last that is said waits for a server, and what waits for one travels together (merge-receipts.ts).
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#receipts
 */
import { canonicalJson } from '../matrix/json/canonical-json.ts';
import { type RoomId, type ServerName } from '../matrix/identifiers.ts';
import { type OutgoingEdu, insertOutgoingEdus } from '../store/tables/outgoing-edus.ts';
import { type Receipt, settleReceipts, takeUntoldReceipts } from '../store/tables/receipts.ts';
import { readRoomsOfOurs } from '../store/tables/shared-rooms.ts';
import { type RememberingContext } from './context.ts';
import { serversInRoom } from '../store/tables/servers-in-room.ts';

/** In one transaction, and as many for servers as come with the last of them. */
const RECEIPTS_AT_ONCE = 200;
const EDUS_AT_ONCE = 5_000;
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
    const roomIds = [...new Set(untold.map(({ roomId }) => roomId))];
    const rooms = new Map((await readRoomsOfOurs(tx, roomIds, store.serverName)).map((room) => [room.roomId, room]));
    const servers = new Map<RoomId, ReadonlySet<ServerName>>();
    const expiresAt = clock.now() + TOLD_WITHIN_MS;
    const edus: OutgoingEdu[] = [];
    const told: typeof untold = [];
    for (const receipt of untold) {
      if (edus.length >= EDUS_AT_ONCE) break;
      const room = rooms.get(receipt.roomId);
      const inRoom = servers.get(receipt.roomId) ?? (room && (await serversInRoom(tx, joined, room))) ?? new Set();
      servers.set(receipt.roomId, inRoom);
      for (const serverName of inRoom) edus.push(receiptEdu(serverName, receipt, expiresAt));
      told.push(receipt);
    }
    await insertOutgoingEdus(tx, edus);
    await settleReceipts(tx, told);
    return true;
  });
}

function receiptEdu(
  serverName: ServerName,
  { roomId, userId, threadId, eventId, at }: Receipt,
  expiresAt: number,
): OutgoingEdu {
  const data = { ts: at, ...(threadId === '' ? {} : { thread_id: threadId }) };
  const content = { [roomId]: { 'm.read': { [userId]: { data, event_ids: [eventId] } } } };
  return {
    serverName,
    key: `receipt ${roomId} ${userId} ${threadId}`,
    edu: canonicalJson({ edu_type: 'm.receipt', content }),
    expiresAt,
  };
}
