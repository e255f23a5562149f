/**
 * Puts another room, of another version, in the place of one: it is made with what of the old one's state goes with it, our aliases and our
 * list mean it from then on, and the old room says where it has gone, and is quiet (finish-upgrades.ts). What is known of a partial room is carried.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#room-upgrades
 */
import { atLeast } from '../../matrix/auth/power-levels.ts';
import { CARRIED_TYPES, carriedJoinRules, carriedLevels, successorContent } from '../../matrix/client/upgraded-room.ts';
import { type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { roomVersionRules } from '../../matrix/room-versions.ts';
import { openStateBodies } from '../../store/events/pdu-bodies.ts';
import { type RoomStanding, readLocalMember, readStanding } from '../../store/journal/rooms.ts';
import { insertRoomUpgrade } from '../../store/tables/room-upgrades.ts';
import { type ClientRoomWish, type ClientUpgrade } from '../client-contract.ts';
import { RoomError } from '../error.ts';
import { type RoomContents, readRoomContents } from '../read/room-contents.ts';
import { readRoomPowers } from '../read/room-powers.ts';
import { createRoom } from './create-room.ts';
import { UPGRADE_LEASE_MS, finishUpgrade, successorNamedIn } from './finish-upgrades.ts';
import { type SendContext, notThere } from './send-event.ts';

const TOMBSTONE = 'm.room.tombstone';
const POWER = 'm.room.power_levels';
const ALIAS = 'm.room.canonical_alias';
/** Rooms of a space, and bans, that go with it: a room begins with 200 events at the most. */
const CHILDREN_MAX = 100;
const BANS_MAX = 80;
const PAGE_ROWS = 500;

/** @throws RoomError `forbidden` for who may not say it, `unsupported-version`, and as making rooms does */
export async function upgradeRoom(context: SendContext, wish: ClientUpgrade): Promise<RoomId> {
  const { store } = context;
  const { roomId, userId } = wish;
  if (roomVersionRules(wish.roomVersion) === undefined) {
    throw new RoomError('unsupported-version', `there is no room version ${wish.roomVersion}`);
  }
  const room = await readStanding(store, roomId);
  if (room === undefined || (await readLocalMember(store, roomId, userId)) !== 'join') throw notThere(roomId);
  const old = await requirePower(context, room, userId);
  const successor = await makeSuccessor(context, room, old, wish);
  return finishUpgrade(context, { roomId, successor, userId }, successorNamedIn(old));
}

async function requirePower({ store }: SendContext, room: RoomStanding, userId: UserId): Promise<RoomContents> {
  const { roomId, currentState, roomVersion } = room;
  const levels = currentState === null ? undefined : await readRoomPowers(store, roomId, currentState, roomVersion);
  if (currentState === null || levels === undefined) throw notThere(roomId);
  if (!atLeast(levels.ofUser(userId), levels.toSend(TOMBSTONE, true))) {
    throw new RoomError('forbidden', `${userId} may not put another room in the place of ${roomId}`);
  }
  const places = ['m.room.create', POWER, ALIAS, TOMBSTONE, ...CARRIED_TYPES].map((type) => ({ type, stateKey: '' }));
  return readRoomContents(store, roomId, currentState, { places, types: ['m.space.child'] });
}

async function makeSuccessor(
  context: SendContext,
  room: RoomStanding,
  old: RoomContents,
  { roomId, userId, profile, roomVersion, additionalCreators }: ClientUpgrade,
): Promise<RoomId> {
  const rules = roomVersionRules(roomVersion);
  if (rules === undefined) throw new RoomError('unsupported-version', `there is no room version ${roomVersion}`);
  const create = old.contentOf('m.room.create');
  const levels = old.has(POWER)
    ? carriedLevels(old.contentOf(POWER), [userId, ...additionalCreators], rules)
    : { first: {}, last: null };
  const carried = CARRIED_TYPES.flatMap((type) => {
    if (!old.has(type)) return [];
    const content = old.contentOf(type);
    return [{ type, stateKey: '', content: type === 'm.room.join_rules' ? carriedJoinRules(content, rules) : content }];
  });
  const isSpace = create['type'] === 'm.space';
  const children = isSpace ? old.ofType('m.space.child').slice(0, CHILDREN_MAX) : [];
  const from = { roomId, lastEventId: room.extremities[0] };
  const wish: ClientRoomWish = {
    creator: userId,
    profile,
    preset: 'private_chat',
    roomVersion,
    creationContent: successorContent(create, rules, from, additionalCreators),
    powerLevelOverride: levels.first,
    initialState: [
      ...carried,
      ...children.map(({ stateKey, content }) => ({ type: 'm.space.child', stateKey, content })),
      ...(old.has(ALIAS) ? [{ type: ALIAS, stateKey: '', content: old.contentOf(ALIAS) }] : []),
    ],
    lastState: levels.last === null ? [] : [{ type: POWER, stateKey: '', content: levels.last }],
    bans: await readBans(context, room),
    ...{ name: undefined, topic: undefined, alias: undefined, invite: [], isDirect: false },
    isListed: false,
  };
  return createRoom(context, wish, (tx, successor) =>
    insertRoomUpgrade(tx, { roomId, successor, userId }, UPGRADE_LEASE_MS),
  );
}

/** As far as they are known. */
async function readBans({ store }: SendContext, { roomId, currentState }: RoomStanding): Promise<UserId[]> {
  if (currentState === null) return [];
  const { pages } = await openStateBodies(store, roomId, currentState, { membership: 'ban' }, PAGE_ROWS);
  const bans: UserId[] = [];
  for await (const page of pages) {
    for (const { json } of page) bans.push((JSON.parse(json) as { readonly state_key: UserId }).state_key);
    if (bans.length >= BANS_MAX) break;
  }
  return bans.slice(0, BANS_MAX);
}
