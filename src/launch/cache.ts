/**
 * The folder of what was downloaded or built once: the Temporal binary, Synapse's virtual environment. An entry's name
 * carries its version; it is built in a temporary sibling and renamed, so whatever has the name is whole.
 *
 * A lock keeps a second start from building the same thing beside the first: it waits, and says so. The lock only saves
 * work. Were two builders to get in (a lock stolen in the very moment another steals it), the rename decides and the
 * later one throws its copy away.
 */
import { randomBytes } from 'node:crypto';
import { access, link, mkdir, readFile, rename, rm, unlink, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type ProcessIdentity, identify, isRunning, parseIdentity } from './process-identity.ts';
import { type Environment, type Progress } from './progress.ts';

/** How often a waiting start looks whether the other has finished. */
const LOCK_POLL_MS = 200;
/** How often a waiting start says that it still waits. */
const LOCK_REMINDER_MS = 15_000;

/** `REJOINDER_CACHE_DIR`, or `rejoinder` in the user's cache folder by the XDG rule. */
export function cacheDirectory(env: Environment): string {
  const own = env['REJOINDER_CACHE_DIR'];
  if (own !== undefined && own !== '') return own;
  const xdg = env['XDG_CACHE_HOME'];
  return join(xdg !== undefined && xdg !== '' ? xdg : join(homedir(), '.cache'), 'rejoinder');
}

export interface CacheEntry {
  readonly directory: string;
  /** The entry's folder name, version included, such as `temporal-cli-v1.5.1`. */
  readonly name: string;
  readonly progress: Progress;
  /** Fills an empty folder; throws when it cannot. Paths inside must bear being renamed. */
  build(temporary: string): Promise<void>;
  /** Whether an entry found still works (its interpreter may be gone); one that does not is built anew. */
  isUsable?(path: string): Promise<boolean>;
}

interface Lock {
  readonly holder: ProcessIdentity;
  /** Tells this hold from a later one by the same process. */
  readonly token: string;
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

async function readLock(path: string): Promise<Lock | undefined> {
  const text = await readFile(path, 'utf8').catch(() => '');
  const holder = parseIdentity(text);
  if (holder === undefined) return undefined;
  const { token } = JSON.parse(text) as { token?: unknown };
  return { holder, token: typeof token === 'string' ? token : '' };
}

/** Creates the lock whole or not at all: the file is written aside and linked to its name, which fails if it is taken. */
async function tryLock(path: string, lock: Lock): Promise<boolean> {
  const aside = `${path}.${lock.token}`;
  await writeFile(aside, JSON.stringify({ ...lock.holder, token: lock.token }));
  try {
    await link(aside, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    return false;
  } finally {
    await unlink(aside);
  }
}

/** Removes the lock of a builder that is gone, and what it had begun. */
async function clearDeadLock(entry: CacheEntry, lockPath: string, dead: Lock): Promise<void> {
  const aside = `${lockPath}.dead-${dead.token}`;
  try {
    // Of several waiters one wins this rename.
    await rename(lockPath, aside);
  } catch {
    return;
  }
  const taken = await readLock(aside);
  if (taken !== undefined && taken.token !== dead.token) await link(aside, lockPath).catch(() => undefined);
  else await rm(temporaryPath(entry, dead.token), { recursive: true, force: true });
  await rm(aside, { force: true });
}

function temporaryPath(entry: CacheEntry, token: string): string {
  return join(entry.directory, `.${entry.name}.building-${token}`);
}

async function ready(entry: CacheEntry, path: string): Promise<boolean> {
  if (!(await exists(path))) return false;
  return entry.isUsable === undefined || entry.isUsable(path);
}

async function buildInto(entry: CacheEntry, path: string, token: string): Promise<void> {
  const temporary = temporaryPath(entry, token);
  await mkdir(temporary, { recursive: true });
  try {
    await entry.build(temporary);
    // Only an unusable entry can be in the way here; a whole one would have ended the wait for the lock.
    await rm(path, { recursive: true, force: true });
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    if (!(await ready(entry, path))) throw error;
  }
}

/** The path of a cache entry, built first if it is not there. Two calls at once, in one process or two, build it once. */
export async function cachedEntry(entry: CacheEntry): Promise<string> {
  const path = join(entry.directory, entry.name);
  const lockPath = join(entry.directory, `.${entry.name}.lock`);
  if (await ready(entry, path)) return path;
  await mkdir(entry.directory, { recursive: true });
  const lock: Lock = { holder: identify(), token: randomBytes(8).toString('hex') };

  for (let waitedMs = 0; !(await tryLock(lockPath, lock)); waitedMs += LOCK_POLL_MS) {
    const other = await readLock(lockPath);
    if (other !== undefined && !isRunning(other.holder)) {
      entry.progress(`${entry.name}: process ${other.holder.pid} ended before it was built; taking over`);
      await clearDeadLock(entry, lockPath, other);
      continue;
    }
    if (waitedMs % LOCK_REMINDER_MS === 0 && other !== undefined) {
      const where = other.holder.host === lock.holder.host ? '' : ` on ${other.holder.host}`;
      entry.progress(`${entry.name}: waiting for process ${other.holder.pid}${where}, which builds it (${lockPath})`);
    }
    await delay(LOCK_POLL_MS);
  }
  try {
    if (!(await ready(entry, path))) await buildInto(entry, path, lock.token);
    return path;
  } finally {
    await rm(lockPath, { force: true });
  }
}
