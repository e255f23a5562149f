import { expect, test } from 'vitest';
import { CONNECTION_LIMITS } from '../../src/store/connection-limits.ts';
import { openStore, withTransaction } from '../../src/store/open-store.ts';
import { type ServerName } from '../../src/matrix/identifiers.ts';
import { openTestStore } from '../support/postgres.ts';

const { database, store } = await openTestStore();

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

test('a connection that breaks as it is handed from one to the next ends no process', async () => {
  const narrow = openStore({
    ...{ serverName: 'here.test' as ServerName, databaseUrl: database.url },
    ...{ poolSizeMax: 1, applicationName: 'narrow' },
  });
  const first = await narrow.pool.connect();
  const next = narrow.pool.connect();
  first.release();
  // It is the next one's by now, who does not know it yet.
  expect(first.emit('error', new Error('terminating connection due to unexpected postmaster exit'))).toBe(true);
  (await next).release(true);
  expect(await narrow.query('SELECT 1 AS one')).toEqual([{ one: 1 }]);
  await narrow.close();
});

test('an integer that JavaScript cannot hold exactly is an error, not another integer', async () => {
  expect(await store.query('SELECT 9007199254740991::bigint AS n')).toEqual([{ n: Number.MAX_SAFE_INTEGER }]);
  await expect(store.query('SELECT 9007199254740993::bigint AS n')).rejects.toThrow('not exact');
});

test('every connection has its limits: on idle transactions, locks, statements and silent peers, and compiles no plan', async () => {
  const names = ['idle_in_transaction_session_timeout', 'lock_timeout', 'statement_timeout'];
  const tcp = ['tcp_keepalives_idle', 'tcp_keepalives_interval', 'tcp_keepalives_count', 'tcp_user_timeout'];
  const rows = await store.query<{ name: string; setting: string }>(
    'SELECT name, setting FROM pg_settings WHERE name = ANY ($1)',
    [[...names, ...tcp, 'jit']],
  );
  expect(Object.fromEntries(rows.map(({ name, setting }) => [name, setting]))).toEqual({
    idle_in_transaction_session_timeout: '10000',
    lock_timeout: '15000',
    statement_timeout: '60000',
    tcp_keepalives_idle: '10',
    tcp_keepalives_interval: '5',
    tcp_keepalives_count: '3',
    tcp_user_timeout: '20000',
    jit: 'off',
  });
});

test('a transaction that PostgreSQL ended because nothing came from us is run again', async () => {
  const limited = database.openStore({ limits: { ...CONNECTION_LIMITS, idleInTransactionMs: 50 } });
  let runs = 0;
  const done = await withTransaction(limited, async (tx) => {
    runs += 1;
    const [self] = await tx.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    for (let alive = runs === 1; alive;) {
      alive = (await store.query('SELECT FROM pg_stat_activity WHERE pid = $1', [self?.pid])).length > 0;
    }
    return tx.query('SELECT 3 AS three');
  });
  expect(done).toEqual([{ three: 3 }]);
  expect(runs).toBe(2);
});

test('a transaction that waited too long for a lock is run again', async () => {
  await store.query('CREATE TABLE contended (n bigint)');
  await store.query('INSERT INTO contended VALUES (1)');
  const limited = database.openStore({ limits: { ...CONNECTION_LIMITS, lockWaitMs: 50 } });
  let runs = 0;
  let isFree: (() => void) | undefined;
  const free = new Promise<void>((resolve) => (isFree = resolve));
  let waiter: Promise<unknown> = Promise.resolve();
  await withTransaction(store, async (tx) => {
    await tx.query('UPDATE contended SET n = 2');
    waiter = withTransaction(limited, async (other) => {
      runs += 1;
      if (runs === 2) isFree?.();
      await other.query('UPDATE contended SET n = n + 1');
    });
    await free;
  });
  await waiter;
  expect(await store.query('SELECT n FROM contended')).toEqual([{ n: 3 }]);
});

test('a transaction in which a failure was kept quiet does not count as committed', async () => {
  const quiet = withTransaction(store, async (tx) => {
    await tx.query('SELECT 1 / 0').catch(() => undefined);
  });
  await expect(quiet).rejects.toThrow('COMMIT was answered with ROLLBACK');
});

test('a statement that runs again and again is prepared, a rare one is not', async () => {
  const one = database.openStore({ poolSizeMax: 1 });
  const twice = 'SELECT $1::int * 2 AS twice';
  for (let i = 0; i < 40; i += 1) expect(await one.query(twice, [i])).toEqual([{ twice: 2 * i }]);
  await withTransaction(one, async (tx) => {
    expect(await tx.query(twice, [21])).toEqual([{ twice: 42 }]);
  });
  await one.query('SELECT $1::int AS rare', [1]);
  expect(await one.query('SELECT statement FROM pg_prepared_statements')).toEqual([{ statement: twice }]);
});
