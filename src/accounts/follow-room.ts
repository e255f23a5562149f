/**
 * What a user keeps of a room, for the room that takes its place. What he keeps of the new one already stays as it is.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#room-upgrades
 */
import { ROOM_RULES, movedRules } from '../matrix/client/push-rules-of-room.ts';
import { type RoomId, type UserId } from '../matrix/identifiers.ts';
import { canonicalJson } from '../matrix/json/canonical-json.ts';
import { type Json, type JsonObject } from '../matrix/pdu.ts';
import { readAccountData } from '../store/tables/account-data.ts';
import { changePushRules, readPushRules, setAccountData } from './account-data.ts';
import { type AccountsContext } from './context.ts';

const TAGS = 'm.tag';
const DIRECT = 'm.direct';

/** May be done again, and changes nothing then. */
export async function followRoom(context: AccountsContext, userId: UserId, from: RoomId, to: RoomId): Promise<void> {
  const { store } = context;
  const tags = await readAccountData(store, userId, from, TAGS);
  if (tags !== undefined && (await readAccountData(store, userId, to, TAGS)) === undefined) {
    await setAccountData(context, userId, to, TAGS, tags);
  }
  const direct = await readAccountData(store, userId, null, DIRECT);
  const followed = direct && withRoom(direct, from, to);
  if (followed !== undefined) await setAccountData(context, userId, null, DIRECT, followed);
  const rules = await readPushRules(store, userId);
  if (ROOM_RULES.some((kind) => rules[kind].some((rule) => JSON.stringify(rule).includes(JSON.stringify(from))))) {
    await changePushRules(context, userId, (changes) => movedRules(changes, from, to));
  }
}

/** `undefined`: the room is nobody's direct chat, or the other one is named with it already. */
function withRoom(direct: JsonObject, from: RoomId, to: RoomId): JsonObject | undefined {
  const followed = Object.fromEntries(
    Object.entries(direct).map(([user, rooms]): [string, Json] => {
      const isOne = Array.isArray(rooms) && rooms.includes(from) && !rooms.includes(to);
      return [user, isOne ? [...(rooms as Json[]), to] : rooms];
    }),
  );
  return canonicalJson(followed) === canonicalJson(direct) ? undefined : followed;
}
