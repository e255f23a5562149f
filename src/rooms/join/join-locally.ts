/**
 * A further user of ours joins a room that is whole here: we know as well as any resident whether it lets him in. In a partial
 * room a ban of him may be unknown to us, so there a resident is asked.
 */
import { type EventId, type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { readStanding } from '../../store/journal/rooms.ts';
import { RoomError } from '../error.ts';
import { rulesOfJoined } from '../judge/load-pdus.ts';
import { authoriseJoin } from '../resident/authorise-join.ts';
import { type SendContext, sendEvent } from '../send/send-event.ts';

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
  const authorised = await authoriseJoin(store, roomId, room.currentState, rulesOfJoined(room.roomVersion), userId);
  if (authorised.outcome === 'outside' || authorised.outcome === 'unknown') {
    throw new RoomError('forbidden', `${userId} is in none of the rooms whose members may join`);
  }
  // Nobody of us may let him in: a resident may have somebody who can.
  if (authorised.outcome === 'powerless') return undefined;
  const content: JsonObject = {
    ...profile,
    membership: 'join',
    ...(authorised.outcome === 'vouched' ? { join_authorised_via_users_server: authorised.by } : {}),
  };
  return sendEvent(context, roomId, { sender: userId, type: 'm.room.member', stateKey: userId, content });
}
