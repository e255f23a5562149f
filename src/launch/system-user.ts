/**
 * PostgreSQL refuses to run as root. A start by root (a container, a CI machine) therefore runs it as another user, who
 * must be able to reach its files.
 */
import { chmod, readFile, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, resolve, sep } from 'node:path';

/** Where root keeps what an unprivileged server process must read. */
export const SYSTEM_CACHE = '/var/cache/rejoinder';
/** Where root keeps the data of an unprivileged server process when the folder asked for is closed to it. */
export const SYSTEM_DATA = '/var/lib/rejoinder';

export interface SystemUser {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/** `postgres` comes with the distribution's package; `nobody` is there on every system. initdb wants a named user. */
const CANDIDATES = ['postgres', 'nobody'];

/** The user to run PostgreSQL as: `undefined` (ourselves) unless we are root. */
export async function unprivilegedUser(): Promise<SystemUser | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const lines = (await readFile('/etc/passwd', 'utf8')).split('\n').map((line) => line.split(':'));
  for (const candidate of CANDIDATES) {
    const entry = lines.find(([name]) => name === candidate);
    if (entry !== undefined) return { name: candidate, uid: Number(entry[2]), gid: Number(entry[3]) };
  }
  throw new Error(`PostgreSQL can't run as root, and there is no user ${CANDIDATES.join(' or ')} to run it as`);
}

const SEARCH_OTHERS = 0o001;
const SEARCH_OWNER = 0o100;

async function isOpenTo(directory: string, user: SystemUser): Promise<boolean> {
  const { mode, uid } = await stat(directory);
  return (mode & (uid === user.uid ? SEARCH_OWNER : SEARCH_OTHERS)) !== 0;
}

/** A folder's ancestors, nearest first; the folder itself is not among them. */
function ancestorsOf(path: string): string[] {
  const parent = dirname(path);
  return parent === path ? [] : [parent, ...ancestorsOf(parent)];
}

/** Whether the user may pass through all folders above a path. */
export async function canReach(path: string, user: SystemUser): Promise<boolean> {
  for (const directory of ancestorsOf(resolve(path))) if (!(await isOpenTo(directory, user))) return false;
  return true;
}

/** Lets others pass through (not list) our own folders between the system's temporary folder and a path below it. */
export async function openTemporaryAncestors(path: string): Promise<void> {
  const top = resolve(tmpdir()) + sep;
  for (const directory of ancestorsOf(resolve(path))) {
    if (!directory.startsWith(top)) return;
    const { mode, uid } = await stat(directory);
    if (uid === process.getuid?.()) await chmod(directory, (mode & 0o7777) | SEARCH_OTHERS);
  }
}
