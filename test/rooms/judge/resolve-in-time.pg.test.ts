import { expect, test, vi } from 'vitest';
import { roomVersionRules } from '../../../src/matrix/room-versions.ts';
import { type SnapshotId } from '../../../src/resync/events.ts';
import { ResolutionTakesLong, resolveWithin } from '../../../src/rooms/judge/resolve-in-time.ts';
import { resolveSnapshots } from '../../../src/rooms/judge/resolve.ts';
import { createCaches } from '../../../src/store/caches.ts';
import { makeRandomRoom } from '../../differential/random-room.ts';
import { createRandom } from '../../differential/random.ts';
import { openTestStore } from '../../support/postgres.ts';
import { storeRoom, storeState } from './stored-room.ts';

const { store } = await openTestStore();

test('what takes longer than a turn goes on beside it, one at a time, and is at hand when it is asked for again', async () => {
  const room = makeRandomRoom(roomVersionRules('11')!, createRandom(7), 40);
  await storeRoom(store, room, { withDepths: true });
  const snapshots: SnapshotId[] = [];
  for (const state of room.stateAfter.values()) snapshots.push(await storeState(store, room, state));
  const [one, other, third] = [...new Set(snapshots)].slice(-3) as [SnapshotId, SnapshotId, SnapshotId];
  const { roomId, rules } = room;
  const expected = await resolveSnapshots(store, roomId, rules, [one, other]);

  let release: () => void = () => undefined;
  const released = new Promise<void>((resolve) => (release = resolve));
  const slow: typeof store = {
    ...store,
    caches: createCaches(),
    query: async (text, values) => {
      await released;
      return store.query(text, values);
    },
  };
  const resolve = resolveWithin(1);
  const both = (states: readonly SnapshotId[]) => resolve(slow, roomId, rules, states);
  await expect(both([one, other])).rejects.toThrow('its states take long to resolve');
  await expect(both([other, one])).rejects.toThrow('its states are still being resolved');
  await expect(both([one, third])).rejects.toThrow('the states of another event are being resolved');
  await expect(both([one, third])).rejects.toThrow(ResolutionTakesLong);
  release();
  await vi.waitFor(() => expect(slow.caches.longResolution.name).toBeNull());
  expect(slow.caches.resolutions.get(roomId, [one, third].sort())).toBeUndefined();
  expect(await both([one, other])).toBe(expected);
});
