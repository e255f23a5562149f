/**
 * What passes in rooms, as clients are told it: who types, and what was read.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#mtyping and #mreceipt
 */
import { type EventFilter, passes, passesRoom, passesType } from '../matrix/client/filter.ts';
import { type RoomId, type UserId } from '../matrix/identifiers.ts';
import { receiptContentsOfRooms } from '../matrix/client/receipts.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { type Sql } from '../store/open-store.ts';
import { readReceiptsSince } from '../store/tables/receipts.ts';
import { type ToldRoom, readTypingSince } from '../store/tables/typing.ts';

/** Receipts of a response: his own, and the newest of others in each room, and of all rooms together. */
const RECEIPTS_OF_ROOM_MAX = 500;
const RECEIPTS_MAX = 20_000;

interface EphemeralQuery {
  readonly userId: UserId;
  readonly upTo: number;
  readonly filter: EventFilter;
  readonly ignored: readonly UserId[];
}

/** Of rooms what is new since `after`, 0: all; rooms of which nothing is are absent. Two statements. */
export async function readEphemeral(
  sql: Sql,
  rooms: readonly ToldRoom[],
  { userId, upTo, filter, ignored }: EphemeralQuery,
): Promise<ReadonlyMap<RoomId, readonly JsonObject[]>> {
  const asked = rooms.filter(({ roomId }) => passesRoom(filter, roomId));
  const isNew = new Set(asked.flatMap(({ roomId, after }) => (after === 0 ? [roomId] : [])));
  const typing = passesType(filter, 'm.typing') ? await readTypingSince(sql, asked, upTo) : [];
  const limits = { upTo, limitOfRoom: RECEIPTS_OF_ROOM_MAX, limit: RECEIPTS_MAX };
  const receipts = passesType(filter, 'm.receipt') ? await readReceiptsSince(sql, userId, asked, limits) : [];
  const events = new Map<RoomId, JsonObject[]>();
  const add = (roomId: RoomId, event: JsonObject): void => {
    if (passes(filter, event)) events.set(roomId, [...(events.get(roomId) ?? []), event]);
  };
  for (const { roomId, typists } of typing) {
    const users = typists.flatMap((typist) => (ignored.includes(typist.userId) ? [] : [typist.userId]));
    if (users.length > 0 || !isNew.has(roomId)) add(roomId, { type: 'm.typing', content: { user_ids: users } });
  }
  const shown = receipts.filter((receipt) => !ignored.includes(receipt.userId));
  for (const { roomId, content } of receiptContentsOfRooms(shown)) add(roomId, { type: 'm.receipt', content });
  return events;
}
