/**
 * A further user of ours joins a room that is whole here: we know as well as any resident whether it lets him in. In a partial
 * room a ban of him may be unknown to us, so there a resident is asked.
 */
import { ownValue } from '../../matrix/content.ts';
import { type EventId, type RoomId, type UserId, parseRoomId } from '../../matrix/identifiers.ts';
import { type Json, type JsonObject, type Pdu, type StateKey } from '../../matrix/pdu.ts';
import { atLeast, powerLevelsOf } from '../../matrix/auth/power-levels.ts';
import { isJsonObject } from '../../matrix/json/strict-json.ts';
import { stateMapKey } from '../../matrix/state-map.ts';
import { isInAny, readLocalMembers, readStanding } from '../../store/journal/rooms.ts';
import { type Store } from '../../store/open-store.ts';
import { readSnapshot } from '../../store/snapshots/snapshots.ts';
import { RoomError } from '../error.ts';
import { loadPdus, rulesOfJoined } from '../judge/load-pdus.ts';
import { type SendContext, sendEvent } from '../send/send-event.ts';

/** Rooms of a join rule that are looked at. */
const ALLOWED_ROOMS_MAX = 50;

const AUTHORISING: readonly StateKey[] = ['m.room.create', 'm.room.power_levels', 'm.room.join_rules'].map((type) => ({
  type,
  stateKey: '',
}));

/**
 * @returns the join; `undefined` where a resident has to be asked: nobody of us is in, the room is partial, or nobody of us may let
 * somebody in whom its rule wants let in
 * @throws RoomError `forbidden` where the room does not let the user in
 */
export async function joinLocally(
  context: SendContext,
  roomId: RoomId,
  userId: UserId,
  profile: JsonObject,
): Promise<EventId | undefined> {
  const { store } = context;
  const room = await readStanding(store, roomId);
  if (room === undefined || room.partial || room.currentState === null || !room.isAnybodyIn) return undefined;
  const rules = rulesOfJoined(room.roomVersion);
  const entries = await readSnapshot(store, roomId, room.currentState, { keys: AUTHORISING, userIds: [userId] });
  const membership = entries.find(({ type }) => type === 'm.room.member')?.membership;
  const loaded = await loadPdus(
    store,
    roomId,
    rules,
    entries.map(({ eventId }) => eventId),
  );
  const byPlace = new Map<string, Pdu>();
  for (const { type, stateKey, eventId } of entries) {
    const pdu = loaded.pdus.get(eventId);
    if (pdu !== undefined) byPlace.set(stateMapKey(type, stateKey), pdu);
  }
  const at = (type: string, stateKey: string): Pdu | undefined => byPlace.get(stateMapKey(type, stateKey));

  let content: JsonObject = { ...profile, membership: 'join' };
  const joinRules = at('m.room.join_rules', '')?.content ?? {};
  const rule = joinRules['join_rule'];
  const isRestricted =
    (rules.restrictedJoins && rule === 'restricted') || (rules.knockRestricted && rule === 'knock_restricted');
  if (isRestricted && membership !== 'invite' && membership !== 'join' && membership !== 'ban') {
    const create = at('m.room.create', '');
    if (create === undefined) return undefined;
    if (!(await isInAllowedRoom(store, userId, ownValue(joinRules, 'allow')))) {
      throw new RoomError('forbidden', `${userId} is in none of the rooms whose members may join`);
    }
    const levels = powerLevelsOf(create, at, rules);
    const members = await readLocalMembers(store, roomId);
    const authoriser = members.find(
      (member) => member.membership === 'join' && atLeast(levels.ofUser(member.userId), levels.toDo('invite')),
    );
    // Nobody of us may let him in: a resident may have somebody who can.
    if (authoriser === undefined) return undefined;
    content = { ...content, join_authorised_via_users_server: authoriser.userId };
  }
  return sendEvent(context, roomId, { sender: userId, type: 'm.room.member', stateKey: userId, content });
}

/**
 * Whether a user of ours is in one of the rooms that a join rule names; where he is, we are.
 * Source: https://spec.matrix.org/v1.16/server-server-api/#restricted-rooms
 */
async function isInAllowedRoom(store: Store, userId: UserId, allow: Json | undefined): Promise<boolean> {
  const named = (Array.isArray(allow) ? (allow as readonly Json[]) : [])
    .slice(0, ALLOWED_ROOMS_MAX)
    .flatMap((entry) => {
      if (!isJsonObject(entry) || entry['type'] !== 'm.room_membership') return [];
      return parseRoomId(entry['room_id']) ?? [];
    });
  return isInAny(store, userId, named);
}
