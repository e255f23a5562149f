/**
 * Tells rooms what their users call themselves, in the background: one room after the other, one pass at a time for each user. Who changes
 * his name meanwhile is told of by the newest, and once more where the pass has been already; who has left a room meanwhile stays out of it.
 */
import { type UserId } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { readJoinedRooms } from '../../store/journal/rooms.ts';
import { requireJoined } from './change-membership.ts';
import { type SendContext, sendEvent } from './send-event.ts';

/** Nobody is told of yet. */
export function createProfileTeller(context: SendContext): (userId: UserId, profile: JsonObject) => void {
  const { store, logger } = context;
  /** Of those whose rooms are being told. */
  const newest = new Map<UserId, JsonObject>();
  const profileOf = (userId: UserId): JsonObject => newest.get(userId) ?? {};

  /** Each room on its own: where he may not say anything now, he is called there what he was. */
  const tellRooms = async (userId: UserId): Promise<void> => {
    for (const roomId of await readJoinedRooms(store, userId)) {
      const content = { ...profileOf(userId), membership: 'join' };
      await sendEvent(
        context,
        roomId,
        { sender: userId, type: 'm.room.member', stateKey: userId, content },
        { isSaid: (tx) => requireJoined(tx, roomId, userId) },
      ).catch((error: unknown) => logger.warn({ err: error, roomId, userId }, 'a room was not told of a new profile'));
    }
  };
  const tell = async (userId: UserId): Promise<void> => {
    try {
      let told: JsonObject;
      do {
        told = profileOf(userId);
        await tellRooms(userId);
      } while (profileOf(userId) !== told);
    } catch (error) {
      logger.warn({ err: error, userId }, 'rooms were not told of a new profile');
    } finally {
      newest.delete(userId);
    }
  };
  return (userId, profile) => {
    const isUnderWay = newest.has(userId);
    newest.set(userId, profile);
    if (!isUnderWay) void tell(userId);
  };
}
