/**
 * Of whose devices we are told every change: users of other servers who share a room with somebody here for certain. In a partial room these
 * are those who were seen joining; whoever was there before, as far as anything says so, is not until the room is whole.
 */
import { type UserId } from '../matrix/identifiers.ts';
import { type Sql } from '../store/open-store.ts';
import { readStates } from '../store/snapshots/many-snapshots.ts';
import {
  type CachedDevices,
  type Tracked,
  readCachedDevices,
  readSeenJoining,
} from '../store/tables/cached-devices.ts';
import { readMemberKeys, readRoomsBeside } from '../store/tables/sharing.ts';

/** By user, a membership by which he shares a room with `viewer`; of others nothing is known here. The statements do not grow. */
export async function readTracked(
  sql: Sql,
  viewer: UserId,
  userIds: readonly UserId[],
): Promise<ReadonlyMap<UserId, Tracked>> {
  const { rooms, joined } = await readRoomsBeside(sql, viewer, userIds);
  const inPartial = rooms.flatMap(({ partial, memberships }) => (partial ? [...memberships.values()] : []));
  const seen = await readSeenJoining(sql, inPartial);
  const tracked = new Map<UserId, Tracked>();
  for (const userId of userIds) {
    for (const { roomId, epoch, partial, memberships } of rooms) {
      const memberNid = memberships.get(userId);
      if (memberNid === undefined || !joined.has(memberNid) || (partial && !seen.has(memberNid))) continue;
      tracked.set(userId, { userId, roomId, epoch, memberNid });
      break;
    }
  }
  return tracked;
}

/** What is kept of the users, as far as it still holds. */
export async function readHolding(sql: Sql, userIds: readonly UserId[]): Promise<ReadonlyMap<UserId, CachedDevices>> {
  const cached = userIds.length === 0 ? [] : await readCachedDevices(sql, userIds);
  if (cached.length === 0) return new Map();
  const keys = await readMemberKeys(
    sql,
    cached.map(({ userId }) => userId),
  );
  const states = await readStates(
    sql,
    cached.map(({ roomId, state, userId }) => ({
      ...{ roomId, state },
      selection: { keys: new Set([keys.get(userId) ?? -1]) },
    })),
  );
  return new Map(
    cached.flatMap((row, i) =>
      [...(states[i]?.values() ?? [])].includes(row.memberNid) ? [[row.userId, row] as const] : [],
    ),
  );
}
