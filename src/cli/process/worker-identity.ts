/** What a worker calls itself at Temporal: enough for a later one on this machine to tell whether it still runs. */
import { type ProcessIdentity, identify, isRunning } from '../../launch/process-identity.ts';

/** Of this process: as the SDK's own, and when it started, since process ids are given away again. */
export function workerIdentity({ pid, host, started }: ProcessIdentity = identify()): string {
  return `${pid}@${host} ${started}`;
}

/** Whether the worker ran on this machine, and runs no more. What another machine does nobody can tell from here. */
export function isDeadWorker(identity: string): boolean {
  const [, pid, host, started] = /^(\d+)@(\S+) (.+)$/s.exec(identity) ?? [];
  if (pid === undefined || host === undefined || started === undefined) return false;
  return !isRunning({ pid: Number(pid), host, started });
}
