import { afterAll, beforeAll, expect, test } from 'vitest';
import { maintain } from '../../activities/maintain.ts';
import { type Store } from '../../src/store/open-store.ts';
import { silent } from '../federation/tls-server.ts';
import { type TestDatabase, createTestDatabase } from '../support/postgres.ts';

let database: TestDatabase;
let store: Store;
beforeAll(async () => {
  database = await createTestDatabase();
  store = database.openStore();
});
afterAll(() => database.drop());

const DAY = 86_400_000;
const now = 1_700_000_000_000;

function pass(budgetMs: number, clock: { now(): number } = { now: () => now }) {
  const alive = { signal: new AbortController().signal, heartbeat: () => undefined };
  return maintain({ rooms: { store, clock, logger: silent } }, { budgetMs }, alive);
}

async function fill(): Promise<void> {
  await store.query('DELETE FROM received_transactions');
  await store.query(
    `INSERT INTO received_transactions (origin, txn_id, response, received_at)
     SELECT 'there.test', i::text, '{}', CASE WHEN i <= 2500 THEN $1::bigint ELSE $2::bigint END
       FROM generate_series(1, 2600) AS i`,
    [now - 8 * DAY, now - 6 * DAY],
  );
}

const answersLeft = async (): Promise<number | undefined> =>
  (await store.query<{ n: number }>('SELECT count(*) AS n FROM received_transactions'))[0]?.n;

test('old answers and keys that nobody has needed are deleted, younger ones and valid ones stay', async () => {
  await fill();
  const old = now - 100 * DAY;
  await store.query(
    `INSERT INTO server_keys (server_name, key_id, public_key, valid_until_ts, expired, fetched_at)
     VALUES ('unused.test', 'ed25519:1', 'k', $1, false, $1), ('valid.test', 'ed25519:1', 'k', $2, false, $1),
            ('young.test', 'ed25519:1', 'k', $1, true, $3)`,
    [old, now + DAY, now - DAY],
  );
  expect(await pass(1_000)).toEqual({ transactions: 2_500, keys: 1, staged: 0, chunks: 0 });
  expect(await answersLeft()).toBe(100);
  const keys = await store.query<{ name: string }>('SELECT server_name AS name FROM server_keys ORDER BY 1');
  expect(keys.map(({ name }) => name)).toEqual(['valid.test', 'young.test']);
  expect(await pass(1_000)).toEqual({ transactions: 0, keys: 0, staged: 0, chunks: 0 });
});

test('a pass whose time is over leaves the rest to the next one', async () => {
  await fill();
  let at = now;
  // Each look at the clock takes as long as the pass may.
  expect(await pass(2, { now: () => (at += 1) })).toMatchObject({ transactions: 1_000 });
  expect(await pass(1_000)).toMatchObject({ transactions: 1_500 });
});

test('what was given up is forgotten after a day, and the row of a room with nothing staged, but nothing that waits', async () => {
  const at = Date.now();
  await store.query(
    `INSERT INTO staged_pdus (room_id, event_id, origin, raw, received_at, not_before, dropped_at)
     VALUES ('!a:t', '$old', 't', '', 0, 0, $1), ('!a:t', '$young', 't', '', 0, 0, $2), ('!b:t', '$waits', 't', '', 0, 0, NULL)`,
    [at - 2 * DAY, at],
  );
  await store.query(
    `INSERT INTO staged_rooms (room_id, leased_until) VALUES ('!a:t', 0), ('!b:t', 0), ('!empty:t', 0)`,
  );
  expect(await pass(1_000)).toMatchObject({ staged: 1 });
  const left = await store.query<{ event_id: string }>('SELECT event_id FROM staged_pdus ORDER BY 1');
  expect(left.map((row) => row.event_id)).toEqual(['$waits', '$young']);
  const rooms = await store.query<{ room_id: string }>('SELECT room_id FROM staged_rooms ORDER BY 1');
  expect(rooms.map((row) => row.room_id)).toEqual(['!a:t', '!b:t']);
});
