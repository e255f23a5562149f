/**
 * Rooms of ours as they are told to who looks in from outside: to users and servers that may join, or may read them. Nothing here waits: of
 * a partial room that is told which is known.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv1roomsroomidhierarchy
 */
import { allowedRoomsOf, isRestricted } from '../../matrix/auth/restricted-joins.ts';
import { type RoomId, type ServerName, type UserId, parseRoomId, parseServerName } from '../../matrix/identifiers.ts';
import { type Json, type JsonObject } from '../../matrix/pdu.ts';
import { readMemberCount } from '../../store/journal/room-lists.ts';
import { type RoomStanding, isInAny, readLocalMember, readStanding } from '../../store/journal/rooms.ts';
import { type Store } from '../../store/open-store.ts';
import { type JoinedServers } from '../../store/snapshots/joined-servers.ts';
import { readOutside } from '../../store/tables/outside-memberships.ts';
import { rulesOfJoined } from '../judge/load-pdus.ts';
import { type RoomContents, readRoomContents } from '../read/room-contents.ts';
import { isInRoom } from '../resident/may-see.ts';
import { readRoomEntries } from './room-entries.ts';

const CHILD = 'm.space.child';
const PLACES = ['m.room.create', 'm.room.encryption', 'm.room.join_rules', 'm.room.history_visibility'].map((type) => {
  return { type, stateKey: '' };
});
/** Of a space. */
export const CHILDREN_MAX = 1_000;
/** Servers that are asked about a child. */
const VIA_MAX = 5;

/** Who looks. */
export type Onlooker = { readonly userId: UserId } | { readonly server: ServerName };

/** A room that a space names. */
export interface SpaceChild {
  readonly roomId: RoomId;
  readonly via: readonly ServerName[];
}

export interface RoomSummary {
  readonly roomId: RoomId;
  /** In the form of the specification, without `children_state`. */
  readonly entry: JsonObject;
  /** As `children_state` has them, in their order. */
  readonly childEvents: readonly JsonObject[];
  readonly children: readonly SpaceChild[];
}

/** `hidden`: the room is ours, and nothing for who looks. `absent`: nobody of us is in it. */
export async function summaryFor(
  store: Store,
  joined: JoinedServers,
  roomId: RoomId,
  onlooker: Onlooker,
): Promise<RoomSummary | 'hidden' | 'absent'> {
  const room = await readStanding(store, roomId);
  if (room === undefined || room.currentState === null || !room.isAnybodyIn) return 'absent';
  const state = room.currentState;
  const named = await readRoomContents(store, roomId, state, { places: PLACES });
  if (!(await mayLook(store, joined, room, named, onlooker))) return 'hidden';
  const isSpace = named.contentOf('m.room.create')['type'] === 'm.space';
  const types = [CHILD];
  const childEvents = isSpace
    ? (await readRoomContents(store, roomId, state, { places: [], types })).ofType(CHILD).map(({ json }) => json)
    : [];
  const [entry = {}] = await readRoomEntries(store, [{ roomId, state, members: await readMemberCount(store, roomId) }]);
  const { algorithm } = named.contentOf('m.room.encryption');
  const rules = rulesOfJoined(room.roomVersion);
  const joinRules = named.contentOf('m.room.join_rules');
  return {
    roomId,
    entry: {
      ...entry,
      room_version: room.roomVersion,
      ...(typeof algorithm === 'string' ? { encryption: algorithm } : {}),
      ...(isRestricted(joinRules, rules) ? { allowed_room_ids: [...allowedRoomsOf(joinRules)] } : {}),
    },
    ...childrenOf(childEvents),
  };
}

/** Source: https://spec.matrix.org/v1.16/server-server-api/#get_matrixfederationv1hierarchyroomid */
async function mayLook(
  store: Store,
  joined: JoinedServers,
  room: RoomStanding,
  named: RoomContents,
  onlooker: Onlooker,
): Promise<boolean> {
  const joinRules = named.contentOf('m.room.join_rules');
  const rule = joinRules['join_rule'];
  if (rule === 'public' || rule === 'knock' || rule === 'knock_restricted') return true;
  if (named.contentOf('m.room.history_visibility')['history_visibility'] === 'world_readable') return true;
  const { roomId } = room;
  if ('userId' in onlooker) {
    const membership = await readLocalMember(store, roomId, onlooker.userId);
    if (membership === 'join' || membership === 'invite') return true;
  } else if (await isInRoom(store, joined, room, onlooker.server)) {
    return true;
  }
  if (!isRestricted(joinRules, rulesOfJoined(room.roomVersion))) return false;
  const allowed = allowedRoomsOf(joinRules);
  if ('userId' in onlooker) return isInAny(store, onlooker.userId, allowed);
  for (const other of allowed) {
    const standing = await readStanding(store, other);
    if (standing !== undefined && (await isInRoom(store, joined, standing, onlooker.server))) return true;
  }
  return false;
}

/** Of the rooms that another server says to let somebody in; as many are looked at. */
const ALLOWED_MAX = 100;

/**
 * Whether a user may see what another server said of a room. It is said to our server, which may be in it by others of ours, or be let in by
 * rooms that others of ours are in. Without a join rule a room is public.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv1roomsroomidhierarchy
 */
export async function mayLookAfar(store: Store, { roomId, entry }: RoomSummary, userId: UserId): Promise<boolean> {
  const { join_rule: rule = 'public', world_readable: isReadable, allowed_room_ids: ids } = entry;
  if (isReadable === true || rule === 'public' || rule === 'knock' || rule === 'knock_restricted') return true;
  const allowed = Array.isArray(ids) ? (ids as readonly RoomId[]).slice(0, ALLOWED_MAX) : [];
  if (allowed.length > 0 && (await isInAny(store, userId, allowed))) return true;
  return (await readOutside(store, roomId, userId))?.membership === 'invite';
}

/** Events of type `m.space.child` in their order, as they are told, and what they name. Source: https://spec.matrix.org/v1.16/client-server-api/#ordering-of-children-within-a-space */
export function childrenOf(events: readonly JsonObject[]): Pick<RoomSummary, 'childEvents' | 'children'> {
  const known = events.flatMap((event) => {
    const roomId = parseRoomId(event['state_key']);
    const content = event['content'] as JsonObject | undefined;
    const via = viaOf(content?.['via']);
    const isOne = event['type'] === CHILD && roomId !== undefined && !roomId.includes('\0') && via.length > 0;
    return isOne ? [{ roomId, via, event, order: orderOf(content?.['order']) }] : [];
  });
  const inOrder = known
    .toSorted(
      (a, b) =>
        Number(a.order === null) - Number(b.order === null) ||
        compare(a.order ?? '', b.order ?? '') ||
        Number(a.event['origin_server_ts'] ?? 0) - Number(b.event['origin_server_ts'] ?? 0) ||
        compare(a.roomId, b.roomId),
    )
    .slice(0, CHILDREN_MAX);
  return {
    childEvents: inOrder.map(({ event }) => ({
      type: CHILD,
      state_key: event['state_key'] ?? '',
      content: event['content'] ?? {},
      sender: event['sender'] ?? '',
      origin_server_ts: event['origin_server_ts'] ?? 0,
    })),
    children: inOrder.map(({ roomId, via }) => ({ roomId, via })),
  };
}

/** Without those that nobody suggests. */
export function suggestedOf({ childEvents }: Pick<RoomSummary, 'childEvents'>): JsonObject[] {
  return childEvents.filter((event) => (event['content'] as JsonObject)['suggested'] === true);
}

function viaOf(said: Json | undefined): ServerName[] {
  if (!Array.isArray(said)) return [];
  return said.slice(0, VIA_MAX).flatMap((name: Json) => parseServerName(name) ?? []);
}

function orderOf(said: Json | undefined): string | null {
  return typeof said === 'string' && /^[ -~]{1,50}$/.test(said) ? said : null;
}

function compare(one: string, other: string): number {
  return one < other ? -1 : Number(one > other);
}
