import { beforeEach, expect, test } from 'vitest';
import { ringOverdue } from '../../activities/ring-overdue.ts';
import { type RoomId } from '../../src/matrix/identifiers.ts';
import { silent } from '../federation/tls-server.ts';
import { openTestStore } from '../support/postgres.ts';

const { store } = await openTestStore();

const SWEEP_AFTER_MS = 120_000;
/** More than two seconds' worth of rings. */
const ROOMS = 120;
let now = 1_700_000_000_000;

/** Rooms that count as overdue for as long as nothing is journalled in them, as one does whose fetch takes long. */
beforeEach(async () => {
  now += 100 * SWEEP_AFTER_MS;
  await store.query('DELETE FROM resyncs');
  await store.query(
    `INSERT INTO resyncs (room_id, epoch, seq, state, phase, next_wake_at)
     SELECT '!' || i || ':there.test', 1, 1, '{}', 'fetching', i FROM generate_series(1, $1::int) AS i`,
    [ROOMS],
  );
});

interface Pass {
  readonly rung: RoomId[];
  readonly looked: RoomId[];
}

/** One pass, in which each look at the clock takes a second. */
async function pass(
  budgetMs: number,
  about: { fails?: RoomId; wedged?: RoomId } = {},
): Promise<Pass & { result: unknown }> {
  const rung: RoomId[] = [];
  const looked: RoomId[] = [];
  const ring = (roomId: RoomId): Promise<void> => {
    if (roomId === about.fails) return Promise.reject(new Error('no such workflow'));
    rung.push(roomId);
    return Promise.resolve();
  };
  const endWedged = (roomId: RoomId): Promise<boolean> => {
    looked.push(roomId);
    return Promise.resolve(roomId === about.wedged);
  };
  const clock = { now: () => (now += 1_000) };
  const result = await ringOverdue(
    { rooms: { store, clock, logger: silent, ring }, sweepAfterMs: SWEEP_AFTER_MS, endWedged },
    { budgetMs },
    { signal: new AbortController().signal, heartbeat: () => undefined },
  );
  return { rung, looked, result };
}

test('one pass rings every overdue room, and none of them twice', async () => {
  const { rung, looked, result } = await pass(1e9);
  expect(new Set(rung).size).toBe(ROOMS);
  expect(result).toEqual({ rung: ROOMS, revived: 0 });
  expect(looked).toEqual([]);
});

test('where a pass is too short for all, each room has its turn in a later one, however many stay overdue', async () => {
  const dead = `!${ROOMS}:there.test` as RoomId;
  const rung: RoomId[] = [];
  for (let passes = 0; passes < 3; passes += 1) {
    rung.push(...(await pass(1)).rung);
    now += SWEEP_AFTER_MS;
  }
  expect(rung).toContain(dead);
  expect(new Set(rung).size).toBe(ROOMS);
});

test('the workflow of a room that was rung in vain is looked at, and one that cannot go on is ended before the ring', async () => {
  const wedged = '!7:there.test' as RoomId;
  await pass(1e9);
  now += SWEEP_AFTER_MS;
  const { rung, looked, result } = await pass(1e9, { wedged });
  expect(looked).toHaveLength(ROOMS);
  expect(rung).toContain(wedged);
  expect(result).toEqual({ rung: ROOMS, revived: 1 });
});

test('a room that cannot be rung keeps no other from being rung', async () => {
  const { result } = await pass(1e9, { fails: '!1:there.test' as RoomId });
  expect(result).toEqual({ rung: ROOMS - 1, revived: 0 });
});
