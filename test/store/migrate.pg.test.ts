import pg from 'pg';
import { afterEach, expect, test } from 'vitest';
import { type Migration, parseMigration } from '../../src/store/migration-files.ts';
import { withTransaction } from '../../src/store/open-store.ts';
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

/** What a version would know: these files, the first of which is number 1. */
function migrationsOf(...texts: string[]): Migration[] {
  return texts.map((text, i) => parseMigration(text, { number: i + 1, madeAt: i }));
}

const MAKE = 'CREATE TABLE things (n bigint)';

test('a version that knows less runs, migrates and starts again on a database that was only expanded', async () => {
  database = await createTestDatabase('empty');
  const older = migrationsOf(MAKE);
  const newer = migrationsOf(MAKE, '-- min_compatible: 1\nALTER TABLE things ADD COLUMN said text');
  expect(await migrate(database.url, newer)).toBe(2);
  const store = database.openStore();
  await checkSchema(store, older);
  expect(await migrate(database.url, older)).toBe(0);
  await checkSchema(store, newer);
});

test('a database that a newer version contracted is refused and left alone', async () => {
  database = await createTestDatabase('empty');
  const older = migrationsOf(MAKE);
  expect(await migrate(database.url, migrationsOf(MAKE, 'DROP TABLE things'))).toBe(2);
  await expect(migrate(database.url, older)).rejects.toThrow(SchemaError);
  await expect(checkSchema(database.openStore(), older)).rejects.toThrow(
    '1 migration(s) that this version of rejoinder does not know and cannot run on',
  );
});

test('a database that a newer version migrated before it wrote down who may run on it is refused', async () => {
  database = await createTestDatabase();
  const store = database.openStore();
  await store.query('ALTER TABLE drizzle.__drizzle_migrations DROP COLUMN min_compatible');
  await checkSchema(store);
  await store.query(`INSERT INTO drizzle.__drizzle_migrations (hash, created_at) VALUES ('of the future', 9e15)`);
  await expect(checkSchema(store)).rejects.toThrow(SchemaError);
});

test('a run that ends between two files goes on with the second, and half a file is no file', async () => {
  database = await createTestDatabase('empty');
  const broken = migrationsOf(MAKE, 'INSERT INTO things VALUES (1)--> statement-breakpoint\nSELECT 1 / 0');
  await expect(migrate(database.url, broken)).rejects.toThrow('division by zero');
  const store = database.openStore();
  expect(await store.query('SELECT n FROM things')).toEqual([]);
  expect(await migrate(database.url, migrationsOf(MAKE, 'INSERT INTO things VALUES (2)'))).toBe(1);
  expect(await store.query('SELECT n FROM things')).toEqual([{ n: 2 }]);
});

test('an index is made beside writers, outside a transaction, while others wait for their turn to migrate', async () => {
  database = await createTestDatabase('empty');
  await migrate(database.url, migrationsOf(MAKE));
  const known = migrationsOf(
    MAKE,
    '-- outside a transaction\nDROP INDEX CONCURRENTLY IF EXISTS by_n--> statement-breakpoint\nCREATE INDEX CONCURRENTLY by_n ON things (n)',
  );
  const applied = await Promise.all([1, 2, 3].map(() => migrate(database.url, known)));
  expect(applied.toSorted()).toEqual([0, 0, 1]);
});

test('a file that waits in vain for a lock is tried again', async () => {
  database = await createTestDatabase('empty');
  await migrate(database.url, migrationsOf(MAKE));
  const store = database.openStore();
  const later =
    '-- min_compatible: 1\nSET LOCAL lock_timeout = 20--> statement-breakpoint\nALTER TABLE things ADD COLUMN said text';
  let migrating: Promise<number> = Promise.resolve(0);
  await withTransaction(store, async (tx) => {
    await tx.query('INSERT INTO things VALUES (1)');
    migrating = migrate(database.url, migrationsOf(MAKE, later));
    // The second try has begun when the first was undone.
    for (let undone = 0; undone < 1;) {
      const [row] = await store.query<{ undone: number }>(
        `SELECT pg_stat_get_db_xact_rollback(oid) AS undone FROM pg_database WHERE datname = current_database()`,
      );
      undone = row?.undone ?? 0;
    }
  });
  expect(await migrating).toBe(1);
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
