/**
 * That devices of other servers' users are others. What is kept of the devices (tracked-users.ts) has the update in it where that builds on
 * what we were told before, and holds no more otherwise: then whoever wants them next asks their server. So an update that is
 * lost, or comes in another order, costs nobody more than a question. It is noted of whoever has a membership in any event here, and a sync
 * looks who shares a room with its user; whoever is found to share one when a partial room is whole is told as one who came.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#device-management
 */
import { type ServerName, domainOf, parseUserId } from '../matrix/identifiers.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { stateMapKey } from '../matrix/state-map.ts';
import { readJoinedAmong } from '../store/journal/seen-by-clients.ts';
import { type Topic } from '../store/journal/positions.ts';
import { type Store } from '../store/open-store.ts';
import { type StateRead, readStates } from '../store/snapshots/many-snapshots.ts';
import { readStateKeys } from '../store/snapshots/state-keys.ts';
import { lockCachedDevices, updateCachedDevices } from '../store/tables/cached-devices.ts';
import { noteDeviceChanges } from '../store/tables/device-changes.ts';
import { readOurRooms } from '../store/tables/room-servers.ts';
import { withUpdates } from './apply-update.ts';

const MEMBER = 'm.room.member';
/** Rooms that are looked through for whom to wake; of further ones whoever waits looks for himself, a minute later at the most. */
const ROOMS_MAX = 1_000;

/** Takes what is of the origin's users; gives how many EDUs were not of the right form, or of somebody else. */
export async function receiveDeviceLists(
  store: Store,
  origin: ServerName,
  contents: readonly JsonObject[],
): Promise<number> {
  const named = contents.flatMap(({ user_id: user }) => {
    const userId = parseUserId(user);
    return userId !== undefined && !userId.includes('\0') && domainOf(userId) === origin ? [userId] : [];
  });
  const dropped = contents.length - named.length;
  const users = [...new Set(named)];
  if (users.length === 0) return dropped;
  const keys = await readStateKeys(
    store,
    users.map((stateKey) => ({ type: MEMBER, stateKey })),
  );
  const known = users.filter((userId) => keys.has(stateMapKey(MEMBER, userId)));
  if (known.length === 0) return dropped;
  const rooms = await readOurRooms(store, origin, ROOMS_MAX);
  const selection = { keys: new Set(keys.values()) };
  const reads = rooms.flatMap(({ roomId, currentState }): StateRead[] =>
    currentState === null ? [] : [{ roomId, state: currentState, selection }],
  );
  const states = await readStates(store, reads);
  const joined = await readJoinedAmong(
    store,
    states.flatMap((state) => [...state.values()]),
  );
  const topics = reads.flatMap(({ roomId }, i): Topic[] =>
    [...(states[i]?.values() ?? [])].some((nid) => joined.has(nid)) ? [roomId] : [],
  );
  const changes = known.map((userId) => ({ userId, deviceId: '' }));
  await store.inTransaction(async (tx) => {
    const updated = (await lockCachedDevices(tx, known)).flatMap((row) => {
      const kept = withUpdates(
        row,
        contents.filter(({ user_id: user }) => user === row.userId),
      );
      return kept === undefined ? [] : [{ userId: row.userId, ...kept }];
    });
    await updateCachedDevices(tx, updated);
    noteDeviceChanges(tx, changes, { topics, isOurs: false, applied: updated.map(({ userId }) => userId) });
  });
  return dropped;
}
