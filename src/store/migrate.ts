/** Brings a database to the schema of this version, and tells when it is not there. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { drizzle } from 'drizzle-orm/node-postgres';
import { readMigrationFiles } from 'drizzle-orm/migrator';
import { migrate as applyMigrations } from 'drizzle-orm/node-postgres/migrator';
import pg from 'pg';
import { type Sql } from './open-store.ts';

/** The database cannot be used by this version of Rejoinder; the message says what to do. */
export class SchemaError extends Error {
  override readonly name = 'SchemaError';
}

/** Held while migrating, so that several starts at once go one after the other. Any constant of our own does. */
const ADVISORY_LOCK = 0x7e_70_1d_e2;

/** JSON text and `FOR NO KEY UPDATE` would work with older ones; nothing older is tested. */
const SERVER_VERSION_MIN = 150_000;

const MIGRATIONS_TABLE = 'drizzle.__drizzle_migrations';

/** `migrations/` of this package: beside `src/` when run from source, beside `dist/` when built. */
function migrationsFolder(): string {
  for (let folder = dirname(fileURLToPath(import.meta.url)); ; folder = dirname(folder)) {
    const candidate = join(folder, 'migrations');
    if (existsSync(join(candidate, 'meta', '_journal.json'))) return candidate;
    if (folder === dirname(folder)) throw new Error('the package is incomplete: it has no migrations folder');
  }
}

type Query = <Row extends object>(text: string) => Promise<Row[]>;

/** Which migrations this version has, in order, and which of them the database has. Throws when the database has others. */
async function compareMigrations(query: Query): Promise<{ applied: number; known: number }> {
  const [server] = await query<{ version: string; encoding: string; exists: boolean }>(
    `SELECT current_setting('server_version_num') AS version, current_setting('server_encoding') AS encoding,
            to_regclass('${MIGRATIONS_TABLE}') IS NOT NULL AS exists`,
  );
  if (Number(server?.version) < SERVER_VERSION_MIN) {
    throw new SchemaError(`PostgreSQL 15 or newer is needed; the server has version number ${server?.version ?? '?'}`);
  }
  if (server?.encoding !== 'UTF8') {
    throw new SchemaError(`the database must have the encoding UTF8; it has ${server?.encoding ?? '?'}`);
  }
  const known = new Set(readMigrationFiles({ migrationsFolder: migrationsFolder() }).map((file) => file.hash));
  if (!server.exists) return { applied: 0, known: known.size };
  const applied = await query<{ hash: string }>(`SELECT hash FROM ${MIGRATIONS_TABLE}`);
  const unknown = applied.filter(({ hash }) => !known.has(hash)).length;
  if (unknown > 0) {
    throw new SchemaError(
      `the database has ${unknown} migration(s) that this version of rejoinder does not know: use the version that made them, or a newer one`,
    );
  }
  return { applied: applied.length, known: known.size };
}

/**
 * Applies the migrations that the database lacks. Safe when several processes start at once. Throws `SchemaError` when
 * the database was migrated by a newer version.
 *
 * @returns how many were applied
 */
export async function migrate(databaseUrl: string): Promise<number> {
  const client = new pg.Client({ connectionString: databaseUrl, application_name: 'rejoinder migrate' });
  // A connection that breaks fails the statement that runs; the event alone must not end the process.
  client.on('error', () => undefined);
  await client.connect();
  try {
    const query: Query = async <Row extends object>(text: string) =>
      (await client.query<Row & pg.QueryResultRow>(text)).rows;
    // Held by the session: PostgreSQL lets go of it when the connection ends, however it ends.
    await client.query('SELECT pg_advisory_lock($1)', [ADVISORY_LOCK]);
    const { applied, known } = await compareMigrations(query);
    if (applied < known) await applyMigrations(drizzle(client), { migrationsFolder: migrationsFolder() });
    return known - applied;
  } finally {
    await client.end();
  }
}

/** Throws `SchemaError` unless the database has exactly the migrations of this version. */
export async function checkSchema(sql: Sql): Promise<void> {
  const { applied, known } = await compareMigrations((text) => sql.query(text));
  if (applied < known) {
    throw new SchemaError(`the database lacks ${known - applied} of ${known} migration(s): run \`rejoinder migrate\``);
  }
}
