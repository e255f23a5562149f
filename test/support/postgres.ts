/**
 * One PostgreSQL for a run of the tests, without fsync, and a fresh database for each file, cloned from a template that
 * was migrated once. The server is started by `global-setup.ts`; test files call `createTestDatabase`.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, inject } from 'vitest';
import { launchPostgres } from '../../src/launch/postgres.ts';
import { type ServerName } from '../../src/matrix/identifiers.ts';
import { type ConnectionLimits } from '../../src/store/connection-limits.ts';
import { type Store, type StoreOptions, openStore } from '../../src/store/open-store.ts';
import { migrate } from '../../src/store/migrate.ts';
import { type VerificationPool, createVerificationPool } from '../../src/verification/pool.ts';
import { inDatabase, run } from './databases.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** Of the run's PostgreSQL: its superuser, and a database that no test uses. */
    postgresUrl: string;
  }
}

const TEMPLATE = 'rejoinder_template';

export interface TestPostgres {
  readonly url: string;
  stop(): Promise<void>;
}

/**
 * Starts a server on a free port, with the migrated template in it. `DATABASE_URL` is not taken: the tests create and
 * drop databases, and switch off what keeps data safe.
 */
export async function startTestPostgres(): Promise<TestPostgres> {
  const folder = await mkdtemp(join(tmpdir(), 'rejoinder-test-postgres-'));
  const server = await launchPostgres({
    dataDirectory: folder,
    durability: 'throw-away',
    env: process.env,
    progress: (line) => console.error(line),
  });
  const url = server.databaseUrl;
  const stop = async (): Promise<void> => {
    await server.stop();
    await rm(folder, { recursive: true, force: true });
    await rm(server.dataDirectory, { recursive: true, force: true });
  };
  try {
    await run(url, `CREATE DATABASE ${TEMPLATE}`);
    await migrate(inDatabase(url, TEMPLATE));
  } catch (error) {
    await stop();
    throw error;
  }
  return { url, stop };
}

export interface TestDatabase {
  readonly url: string;
  /** A store over this database; closed by `drop`. */
  openStore(options?: {
    readonly serverName?: string;
    readonly poolSizeMax?: number;
    readonly onAppended?: NonNullable<StoreOptions['onAppended']>;
    readonly onCorrectionDue?: NonNullable<StoreOptions['onCorrectionDue']>;
    readonly limits?: ConnectionLimits;
  }): Store;
  /** Closes what `openStore` opened and drops the database. Throws when any other connection was left open. */
  drop(): Promise<void>;
}

let created = 0;

/** A database of its own for one test file: migrated and empty, or with no schema at all. */
export async function createTestDatabase(from: 'template' | 'empty' = 'template'): Promise<TestDatabase> {
  const server = inject('postgresUrl');
  created += 1;
  const name = `test_${process.pid}_${created}`;
  await run(server, `CREATE DATABASE ${name}${from === 'template' ? ` TEMPLATE ${TEMPLATE}` : ''}`);
  const url = inDatabase(server, name);
  const stores: Store[] = [];
  return {
    url,
    openStore: ({ serverName = 'here.test', poolSizeMax = 10, onAppended, onCorrectionDue, limits } = {}) => {
      const store = openStore({
        databaseUrl: url,
        serverName: serverName as ServerName,
        poolSizeMax,
        applicationName: 'rejoinder test',
        ...(onAppended === undefined ? {} : { onAppended }),
        ...(onCorrectionDue === undefined ? {} : { onCorrectionDue }),
        ...(limits === undefined ? {} : { limits }),
      });
      stores.push(store);
      return store;
    },
    drop: async () => {
      await Promise.all(stores.map((store) => store.close()));
      const left = await connectionsLeft(server, name);
      await run(server, `DROP DATABASE ${name} WITH (FORCE)`);
      if (left > 0) throw new Error(`${left} database connection(s) were left open by this file`);
    },
  };
}

/** Connections that stay; those just closed take the server a moment to forget. */
async function connectionsLeft(server: string, name: string): Promise<number> {
  const client = new pg.Client({ connectionString: server });
  await client.connect();
  try {
    const deadline = Date.now() + 1_000;
    for (;;) {
      const { rows } = await client.query<{ open: number }>(
        'SELECT count(*)::int AS open FROM pg_stat_activity WHERE datname = $1',
        [name],
      );
      const open = rows[0]?.open ?? 0;
      if (open === 0 || Date.now() > deadline) return open;
    }
  } finally {
    await client.end();
  }
}

/**
 * A database of its own for a test file, with a store over it, dropped when its tests are over. To be awaited at the top of the file:
 * what the file itself does after all its tests comes before.
 */
export async function openTestStore(
  options?: Parameters<TestDatabase['openStore']>[0],
): Promise<{ readonly database: TestDatabase; readonly store: Store }> {
  const database = await createTestDatabase();
  afterAll(() => database.drop());
  return { database, store: database.openStore(options) };
}

/** Threads that verify, for a test file; closed when its tests are over. */
export function openTestThreads(): VerificationPool {
  const verification = createVerificationPool({ threads: 1 });
  afterAll(() => verification.close());
  return verification;
}
