/**
 * Whose devices a client is to look at anew: of those whose keys are others and who share a room with its user, and of those who share one
 * with him since. And whom he shares none with any more: so he ends who was wrongly believed to be in a partial room, whatever becomes of
 * the room, for it is the states that the client was told of which are compared.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#tracking-the-device-list-for-a-user
 */
import { type RoomId, type UserId } from '../matrix/identifiers.ts';
import { stateMapKey } from '../matrix/state-map.ts';
import { type SnapshotId } from '../resync/events.ts';
import { readJoinedAmong } from '../store/journal/seen-by-clients.ts';
import { type Sql } from '../store/open-store.ts';
import { type StatePair, type StateRead, diffStates, readStates } from '../store/snapshots/many-snapshots.ts';
import { type TrieKey } from '../store/snapshots/snapshot-trie.ts';
import { readPlaces, readStateKeys } from '../store/snapshots/state-keys.ts';
import { readChangedUsers } from '../store/tables/device-changes.ts';
import { type DeviceLists } from './contract.ts';

const MEMBER = 'm.room.member';
const ENCRYPTION = { type: 'm.room.encryption', stateKey: '' };
/** Changes of anybody that are looked through. Who sleeps through more is told all whose devices matter to him, changed or not. */
const CHANGES_MAX = 20_000;
/** In a room that is not encrypted nobody needs the devices of so many at once; when it is encrypted, all its members are told. */
const PLAIN_DIFFERENCES_MAX = 1_000;

/** A room as a client knew it, and as it is told of it. */
export interface RoomBetween {
  readonly roomId: RoomId;
  /** `null`: its user was not in the room. */
  readonly before: SnapshotId | null;
  /** `null`: he is not in it any more. */
  readonly after: SnapshotId | null;
}

/** What has changed for a user between two positions. The statements do not grow with rooms or users. */
export async function readDeviceLists(
  sql: Sql,
  userId: UserId,
  rooms: readonly RoomBetween[],
  span: { readonly since: number; readonly upTo: number },
): Promise<DeviceLists> {
  const changes = await readChangedUsers(sql, span, CHANGES_MAX + 1);
  if (changes.length > CHANGES_MAX) return allOf(sql, userId, rooms);
  const changed = [...new Set(changes)];
  const moved = await readMoved(sql, rooms);
  const asked = [...new Set([...changed, ...moved.gone])];
  const sharing = await readSharing(sql, rooms, asked);
  const isOwn = changed.includes(userId);
  const told = new Set([...moved.came, ...changed.filter((user) => sharing.has(user)), ...(isOwn ? [userId] : [])]);
  if (!isOwn) told.delete(userId);
  const left = [...moved.gone].filter((user) => !sharing.has(user) && user !== userId);
  return { changed: [...told], left };
}

/** All who are in his rooms, as if he came into them now, and who left them meanwhile. */
async function allOf(sql: Sql, userId: UserId, rooms: readonly RoomBetween[]): Promise<DeviceLists> {
  const anew = rooms.filter(({ after }) => after !== null).map((room) => ({ ...room, before: null }));
  const { came, gone } = await readMoved(sql, [...rooms, ...anew]);
  const sharing = await readSharing(sql, rooms, [...gone]);
  const left = [...gone].filter((user) => !sharing.has(user) && user !== userId);
  return { changed: [...new Set([...came, userId])], left };
}

interface Moved {
  readonly came: ReadonlySet<UserId>;
  readonly gone: ReadonlySet<UserId>;
}

/** Who came into the rooms, and who left any of them, as far as the client is to know it. */
async function readMoved(sql: Sql, rooms: readonly RoomBetween[]): Promise<Moved> {
  const [came, gone] = [new Set<UserId>(), new Set<UserId>()];
  const differing = rooms.filter(({ before, after }) => before !== after);
  if (differing.length === 0) return { came, gone };
  const isEncrypted = await readEncrypted(sql, differing);
  const pairs = differing.flatMap(({ roomId, before, after }): (StatePair & { readonly isLeft: boolean })[] => {
    // Who is out of a room has lost sight of all who were in it; and whose devices matter since then is told anew.
    if (after === null) {
      return before === null ? [] : [{ roomId, before: null, after: before, members: true, isLeft: true }];
    }
    const isNewlyEncrypted = before !== null && isEncrypted(roomId, after) && !isEncrypted(roomId, before);
    const moved = { roomId, before, after, members: true, isLeft: false };
    // Then all who are in it are told, and who left it meanwhile as ever.
    return isNewlyEncrypted ? [moved, { ...moved, before: null }] : [moved];
  });
  const differences = await diffStates(sql, pairs);
  const places: {
    readonly key: TrieKey;
    readonly before: number | null;
    readonly after: number | null;
    readonly isLeft: boolean;
  }[] = [];
  pairs.forEach(({ roomId, after, isLeft }, i) => {
    const members = [...(differences[i]?.values() ?? [])].filter(({ key }) => key % 2 === 1);
    if (members.length > PLAIN_DIFFERENCES_MAX && !isEncrypted(roomId, after)) return;
    for (const member of members) places.push({ ...member, isLeft });
  });
  const joined = await readJoinedAmong(
    sql,
    places.flatMap(({ before, after }) => [before, after].filter((nid) => nid !== null)),
  );
  const named = await readPlaces(
    sql,
    places.map(({ key }) => key),
  );
  for (const { key, before, after, isLeft } of places) {
    const user = named.get(key)?.stateKey as UserId | undefined;
    if (user === undefined) continue;
    const [was, is] = [before !== null && joined.has(before), after !== null && joined.has(after)];
    if (isLeft ? is : was && !is) gone.add(user);
    else if (!isLeft && is && !was) came.add(user);
  }
  return { came, gone };
}

async function readEncrypted(
  sql: Sql,
  rooms: readonly RoomBetween[],
): Promise<(roomId: RoomId, state: SnapshotId) => boolean> {
  const key = (await readStateKeys(sql, [ENCRYPTION])).get(stateMapKey(ENCRYPTION.type, ENCRYPTION.stateKey));
  if (key === undefined) return () => false;
  const reads = rooms.flatMap(({ roomId, before, after }): StateRead[] =>
    [before, after].flatMap((state) =>
      state === null ? [] : [{ roomId, state, selection: { keys: new Set([key]) } }],
    ),
  );
  const found = await readStates(sql, reads);
  const encrypted = new Set(
    reads.flatMap(({ roomId, state }, i) => ((found[i]?.size ?? 0) > 0 ? [roomId + state] : [])),
  );
  return (roomId, state) => encrypted.has(roomId + state);
}

/** Who of the users is joined to any of the rooms that its user is in. */
async function readSharing(
  sql: Sql,
  rooms: readonly RoomBetween[],
  userIds: readonly UserId[],
): Promise<ReadonlySet<UserId>> {
  if (userIds.length === 0) return new Set();
  const keys = await readStateKeys(
    sql,
    userIds.map((stateKey) => ({ type: MEMBER, stateKey })),
  );
  const selection = { keys: new Set(keys.values()) };
  const reads = rooms.flatMap(({ roomId, after }): StateRead[] =>
    after === null || keys.size === 0 ? [] : [{ roomId, state: after, selection }],
  );
  const states = await readStates(sql, reads);
  const joined = await readJoinedAmong(
    sql,
    states.flatMap((state) => [...state.values()]),
  );
  return new Set(
    userIds.filter((userId) => {
      const key = keys.get(stateMapKey(MEMBER, userId));
      return key !== undefined && states.some((state) => joined.has(state.get(key) ?? -1));
    }),
  );
}
