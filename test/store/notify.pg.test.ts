import { afterEach, beforeEach, expect, test } from 'vitest';
import { type RoomId } from '../../src/matrix/identifiers.ts';
import { append } from '../../src/store/journal/journal.ts';
import { type Notification, type Notifier, createNotifier } from '../../src/store/notify.ts';
import { withTransaction } from '../../src/store/open-store.ts';
import { createRoom, lockRoom, readResync } from '../../src/store/journal/rooms.ts';
import { openTestStore } from '../support/postgres.ts';

const { store } = await openTestStore();
let notifier: Notifier;
beforeEach(() => {
  notifier = createNotifier(store);
});
afterEach(() => notifier.close());

/** So long that a test which needed it would time out. */
const NEVER_MS = 600_000;
const never = { signal: new AbortController().signal, timeoutMs: NEVER_MS, pollMs: NEVER_MS };
let rooms = 0;

async function openRoom(): Promise<RoomId> {
  rooms += 1;
  const roomId = `!notify-${rooms}:there.test` as RoomId;
  await withTransaction(store, (tx) => createRoom(tx, roomId, '11'));
  return roomId;
}

async function appendTo(roomId: RoomId): Promise<void> {
  await withTransaction(store, async (tx) => {
    await append(tx, (await lockRoom(tx, roomId))!, [{ type: 'ResyncCompleted', members: 0, at: 0 }]);
  });
}

/** Looks for the n-th entry of a room. */
function entries(roomId: RoomId, n: number): () => Promise<number | undefined> {
  return async () => {
    const seq = (await readResync(store, roomId))?.seq ?? 0;
    return seq >= n ? seq : undefined;
  };
}

async function listening(): Promise<void> {
  await new Promise<void>((resolve) => {
    const end = notifier.subscribe((notification) => {
      if (notification !== null) return;
      end();
      resolve();
    });
  });
}

test('an append to a room with any characters in its id is heard of under that id', async () => {
  await listening();
  const heard: (string | undefined)[] = [];
  notifier.subscribe((notification) => heard.push(notification?.topic));
  for (const localpart of [' ', 'a b', 'a\nb', '\t1 2', '\'"\\']) {
    const roomId = `!${localpart}:there.test` as RoomId;
    await withTransaction(store, (tx) => createRoom(tx, roomId, '11'));
    const waited = notifier.waitFor(roomId, entries(roomId, 1), never);
    await appendTo(roomId);
    expect(await waited).toBe(1);
    expect(heard).toContain(roomId);
  }
});

test('what is there already is given at once', async () => {
  const roomId = await openRoom();
  await appendTo(roomId);
  expect(await notifier.waitFor(roomId, entries(roomId, 1), never)).toBe(1);
  expect(notifier.waiting).toBe(0);
});

test('an append wakes those who wait for its room, and nobody else', async () => {
  await listening();
  const [roomId, other] = [await openRoom(), await openRoom()];
  let looks = 0;
  const cut = new AbortController();
  const elsewhere = notifier.waitFor(
    other,
    () => {
      looks += 1;
      return Promise.resolve(undefined);
    },
    { ...never, signal: cut.signal },
  );
  const waits = [1, 2, 3].map(() => notifier.waitFor(roomId, entries(roomId, 1), never));
  expect(notifier.waiting).toBe(4);
  await appendTo(roomId);
  expect(await Promise.all(waits)).toEqual([1, 1, 1]);
  expect(notifier.waiting).toBe(1);
  expect(looks).toBe(1);
  cut.abort(new Error('the client went away'));
  await expect(elsewhere).rejects.toThrow('the client went away');
  expect(notifier.waiting).toBe(0);
});

test('waiters for the same thing look once for all of them, when they come and after each append', async () => {
  await listening();
  const roomId = await openRoom();
  let looks = 0;
  const look = async (): Promise<number | undefined> => {
    looks += 1;
    return entries(roomId, 2)();
  };
  const waits = Array.from({ length: 100 }, () =>
    notifier.waitFor(roomId, look, { ...never, signal: new AbortController().signal }),
  );
  expect(notifier.waiting).toBe(100);
  await expect.poll(() => looks).toBeGreaterThan(0);
  await appendTo(roomId);
  await expect.poll(() => looks).toBeGreaterThan(1);
  await appendTo(roomId);
  expect(new Set(await Promise.all(waits))).toEqual(new Set([2]));
  // One when the first came, one for those who came during it, one or two for each append.
  expect(looks).toBeLessThanOrEqual(6);
  expect(notifier.waiting).toBe(0);
});

test('who comes while a look is under way is answered by a later one', async () => {
  const roomId = await openRoom();
  const answers: ((answer: string) => void)[] = [];
  const look = (): Promise<string> => new Promise((resolve) => answers.push(resolve));
  const first = notifier.waitFor(roomId, look, never);
  await expect.poll(() => answers.length).toBe(1);
  const second = notifier.waitFor(roomId, look, never);
  answers[0]?.('before the second came');
  expect(await first).toBe('before the second came');
  await expect.poll(() => answers.length).toBe(2);
  answers[1]?.('after');
  expect(await second).toBe('after');
});

test('while the connection is up nobody polls, and when it is lost everybody does', async () => {
  await listening();
  const roomId = await openRoom();
  let looks = 0;
  const look = (): Promise<undefined> => {
    looks += 1;
    return Promise.resolve(undefined);
  };
  const cut = new AbortController();
  const wait = notifier.waitFor(roomId, look, { ...never, pollMs: 1, signal: cut.signal });
  for (let i = 0; i < 20; i += 1) await store.query('SELECT 1');
  expect(looks).toBe(1);
  await notifier.close();
  await expect.poll(() => looks).toBeGreaterThan(5);
  cut.abort(new Error('enough'));
  await expect(wait).rejects.toThrow('enough');
});

test('an append between the look and the sleep is not lost', async () => {
  await listening();
  const roomId = await openRoom();
  let appended = false;
  const look = async (): Promise<number | undefined> => {
    const found = await entries(roomId, 1)();
    if (!appended) {
      appended = true;
      const heard = new Promise<Notification | null>((resolve) => {
        const end = notifier.subscribe((notification) => {
          end();
          resolve(notification);
        });
      });
      await appendTo(roomId);
      expect(await heard).toMatchObject({ topic: roomId });
    }
    return found;
  };
  expect(await notifier.waitFor(roomId, look, never)).toBe(1);
});

test('an append that rolls back wakes nobody', async () => {
  await listening();
  const roomId = await openRoom();
  const heard: (Notification | null)[] = [];
  const end = notifier.subscribe((notification) => {
    heard.push(notification);
  });
  await withTransaction(store, async (tx) => {
    await append(tx, (await lockRoom(tx, roomId))!, [{ type: 'ResyncCompleted', members: 0, at: 0 }]);
    throw new Error('no');
  }).catch(() => undefined);
  await appendTo(roomId);
  await notifier.waitFor(roomId, () => Promise.resolve(heard.length > 0 ? true : undefined), never);
  end();
  expect(heard).toHaveLength(1);
});

test('a wait ends without a result after its time, and a failing look fails the wait', async () => {
  const roomId = await openRoom();
  const brief = { ...never, timeoutMs: 20 };
  const nothing: unknown = await notifier.waitFor<RoomId, number>(roomId, () => Promise.resolve(undefined), brief);
  expect(nothing).toBeUndefined();
  await expect(notifier.waitFor(roomId, () => Promise.reject(new Error('the look failed')), never)).rejects.toThrow(
    'the look failed',
  );
  await expect(
    notifier.waitFor(roomId, () => Promise.resolve(1), { ...never, signal: AbortSignal.abort(new Error('gone')) }),
  ).rejects.toThrow('gone');
  expect(notifier.waiting).toBe(0);
});

test('without notifications a wait polls', async () => {
  await notifier.close();
  const roomId = await openRoom();
  const wait = notifier.waitFor(roomId, entries(roomId, 1), { ...never, pollMs: 5 });
  await appendTo(roomId);
  expect(await wait).toBe(1);
});

test('after the listening connection is cut everybody looks, and hears again', async () => {
  await listening();
  const roomId = await openRoom();
  let looks = 0;
  let atReconnect: (() => void) | undefined;
  const reconnected = new Promise<void>((resolve) => (atReconnect = resolve));
  const wait = notifier.waitFor(
    roomId,
    () => {
      looks += 1;
      if (looks === 2) atReconnect?.();
      return entries(roomId, 1)();
    },
    never,
  );
  await store.query(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'`,
  );
  await reconnected;
  await appendTo(roomId);
  expect(await wait).toBe(1);
});

test('who waits for any room hears of appends to each', async () => {
  await listening();
  const [one, other] = [await openRoom(), await openRoom()];
  let looked = 0;
  let until = 1;
  const look = (): Promise<number | undefined> => Promise.resolve(++looked > until ? looked : undefined);
  for (const roomId of [one, other]) {
    const waited = notifier.waitFor(null, look, never);
    await appendTo(roomId);
    expect(await waited).toBe(until + 1);
    until = looked + 1;
  }
  expect(notifier.waiting).toBe(0);
});
