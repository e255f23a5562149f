/** Whose fetches have places, and when; each ends when the test says so. */
import { expect, test } from 'vitest';
import { type ServerName } from '../../../src/matrix/identifiers.ts';
import { NoPlaceError, type Waiting, createFetchPlaces } from '../../../src/rooms/resync/fetch-places.ts';

const never = new AbortController().signal;

function open() {
  const places = createFetchPlaces({ inAll: 8, ofServer: 4 });
  const begun: string[] = [];
  const ends: (() => void)[] = [];
  const fetch = (server: string, waiting: Waiting = { signal: never }): Promise<string> =>
    places.run(server as ServerName, waiting, async () => {
      begun.push(server);
      await new Promise<void>((resolve) => ends.push(resolve));
      return server;
    });
  return { begun, ends, fetch };
}

test('one server has half of the places, however many rooms it is asked for, and another has one at once', async () => {
  const { begun, ends, fetch } = open();
  const asked = Array.from({ length: 8 }, () => fetch('silent.test'));
  const other = fetch('other.test');
  expect(begun).toEqual([...Array<string>(4).fill('silent.test'), 'other.test']);
  ends[4]!();
  expect(await other).toBe('other.test');
  expect(begun).toHaveLength(5);
  ends[0]!();
  await asked[0];
  await expect.poll(() => begun.length).toBe(6);
});

test('rooms that somebody waits for go first, as soon as they are wanted, and others now and then', async () => {
  const places = createFetchPlaces({ inAll: 1, ofServer: 1 });
  const begun: string[] = [];
  const wanted = new Set<string>();
  const asked = ['first', 'a', 'b', 'c', 'd', 'e', 'f', 'g'].map((room) =>
    places.run(`${room}.test` as ServerName, { signal: never, isUrgent: () => wanted.has(room) }, () => {
      begun.push(room);
      return Promise.resolve();
    }),
  );
  for (const room of ['d', 'e', 'f', 'g']) wanted.add(room);
  await Promise.all(asked);
  expect(begun).toEqual(['first', 'd', 'e', 'f', 'a', 'g', 'b', 'c']);
});

test('who waits for a place in vain begins nothing, and takes none from who comes after', async () => {
  const { begun, ends, fetch } = open();
  for (let i = 0; i < 4; i++) void fetch('silent.test');
  const gone = new AbortController();
  const waits = fetch('silent.test', { signal: gone.signal });
  const shortly = fetch('silent.test', { signal: never, waitMs: 1 });
  const next = fetch('silent.test');
  gone.abort(new Error('not any more'));
  await expect(waits).rejects.toThrow('not any more');
  await expect(shortly).rejects.toBeInstanceOf(NoPlaceError);
  ends[0]!();
  await expect.poll(() => begun.length).toBe(5);
  ends[4]!();
  expect(await next).toBe('silent.test');
});

test('the failure of a fetch is that of who asked for it, and its place is free', async () => {
  const places = createFetchPlaces({ inAll: 1, ofServer: 1 });
  const failing = places.run('a.test' as ServerName, { signal: never }, () => Promise.reject(new Error('no')));
  await expect(failing).rejects.toThrow('no');
  expect(await places.run('b.test' as ServerName, { signal: never }, () => Promise.resolve(1))).toBe(1);
});
