/** How long a room has its turn, and which server within it. */
import { afterAll, expect, test } from 'vitest';
import { type Clock, systemClock } from '../../../src/clock.ts';
import { expectFoldsRebuilt } from '../../support/folds.ts';
import { openTestStore, openTestThreads } from '../../support/postgres.ts';
import { A, ALICE, B, BOB, openPushedRoom } from './pushed-room.ts';

const { store } = await openTestStore();
const verification = openTestThreads();
afterAll(() => expectFoldsRebuilt(store));

/** A clock by which nothing is quick, for as long as `isSlow`: a second passes between any two looks at it. */
function createSlowClock(): Clock & { isSlow: boolean } {
  let passed = 0;
  return {
    isSlow: false,
    now() {
      if (this.isSlow) passed += 1_000;
      return systemClock.now() + passed;
    },
  };
}

test('rooms whose events take long, in all places that there are, leave them to a room that waits, and lose nothing', async () => {
  const clock = createSlowClock();
  const rooms = Array.from({ length: 9 }, () => openPushedRoom(store, verification, { clock }));
  for (const { join } of rooms) await join(false);
  const [first, ...others] = rooms;
  // One process works at all of them.
  for (const { receiver } of others) await receiver.close();
  const flooded = rooms.slice(0, 8);
  const quiet = rooms[8]!;
  const floods = flooded.map(({ room }) => Array.from({ length: 40 }, (_, i) => room.message(ALICE, `flood ${i}`)));
  const said = quiet.room.message(ALICE, 'once');

  clock.isSlow = true;
  await Promise.all(flooded.map(({ room }, i) => first!.push(A, floods[i]!, room)));
  await first!.push(A, [said], quiet.room);
  expect(await quiet.taken(said)).toMatchObject([{ verdict: 'accepted' }]);
  const left = await store.query<{ events: number }>(
    `SELECT count(*) AS events FROM staged_pdus WHERE room_id <> $1 GROUP BY room_id`,
    [quiet.room.roomId],
  );
  expect(left).toHaveLength(8);

  clock.isSlow = false;
  for (const [i, { taken, settled }] of flooded.entries()) {
    expect(new Set((await taken(...floods[i]!)).map(({ verdict }) => verdict))).toEqual(new Set(['accepted']));
    expect(new Set(await settled(...floods[i]!))).toEqual(new Set([null]));
  }
}, 60_000);

test('servers of a room alternate though each turn is over after one event', async () => {
  const clock = createSlowClock();
  const { room, join, push, taken } = openPushedRoom(store, verification, { clock });
  await join(false);
  const base = room.last;
  const floods = Array.from({ length: 20 }, (_, i) => room.message(ALICE, `flood ${i}`, [base]));
  const said = Array.from({ length: 3 }, (_, i) => room.message(BOB, `said ${i}`, [base]));
  clock.isSlow = true;
  await push(A, floods);
  await push(B, said);
  expect(new Set((await taken(...said)).map(({ verdict }) => verdict))).toEqual(new Set(['accepted']));
  const [row] = await store.query<{ before: number }>(
    `SELECT count(*) AS before FROM event_states WHERE event_id = ANY ($1::text[])
        AND position < (SELECT max(position) FROM event_states WHERE event_id = ANY ($2::text[]))`,
    [floods, said],
  );
  // One may have had its turn before the others came, or two.
  expect(row?.before).toBeLessThanOrEqual(said.length + 2);
  clock.isSlow = false;
  expect(new Set((await taken(...floods)).map(({ verdict }) => verdict))).toEqual(new Set(['accepted']));
}, 60_000);
