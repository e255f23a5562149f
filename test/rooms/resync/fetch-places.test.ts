/** Whose fetches have places, and when; each ends when the test says so. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { type ServerName } from '../../../src/matrix/identifiers.ts';
import { NoPlaceError, type Place, type Waiting, createFetchPlaces } from '../../../src/rooms/resync/fetch-places.ts';

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
  await expect.poll(() => begun).toEqual([...Array<string>(4).fill('silent.test'), 'other.test']);
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
    places.run(
      `${room}.test` as ServerName,
      { signal: never, urgency: () => (wanted.has(room) ? 0 : Number.POSITIVE_INFINITY) },
      () => {
        begun.push(room);
        return Promise.resolve();
      },
    ),
  );
  for (const room of ['d', 'e', 'f', 'g']) wanted.add(room);
  await Promise.all(asked);
  expect(begun).toEqual(['first', 'd', 'e', 'f', 'a', 'g', 'b', 'c']);
});

test('rooms have their turns by how urgent they are, and one in four by how long it has waited', async () => {
  const places = createFetchPlaces({ inAll: 1, ofServer: 1 });
  const begun: string[] = [];
  const urgency = new Map([
    ['first', 0],
    ['big', 2.9],
    ['small', 2.1],
    ['encrypted', 1.5],
    ['wanted', 0],
    ['tiny', 2],
  ]);
  const asked = [...urgency].map(([room, mine]) =>
    places.run(`${room}.test` as ServerName, { signal: never, urgency: () => mine }, () => {
      begun.push(room);
      return Promise.resolve();
    }),
  );
  await Promise.all(asked);
  expect(begun).toEqual(['first', 'wanted', 'encrypted', 'big', 'tiny', 'small']);
});

test('who waits for a place in vain begins nothing, and takes none from who comes after', async () => {
  const { begun, ends, fetch } = open();
  for (let i = 0; i < 4; i++) void fetch('silent.test');
  const gone = new AbortController();
  const waits = fetch('silent.test', { signal: gone.signal });
  const shortly = expect(fetch('silent.test', { signal: never, waitMs: 1 })).rejects.toBeInstanceOf(NoPlaceError);
  const next = fetch('silent.test');
  await expect.poll(() => begun.length).toBe(4);
  gone.abort(new Error('not any more'));
  await expect(waits).rejects.toThrow('not any more');
  await shortly;
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

describe('a place of which nothing is made', () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  const QUIET_MS = 15_000;
  const MUCH = 64 * 1024;
  /** Work that has its place and lasts until it is ended. */
  async function begin(
    places: ReturnType<typeof createFetchPlaces>,
    server: string,
    signal = never,
  ): Promise<{ readonly place: () => Place | undefined; readonly end: () => void; readonly ended: Promise<void> }> {
    let place: Place | undefined;
    let end = (): void => undefined;
    const until = new Promise<void>((resolve) => {
      end = resolve;
    });
    const ended = places.run(server as ServerName, { signal }, async (had) => {
      place = had;
      await until;
    });
    await vi.advanceTimersByTimeAsync(0);
    return { place: () => place, end, ended };
  }

  test('is had by another room soon, though two silent servers were asked for all of the states that they may be', async () => {
    const places = createFetchPlaces({ inAll: 8, ofServer: 4 });
    for (let i = 0; i < 4; i += 1) for (const server of ['one.test', 'two.test']) await begin(places, server);
    const honest = await begin(places, 'honest.test');
    expect(honest.place()).toBeUndefined();
    await vi.advanceTimersByTimeAsync(2 * QUIET_MS);
    expect(honest.place()).toBeDefined();
    // They are asked for nothing more meanwhile.
    const fifth = await begin(places, 'one.test');
    expect(fifth.place()).toBeUndefined();
  });

  test('is not had by a drip, and is kept by who sends, or works at what came', async () => {
    const places = createFetchPlaces({ inAll: 3, ofServer: 1 });
    const [drip, sends, works] = [
      await begin(places, 'drip.test'),
      await begin(places, 'sends.test'),
      await begin(places, 'works.test'),
    ];
    const waits = [await begin(places, 'a.test'), await begin(places, 'b.test')];
    for (let second = 0; second < 60; second += 1) {
      drip.place()!.received(1024);
      sends.place()!.received(MUCH / 10);
      if (second % 10 === 0) works.place()!.worked();
      await vi.advanceTimersByTimeAsync(1_000);
    }
    expect(drip.place()!.regained()).toBeInstanceOf(Promise);
    expect(sends.place()!.regained()).toBeUndefined();
    expect(works.place()!.regained()).toBeUndefined();
    expect(waits.filter(({ place }) => place() !== undefined)).not.toEqual([]);
  });

  test('is queued for again when the answer comes, and nothing of it is read before', async () => {
    const places = createFetchPlaces({ inAll: 1, ofServer: 1 });
    const slow = await begin(places, 'slow.test');
    const other = await begin(places, 'other.test');
    await vi.advanceTimersByTimeAsync(2 * QUIET_MS);
    const third = await begin(places, 'third.test');
    slow.place()!.received(100);
    let isRegained = false;
    const regained = slow
      .place()!
      .regained()!
      .then(() => (isRegained = true));
    for (let second = 0; second < 60; second += 1) {
      other.place()!.received(MUCH);
      await vi.advanceTimersByTimeAsync(1_000);
    }
    expect(isRegained).toBe(false);
    other.end();
    await other.ended;
    await vi.advanceTimersByTimeAsync(0);
    expect(third.place()).toBeDefined();
    expect(isRegained).toBe(false);
    third.end();
    await regained;
    // One at a time still.
    const fourth = await begin(places, 'fourth.test');
    expect(fourth.place()).toBeUndefined();
    slow.end();
    await slow.ended;
    await vi.advanceTimersByTimeAsync(0);
    expect(fourth.place()).toBeDefined();
  });

  test('is queued for no longer than the work is wanted', async () => {
    const places = createFetchPlaces({ inAll: 1, ofServer: 1 });
    const cancelled = new AbortController();
    const slow = await begin(places, 'slow.test', cancelled.signal);
    await begin(places, 'other.test');
    await vi.advanceTimersByTimeAsync(QUIET_MS * 2);
    const regained = slow.place()!.regained()!;
    cancelled.abort(new Error('cancelled'));
    await expect(regained).rejects.toThrow('cancelled');
    slow.end();
    await slow.ended;
  });
});
