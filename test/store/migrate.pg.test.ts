import pg from 'pg';
import { afterEach, expect, test } from 'vitest';
import { SchemaError, checkSchema, migrate } from '../../src/store/migrate.ts';
import { type TestDatabase, createTestDatabase } from '../support/postgres.ts';

let database: TestDatabase;
afterEach(() => database.drop());

test('several processes migrate at once, and each migration is applied once', async () => {
  database = await createTestDatabase('empty');
  const applied = await Promise.all([1, 2, 3, 4].map(() => migrate(database.url)));
  const store = database.openStore();
  await checkSchema(store);
  const [row] = await store.query<{ n: number }>('SELECT count(*) AS n FROM drizzle.__drizzle_migrations');
  expect(applied.toSorted()).toEqual([0, 0, 0, row?.n]);
  expect(await store.query('SELECT position FROM journal_head')).toEqual([{ position: 0 }]);
  expect(await migrate(database.url)).toBe(0);
});

test('a database without the schema is named as such, with the command that helps', async () => {
  database = await createTestDatabase('empty');
  await expect(checkSchema(database.openStore())).rejects.toThrow(
    /lacks \d+ of \d+ migration.*run `rejoinder migrate`/,
  );
});

test('a database that a newer version migrated is refused and left alone', async () => {
  database = await createTestDatabase();
  const store = database.openStore();
  await store.query(`INSERT INTO drizzle.__drizzle_migrations (hash, created_at) VALUES ('of the future', 9e15)`);
  await expect(migrate(database.url)).rejects.toThrow(SchemaError);
  await expect(checkSchema(store)).rejects.toThrow('1 migration(s) that this version of rejoinder does not know');
});

test('a database in another encoding is refused before anything is made', async () => {
  database = await createTestDatabase();
  const admin = new pg.Client({ connectionString: database.url });
  await admin.connect();
  const name = `${new URL(database.url).pathname.slice(1)}_latin`;
  const url = database.url.replace(/[^/]*$/, name);
  try {
    await admin.query(`CREATE DATABASE ${name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'`);
    await expect(migrate(url)).rejects.toThrow('must have the encoding UTF8; it has LATIN1');
  } finally {
    await admin.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
    await admin.end();
  }
});
