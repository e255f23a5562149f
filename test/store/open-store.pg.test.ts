import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Store, openStore, withTransaction } from '../../src/store/open-store.ts';
import { type ServerName } from '../../src/matrix/identifiers.ts';
import { type TestDatabase, createTestDatabase } from '../support/postgres.ts';

let database: TestDatabase;
let store: Store;
beforeAll(async () => {
  database = await createTestDatabase();
  store = database.openStore();
});
afterAll(() => database.drop());

test('of two transactions that deadlock one is run again, and both commit', async () => {
  await store.query('CREATE TABLE counters (name text PRIMARY KEY, n bigint)');
  await store.query(`INSERT INTO counters VALUES ('a', 0), ('b', 0)`);
  let runs = 0;
  let atBarrier = 0;
  let open: (() => void) | undefined;
  const both = new Promise<void>((resolve) => (open = resolve));
  const add = (first: string, second: string): Promise<void> =>
    withTransaction(store, async (tx) => {
      runs += 1;
      await tx.query('UPDATE counters SET n = n + 1 WHERE name = $1', [first]);
      atBarrier += 1;
      if (atBarrier === 2) open?.();
      await both;
      await tx.query('UPDATE counters SET n = n + 1 WHERE name = $1', [second]);
    });
  await Promise.all([add('a', 'b'), add('b', 'a')]);
  expect(runs).toBe(3);
  expect(await store.query('SELECT n FROM counters')).toEqual([{ n: 2 }, { n: 2 }]);
});

test('a connection that breaks inside a transaction fails it, and the store goes on', async () => {
  await expect(
    withTransaction(store, async (tx) => {
      const [self] = await tx.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
      await store.query('SELECT pg_terminate_backend($1)', [self?.pid]);
      await tx.query('SELECT 1');
    }),
  ).rejects.toThrow();
  expect(await store.query('SELECT 1 AS one')).toEqual([{ one: 1 }]);
});

test('idle connections that break are reported and replaced', async () => {
  const warnings: string[] = [];
  const logged = openStore({
    databaseUrl: database.url,
    serverName: 'here.test' as ServerName,
    poolSizeMax: 2,
    applicationName: 'to be cut',
    logger: { warn: (_fields, message) => warnings.push(message) },
  });
  await logged.query('SELECT 1');
  const broken = new Promise((resolve) => logged.pool.once('error', resolve));
  await store.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'to be cut'`);
  await broken;
  expect(await logged.query('SELECT 2 AS two')).toEqual([{ two: 2 }]);
  expect(warnings).toEqual(['an idle database connection broke']);
  await logged.close();
});

test('an integer that JavaScript cannot hold exactly is an error, not another integer', async () => {
  expect(await store.query('SELECT 9007199254740991::bigint AS n')).toEqual([{ n: Number.MAX_SAFE_INTEGER }]);
  await expect(store.query('SELECT 9007199254740993::bigint AS n')).rejects.toThrow('not exact');
});
