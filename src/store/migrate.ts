/**
 * Brings a database to the schema of this version, and tells when it is not there. A file is a transaction, so that a run
 * that is killed goes on behind the last whole one, and no table stays locked longer than its own change takes. Waits for a
 * lock are short and tried again: a change that waits for a lock keeps everybody else waiting behind it.
 */
import pg from 'pg';
import { CONNECTION_LIMITS, limitedConnection } from './connection-limits.ts';
import { type Migration, readMigrations } from './migration-files.ts';
import { type Sql, sqlStateOf } from './open-store.ts';

/** The database cannot be used by this version of Rejoinder; the message says what to do. */
export class SchemaError extends Error {
  override readonly name = 'SchemaError';
}

/** Held while migrating, so that several starts at once go one after the other. Any constant of our own does. */
const ADVISORY_LOCK = 0x7e_70_1d_e2;

/** JSON text and `FOR NO KEY UPDATE` would work with older ones; nothing older is tested. */
const SERVER_VERSION_MIN = 150_000;

const MIGRATIONS_TABLE = 'drizzle.__drizzle_migrations';

const CREATE_MIGRATIONS_TABLE = `
  CREATE SCHEMA IF NOT EXISTS drizzle;
  CREATE TABLE IF NOT EXISTS ${MIGRATIONS_TABLE} (id SERIAL PRIMARY KEY, hash text NOT NULL, created_at bigint);
  ALTER TABLE ${MIGRATIONS_TABLE} ADD COLUMN IF NOT EXISTS min_compatible integer`;

/** How long one file waits for a lock, how often it is tried, and the pause before the second try, which doubles. */
const LOCK_WAIT_MS = 5_000;
const ATTEMPTS_MAX = 8;
const RETRY_PAUSE_MS = 250;

/** lock_not_available and deadlock_detected. */
const RETRYABLE = new Set(['55P03', '40P01']);

type Query = <Row extends object>(text: string, values?: unknown[]) => Promise<Row[]>;

/** What the database lacks of the known migrations, in order. Throws when this version cannot run on what it has besides. */
async function lackingOf(query: Query, known: readonly Migration[]): Promise<readonly Migration[]> {
  const [server] = await query<{ version: string; encoding: string; exists: boolean; isRolling: boolean }>(
    `SELECT current_setting('server_version_num') AS version, current_setting('server_encoding') AS encoding,
            to_regclass('${MIGRATIONS_TABLE}') IS NOT NULL AS exists,
            EXISTS (SELECT FROM pg_attribute
                     WHERE attrelid = to_regclass('${MIGRATIONS_TABLE}') AND attname = 'min_compatible') AS "isRolling"`,
  );
  if (Number(server?.version) < SERVER_VERSION_MIN) {
    throw new SchemaError(`PostgreSQL 15 or newer is needed; the server has version number ${server?.version ?? '?'}`);
  }
  if (server?.encoding !== 'UTF8') {
    throw new SchemaError(`the database must have the encoding UTF8; it has ${server?.encoding ?? '?'}`);
  }
  if (!server.exists) return known;
  const rows = await query<{ hash: string; minCompatible: number | null }>(
    `SELECT hash, ${server.isRolling ? 'min_compatible' : 'NULL'} AS "minCompatible" FROM ${MIGRATIONS_TABLE}`,
  );
  const knownHashes = new Set(known.map(({ hash }) => hash));
  const unknown = rows.filter(({ hash }) => !knownHashes.has(hash));
  const barring = unknown.filter(({ minCompatible }) => minCompatible === null || minCompatible > known.length).length;
  if (barring > 0) {
    throw new SchemaError(
      `the database has ${barring} migration(s) that this version of rejoinder does not know and cannot run on: use the version that made them, or a newer one`,
    );
  }
  const applied = new Set(rows.map(({ hash }) => hash));
  return known.filter(({ hash }) => !applied.has(hash));
}

/**
 * Applies the migrations that the database lacks, each file on its own. Safe when several processes start at once, and while
 * others use the database. Throws `SchemaError` when a newer version migrated it to what this one cannot run on.
 *
 * @returns how many were applied
 */
export async function migrate(databaseUrl: string, known: readonly Migration[] = readMigrations()): Promise<number> {
  const client = new pg.Client({
    connectionString: databaseUrl,
    application_name: 'rejoinder migrate',
    ...limitedConnection(CONNECTION_LIMITS),
    // A statement takes as long as the table is big.
    statement_timeout: 0,
    query_timeout: 0,
  });
  // A connection that breaks fails the statement that runs; the event alone must not end the process.
  client.on('error', () => undefined);
  await client.connect();
  try {
    const query: Query = async <Row extends object>(text: string, values?: unknown[]) =>
      (await client.query<Row & pg.QueryResultRow>(text, values)).rows;
    await takeTurn(query);
    const lacking = await lackingOf(query, known);
    if (lacking.length > 0) await query(CREATE_MIGRATIONS_TABLE);
    for (const migration of lacking) await apply(query, migration);
    return lacking.length;
  } finally {
    await client.end();
  }
}

/**
 * Held by the session: PostgreSQL lets go of it when the connection ends, however it ends. Asked for again and again, since
 * a statement that waits has a snapshot, and CREATE INDEX CONCURRENTLY waits for all of these.
 */
async function takeTurn(query: Query): Promise<void> {
  for (;;) {
    const [row] = await query<{ mine: boolean }>('SELECT pg_try_advisory_lock($1) AS mine', [ADVISORY_LOCK]);
    if (row?.mine === true) return;
    await pause(RETRY_PAUSE_MS);
  }
}

async function apply(query: Query, migration: Migration): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await (migration.inTransaction ? applyWhole(query, migration) : applyOneByOne(query, migration));
      return;
    } catch (error) {
      if (attempt === ATTEMPTS_MAX || !RETRYABLE.has(sqlStateOf(error) ?? '')) throw error;
      await pause(RETRY_PAUSE_MS * 2 ** (attempt - 1));
    }
  }
}

async function applyWhole(query: Query, migration: Migration): Promise<void> {
  await query('BEGIN');
  try {
    await query(`SET LOCAL lock_timeout = ${LOCK_WAIT_MS}`);
    for (const statement of migration.statements) await query(statement);
    await remember(query, migration);
    await query('COMMIT');
  } catch (error) {
    await query('ROLLBACK').catch(() => undefined);
    throw error;
  }
}

async function applyOneByOne(query: Query, migration: Migration): Promise<void> {
  await query(`SET lock_timeout = ${LOCK_WAIT_MS}`);
  for (const statement of migration.statements) await query(statement);
  await remember(query, migration);
}

async function remember(query: Query, { hash, madeAt, minCompatible }: Migration): Promise<void> {
  await query(`INSERT INTO ${MIGRATIONS_TABLE} (hash, created_at, min_compatible) VALUES ($1, $2, $3)`, [
    hash,
    madeAt,
    minCompatible,
  ]);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Throws `SchemaError` unless the database has all migrations of this version, and no other that it cannot run on. */
export async function checkSchema(sql: Sql, known: readonly Migration[] = readMigrations()): Promise<void> {
  const lacking = await lackingOf((text) => sql.query(text), known);
  if (lacking.length > 0) {
    throw new SchemaError(
      `the database lacks ${lacking.length} of ${known.length} migration(s): run \`rejoinder migrate\``,
    );
  }
}
