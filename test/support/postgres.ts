/**
 * One PostgreSQL for a run of the tests, without fsync, and a fresh database for each file, cloned from a template that
 * was migrated once. The server is started by `global-setup.ts`; test files call `createTestDatabase`.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { inject } from 'vitest';
import { type ServerName } from '../../src/matrix/identifiers.ts';
import { type Store, openStore } from '../../src/store/open-store.ts';
import { migrate } from '../../src/store/migrate.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** Of the run's PostgreSQL: superuser, database `postgres`. */
    postgresUrl: string;
  }
}

const TEMPLATE = 'rejoinder_template';
const START_MS_MAX = 30_000;

export interface TestPostgres {
  readonly url: string;
  stop(): Promise<void>;
}

/** Starts a server of the newest system binaries on a free port, with the migrated template in it. */
export async function startTestPostgres(): Promise<TestPostgres> {
  const bin = newestBinaries();
  const identity = unprivilegedIdentity();
  const folder = mkdtempSync(join(tmpdir(), 'rejoinder-test-postgres-'));
  if (identity) chownSync(folder, identity.uid, identity.gid);
  const data = join(folder, 'data');
  execFileSync(
    join(bin, 'initdb'),
    ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync', '--no-instructions'],
    { stdio: 'pipe', cwd: folder, ...identity },
  );
  const port = await freePort();
  const fast = ['fsync=off', 'synchronous_commit=off', 'full_page_writes=off', 'max_connections=200'];
  const where = [`port=${port}`, 'listen_addresses=127.0.0.1', `unix_socket_directories=${folder}`];
  const server = spawn(join(bin, 'postgres'), ['-D', data, ...[...where, ...fast].flatMap((one) => ['-c', one])], {
    stdio: 'ignore',
    cwd: folder,
    ...identity,
  });
  const exited = once(server, 'exit');
  // A run that fails before it can stop the server still takes it along.
  const abandon = (): void => {
    server.kill('SIGQUIT');
    rmSync(folder, { recursive: true, force: true, maxRetries: 10 });
  };
  process.once('exit', abandon);
  const url = `postgres://postgres@127.0.0.1:${port}/postgres`;
  const stop = async (): Promise<void> => {
    process.off('exit', abandon);
    // Immediate shutdown: nothing of it is kept.
    server.kill('SIGQUIT');
    await exited;
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    await untilItAnswers(url);
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
  openStore(options?: { readonly serverName?: string; readonly poolSizeMax?: number }): Store;
  /** Closes what `openStore` opened and drops the database. Throws when any other connection was left open. */
  drop(): Promise<void>;
}

let created = 0;

/** A database of its own for one test file: migrated and empty, or with no schema at all. */
export async function createTestDatabase(from: 'template' | 'empty' = 'template'): Promise<TestDatabase> {
  const server = inject('postgresUrl');
  created += 1;
  const name = `test_${process.pid}_${created}`;
  // Two copies of one template at once are refused unless it is copied file by file.
  await run(
    server,
    from === 'empty' ? `CREATE DATABASE ${name}` : `CREATE DATABASE ${name} TEMPLATE ${TEMPLATE} STRATEGY wal_log`,
  );
  const url = inDatabase(server, name);
  const stores: Store[] = [];
  return {
    url,
    openStore: ({ serverName = 'here.test', poolSizeMax = 10 } = {}) => {
      const store = openStore({
        databaseUrl: url,
        serverName: serverName as ServerName,
        poolSizeMax,
        applicationName: 'rejoinder test',
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

async function run(url: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}

function inDatabase(server: string, name: string): string {
  const url = new URL(server);
  url.pathname = `/${name}`;
  return url.href;
}

/** `DATABASE_URL` is not taken: the tests create and drop databases, and switch off what keeps data safe. */
function newestBinaries(): string {
  const root = '/usr/lib/postgresql';
  const versions = existsSync(root) ? readdirSync(root).filter((name) => /^\d+$/.test(name)) : [];
  const newest = versions.toSorted((a, b) => Number(b) - Number(a)).find((name) => Number(name) >= 15);
  if (newest === undefined) throw new Error(`no PostgreSQL 15 or newer below ${root}: install the package postgresql`);
  return join(root, newest, 'bin');
}

/** PostgreSQL refuses to run as root. */
function unprivilegedIdentity(): { uid: number; gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined;
  for (const user of ['postgres', 'nobody']) {
    try {
      const of = (flag: string): number => Number(execFileSync('id', [flag, user], { stdio: 'pipe' }).toString());
      return { uid: of('-u'), gid: of('-g') };
    } catch {
      continue;
    }
  }
  throw new Error('tests that run as root need the user postgres or nobody, to start PostgreSQL as');
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, 'close');
  return port;
}

async function untilItAnswers(url: string): Promise<void> {
  const deadline = Date.now() + START_MS_MAX;
  for (;;) {
    try {
      await run(url, 'SELECT 1');
      return;
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}
