/**
 * What passes in rooms, as application services are told it that want to be: who types, who has read what, who is there. It is told as it
 * stands when a transaction is made; what was otherwise in between is gone.
 *
 * Source: https://spec.matrix.org/v1.16/application-service-api/#pushing-ephemeral-data
 */
import { presenceContent } from '../matrix/client/presence.ts';
import { receiptContentsOfRooms } from '../matrix/client/receipts.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { type Sql } from '../store/open-store.ts';
import { readPresenceSince } from '../store/tables/presence.ts';
import { readNewestReceipts } from '../store/tables/receipts.ts';
import { readNewestTyping } from '../store/tables/typing.ts';
import { readListedRooms } from '../store/tables/user-directory.ts';
import { type Interested, roomsOfInterest } from './interest.ts';

/** Looked at in one transaction, of each kind, the newest; older ones are not told. */
const LOOKED_AT_MAX = 500;
/** Users who are told of in one transaction, and rooms of each that are looked at. */
const PRESENCE_MAX = 100;
const ROOMS_OF_USER_MAX = 50;

/** What changed in a span of positions. A few statements, and none beside three where nothing did. */
export async function readEphemeral(
  sql: Sql,
  to: Interested,
  span: { readonly since: number; readonly upTo: number },
  now: number,
): Promise<JsonObject[]> {
  const typing = await readNewestTyping(sql, span, LOOKED_AT_MAX);
  const receipts = (await readNewestReceipts(sql, span, LOOKED_AT_MAX)).filter(
    ({ type, userId }) => type === 'm.read' || to.isIts('users', userId),
  );
  const presence = (await readPresenceSince(sql, span, PRESENCE_MAX)).map((said) => said.presence);
  if (typing.length + receipts.length + presence.length === 0) return [];
  const others = presence.flatMap(({ userId }) => (to.isIts('users', userId) ? [] : [userId]));
  const beside = await readListedRooms(sql, others, ROOMS_OF_USER_MAX);
  const of = [...typing, ...receipts, ...beside].map(({ roomId }) => roomId);
  const rooms = await roomsOfInterest(sql, to, [...new Set(of)]);
  const sharing = new Set(beside.flatMap(({ roomId, userId }) => (rooms.has(roomId) ? [userId] : [])));
  const heard = receipts.filter(({ roomId }) => rooms.has(roomId));
  return [
    ...typing.flatMap(({ roomId, typists }) => {
      const content = { user_ids: typists.map(({ userId }) => userId) };
      return rooms.has(roomId) ? [{ type: 'm.typing', room_id: roomId, content }] : [];
    }),
    ...receiptContentsOfRooms(heard).map(({ roomId, content }) => ({ type: 'm.receipt', room_id: roomId, content })),
    ...presence.flatMap((said) => {
      const isTold = to.isIts('users', said.userId) || sharing.has(said.userId);
      return isTold ? [{ type: 'm.presence', sender: said.userId, content: presenceContent(said, now) }] : [];
    }),
  ];
}
