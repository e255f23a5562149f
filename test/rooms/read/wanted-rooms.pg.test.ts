import { expect, test } from 'vitest';
import { systemClock } from '../../../src/clock.ts';
import { fullStateWaits } from '../../../src/rooms/read/full-state.ts';
import { waitersOf } from '../../../src/rooms/read/wanted-rooms.ts';
import { whileStaying } from '../../../src/rooms/resync/while-staying.ts';
import { readResync } from '../../../src/store/journal/rooms.ts';
import { createNotifier } from '../../../src/store/notify.ts';
import { eventually } from '../../support/processes.ts';
import { openTestStore } from '../../support/postgres.ts';
import { PartialRoom } from '../resync/partial-room.ts';

const { store } = await openTestStore();

test('whoever waits for a room makes its state wanted, in every process that fetches it', async () => {
  const room = new PartialRoom(store);
  const other = new PartialRoom(store);
  await room.join();
  await other.join();
  const notifier = createNotifier(store);
  const gone = new AbortController();
  const wait = fullStateWaits({ store, notifier, clock: systemClock }).room(room.roomId, {
    signal: gone.signal,
    waitMs: 60_000,
  });
  wait.catch(() => undefined);
  await eventually('it is said', async () => (await readResync(store, room.roomId))?.wantedAt ?? undefined);
  const now = systemClock.now();
  const waitersOfIt = async (at: number): Promise<number> => waitersOf(await readResync(store, room.roomId), at);
  expect([await waitersOfIt(now), await waitersOfIt(now + 3_600_000)]).toEqual([1, 0]);
  const isWanted = ({ roomId }: PartialRoom): Promise<boolean> =>
    whileStaying(room.context, { roomId, epoch: 1, until: 'last-round-ends' }, (_over, isUrgent) =>
      Promise.resolve(isUrgent()),
    );
  expect([await isWanted(room), await isWanted(other)]).toEqual([true, false]);
  gone.abort();
  await expect(wait).rejects.toThrow();
  await notifier.close();
});
