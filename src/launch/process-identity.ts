/**
 * Tells whether a process that wrote its id into a file still runs. An id alone is not enough: it is given away again,
 * and in a container often to the very program that asks. The start time beside it settles that.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';

export interface ProcessIdentity {
  readonly host: string;
  readonly pid: number;
  /** When the process started, in the system's own unit; compared for equality only. */
  readonly started: string;
}

/** When a process started, or `undefined` when there is no such process. */
function startOf(pid: number): string | undefined {
  if (process.platform === 'linux') {
    try {
      // Field 22, counted after the command in parentheses, which may itself hold spaces and parentheses.
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      // A zombie has ended; only its parent has not looked yet.
      return fields[0] === 'Z' ? undefined : fields[19];
    } catch {
      return undefined;
    }
  }
  try {
    const text = execFileSync('ps', ['-o', 'lstart=', '-p', String(pid)], { encoding: 'utf8' }).trim();
    return text === '' ? undefined : text;
  } catch {
    return undefined;
  }
}

/** A process's command and arguments, one string; empty when there is no such process. */
export function commandLineOf(pid: number): string {
  try {
    // procps is not on every machine; /proc is on every Linux.
    if (process.platform === 'linux') return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
    return execFileSync('ps', ['-o', 'args=', '-p', String(pid)], { encoding: 'utf8' });
  } catch {
    return '';
  }
}

/** Names a process so that `isRunning` can recognise it later; this one, unless told otherwise. */
export function identify(pid: number = process.pid): ProcessIdentity {
  return { host: hostname(), pid, started: startOf(pid) ?? '' };
}

/** Whether that very process runs on this machine. One of another host (a shared home) is taken to run. */
export function isRunning(identity: ProcessIdentity): boolean {
  if (identity.host !== hostname()) return true;
  return startOf(identity.pid) === identity.started;
}

/** Reads an identity from text written as JSON; `undefined` for anything else, such as a file cut short by a crash. */
export function parseIdentity(text: string): ProcessIdentity | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== 'object' || value === null) return undefined;
    const { host, pid, started } = value as Record<string, unknown>;
    if (typeof host !== 'string' || typeof pid !== 'number' || typeof started !== 'string') return undefined;
    return { host, pid, started };
  } catch {
    return undefined;
  }
}
