import { expect, test, vi } from 'vitest';
import { createProgressWriter } from '../../activities/fetch-progress.ts';
import { systemClock } from '../../src/clock.ts';
import { type RoomId } from '../../src/matrix/identifiers.ts';
import { readFetchProgress } from '../../src/store/tables/fetch-progress.ts';
import { silent } from '../federation/tls-server.ts';
import { openTestStore } from '../support/postgres.ts';

const { store } = await openTestStore();

const attempt = { roomId: '!room:there.test' as RoomId, epoch: 1, attemptNo: 3 };

test('numbers are written a few times a second however fast they come, the last ones too, and go with the attempt', async () => {
  const query = vi.spyOn(store, 'query');
  const writer = createProgressWriter({ store, clock: systemClock, logger: silent }, attempt);
  for (let held = 1; held <= 1000; held += 1) writer.report({ wanted: 1000, held, bytes: held * 800 });
  const last = { wanted: 1000, held: 1000, bytes: 800_000 };
  await expect.poll(() => readFetchProgress(store, attempt)).toMatchObject(last);
  expect(query.mock.calls.length).toBeLessThanOrEqual(2);
  query.mockRestore();

  await writer.close();
  expect(await readFetchProgress(store, attempt)).toBeUndefined();
});

test('a database that does not take the numbers does not keep the fetch from going on', async () => {
  const query = vi.spyOn(store, 'query').mockRejectedValueOnce(new Error('no connection'));
  const writer = createProgressWriter({ store, clock: systemClock, logger: silent }, attempt);
  writer.report({ wanted: 2, held: 1, bytes: 1 });
  await expect.poll(() => query.mock.calls.length).toBe(1);
  writer.report({ wanted: 2, held: 2, bytes: 2 });
  await expect.poll(() => readFetchProgress(store, attempt)).toMatchObject({ held: 2 });
  await writer.close();
  query.mockRestore();
});
