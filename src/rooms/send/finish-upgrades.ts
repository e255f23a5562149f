/**
 * What follows when a room was made that takes another's place: the old one names it, our aliases and our list mean it, and the old one is left
 * quiet. Each step may be done again and changes nothing then, so that another process goes on with what one leaves when it ends.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#server-behaviour-18
 */
import { quietLevels } from '../../matrix/client/upgraded-room.ts';
import { type RoomId, type UserId, parseRoomId } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type RoomUpgrade, deleteRoomUpgrade, leaseRoomUpgrades } from '../../store/tables/room-upgrades.ts';
import { readStanding } from '../../store/journal/rooms.ts';
import { type Repeating, startRepeating } from '../../repeating.ts';
import { RoomError } from '../error.ts';
import { type RoomContents, readRoomContents } from '../read/room-contents.ts';
import { sendState } from './change-membership.ts';
import { moveDirectory } from './move-directory.ts';
import { type SendContext } from './send-event.ts';

const TOMBSTONE = 'm.room.tombstone';
const POWER = 'm.room.power_levels';
const ALIAS = 'm.room.canonical_alias';

/** Far longer than it takes; so long what a killed process was at waits. */
export const UPGRADE_LEASE_MS = 180_000;
const POLL_MS = 15_000;
const AT_ONCE = 10;

/**
 * The row is leased to us, and goes with this. Gives the room that has taken the old one's place: another one where somebody was quicker.
 *
 * @param before the room that had taken its place when this began, which counts no more
 * @throws RoomError where the old room may not say where it has gone: nothing has changed then
 */
export async function finishUpgrade(context: SendContext, upgrade: RoomUpgrade, before?: RoomId): Promise<RoomId> {
  const { store } = context;
  // Our own trouble keeps it for another time.
  const successor = await takeSteps(context, upgrade, before).catch(async (error: unknown) => {
    if (error instanceof RoomError) await deleteRoomUpgrade(store, upgrade);
    throw error;
  });
  await deleteRoomUpgrade(store, upgrade);
  return successor;
}

async function takeSteps(
  context: SendContext,
  { roomId, successor, userId }: RoomUpgrade,
  before: RoomId | undefined,
): Promise<RoomId> {
  const say = (type: string, content: JsonObject): Promise<unknown> =>
    sendState(context, roomId, { sender: userId, type, stateKey: '', content });
  const old = await contentsOf(context, roomId);
  if (old === undefined) return successor;
  const named = successorNamedIn(old);
  // Somebody was quicker.
  if (named !== undefined && named !== successor && named !== before) return named;
  if (named !== successor) {
    await say(TOMBSTONE, { body: 'This room has been replaced', replacement_room: successor });
  }
  // Not before the old room names the new one: else a refused tombstone would leave it without its aliases.
  await moveDirectory(context, roomId, successor);
  const quiet = quietLevels(old.contentOf(POWER));
  const last = [
    ...(Object.keys(old.contentOf(ALIAS)).length > 0 ? [[ALIAS, {}] as const] : []),
    ...(quiet === undefined ? [] : [[POWER, quiet] as const]),
  ];
  for (const [type, content] of last) {
    await say(type, content).catch((error: unknown) => {
      if (!(error instanceof RoomError)) throw error;
      context.logger.info({ err: error, roomId, type }, 'an upgraded room could not be left as it should be');
    });
  }
  return successor;
}

/** The room that a room says to have taken its place. */
export function successorNamedIn(room: RoomContents): RoomId | undefined {
  return parseRoomId(room.contentOf(TOMBSTONE)['replacement_room']);
}

/** `undefined`: nobody of us is in it any more. */
async function contentsOf({ store }: SendContext, roomId: RoomId): Promise<RoomContents | undefined> {
  const room = await readStanding(store, roomId);
  if (room === undefined || room.currentState === null || !room.isAnybodyIn) return undefined;
  const places = [TOMBSTONE, POWER, ALIAS].map((type) => ({ type, stateKey: '' }));
  return readRoomContents(store, roomId, room.currentState, { places });
}

/** Gives a user what he keeps of one room for another. */
type FollowRoom = (userId: UserId, from: RoomId, to: RoomId) => Promise<void>;

/** Goes on with what nobody is at any more. */
export async function resumeUpgrades(
  context: SendContext,
  followRoom: FollowRoom,
  isClosing = () => false,
): Promise<void> {
  for (let isMore = true; isMore && !isClosing();) {
    const upgrades = await leaseRoomUpgrades(context.store, { limit: AT_ONCE, leaseMs: UPGRADE_LEASE_MS });
    for (const upgrade of upgrades) {
      const { userId, roomId, successor } = upgrade;
      try {
        await followRoom(userId, roomId, await finishUpgrade(context, upgrade));
      } catch (error) {
        context.logger.warn({ err: error, roomId, successor }, 'an upgrade of a room could not be finished');
      }
    }
    isMore = upgrades.length === AT_ONCE;
  }
}

/** Of one process; `close` ends after those that it is at. */
export function startFinishingUpgrades(context: SendContext, followRoom: FollowRoom): Repeating {
  return startRepeating((isClosing) => resumeUpgrades(context, followRoom, isClosing), {
    everyMs: POLL_MS,
    onFailed: (error) => context.logger.warn({ err: error }, 'upgrades of rooms could not be looked for'),
  });
}
