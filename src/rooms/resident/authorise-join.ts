/**
 * Whether we may vouch for a join of a restricted room: the user is in one of the rooms that the join rule names, and somebody of ours
 * may invite.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#restricted-rooms
 */
import { atLeast, powerLevelsOf } from '../../matrix/auth/power-levels.ts';
import { allowedRoomsOf, isRestricted } from '../../matrix/auth/restricted-joins.ts';
import { type RoomId, type UserId, domainOf } from '../../matrix/identifiers.ts';
import { type Pdu, type StateKey } from '../../matrix/pdu.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { stateMapKey } from '../../matrix/state-map.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { isInAny, readLocalMembers, readWholeStates } from '../../store/journal/rooms.ts';
import { readNumbered } from '../../store/journal/seen-by-clients.ts';
import { type Sql } from '../../store/open-store.ts';
import { readStates } from '../../store/snapshots/many-snapshots.ts';
import { readSnapshot } from '../../store/snapshots/snapshots.ts';
import { readStateKeys } from '../../store/snapshots/state-keys.ts';
import { loadPdus } from '../judge/load-pdus.ts';

const AUTHORISING: readonly StateKey[] = ['m.room.create', 'm.room.power_levels', 'm.room.join_rules'].map((type) => ({
  type,
  stateKey: '',
}));

/**
 * - `unasked`: the room's rule asks for nobody who vouches, or has let the user in or kept him out already;
 * - `vouched`: by this user of ours;
 * - `outside`: he is in none of the rooms named;
 * - `unknown`: he is in none of those whose members we know, and there are others;
 * - `powerless`: he may come in, and nobody of us may invite.
 */
export type JoinAuthorisation =
  | { readonly outcome: 'vouched'; readonly by: UserId }
  | { readonly outcome: 'unasked' | 'outside' | 'unknown' | 'powerless' };

/** Of a room that is whole here. */
export async function authoriseJoin(
  sql: Sql,
  roomId: RoomId,
  currentState: SnapshotId,
  rules: RoomVersionRules,
  userId: UserId,
): Promise<JoinAuthorisation> {
  const entries = await readSnapshot(sql, roomId, currentState, { keys: AUTHORISING, userIds: [userId] });
  const membership = entries.find(({ type }) => type === 'm.room.member')?.membership;
  const ids = entries.map(({ eventId }) => eventId);
  const { pdus } = await loadPdus(sql, roomId, rules, ids);
  const byPlace = new Map<string, Pdu>();
  for (const { type, stateKey, eventId } of entries) {
    const pdu = pdus.get(eventId);
    if (pdu !== undefined) byPlace.set(stateMapKey(type, stateKey), pdu);
  }
  const at = (type: string, stateKey: string): Pdu | undefined => byPlace.get(stateMapKey(type, stateKey));
  const joinRules = at('m.room.join_rules', '')?.content ?? {};
  const create = at('m.room.create', '');
  const isSettled = membership === 'invite' || membership === 'join' || membership === 'ban';
  if (create === undefined || isSettled || !isRestricted(joinRules, rules)) return { outcome: 'unasked' };
  const isAllowed = await isInAllowedRoom(sql, userId, allowedRoomsOf(joinRules));
  if (isAllowed !== true) return { outcome: isAllowed === undefined ? 'unknown' : 'outside' };
  const levels = powerLevelsOf(create, at, rules);
  const members = await readLocalMembers(sql, roomId);
  const authoriser = members.find(
    (member) => member.membership === 'join' && atLeast(levels.ofUser(member.userId), levels.toDo('invite')),
  );
  return authoriser === undefined ? { outcome: 'powerless' } : { outcome: 'vouched', by: authoriser.userId };
}

/** `undefined`: in none of those that we know, and there are others. Where a user of ours is, we are. */
async function isInAllowedRoom(sql: Sql, userId: UserId, named: readonly RoomId[]): Promise<boolean | undefined> {
  if (domainOf(userId) === sql.serverName) return isInAny(sql, userId, named);
  const place = { type: 'm.room.member', stateKey: userId };
  const key = (await readStateKeys(sql, [place])).get(stateMapKey(place.type, place.stateKey));
  const known = await readWholeStates(sql, named);
  const selection = { keys: new Set(key === undefined ? [] : [key]) };
  const places = await readStates(
    sql,
    known.map(({ roomId, state }) => ({ roomId, state, selection })),
  );
  const members = await readNumbered(
    sql,
    places.flatMap((ofRoom) => [...ofRoom.values()]),
  );
  if ([...members.values()].some(({ membership }) => membership === 'join')) return true;
  return known.length === named.length ? false : undefined;
}
