/**
 * What each process of a run uses between two moments: processor seconds, and the most that was resident. Counting is the
 * kernel's (difference of two readings, high-water mark counted anew); only what has no high-water mark is sampled.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { childrenOf, cpuSecondsOfTree, readMachine, readMemory, resetPeak, residentBytes } from './proc.ts';

/** PostgreSQL is a family of processes, which has no high-water mark; each look reads some twenty small files. */
const SAMPLE_MS = 100;
/** A process is idle when its memory has moved by no more than this for as long as this. */
const SETTLED_BYTES = 2 * 1024 * 1024;
const SETTLED_MS = 1_500;
const SETTLE_MS_MAX = 20_000;

export interface Watched {
  readonly name: string;
  readonly pid: number;
  /** Its children belong to it, as PostgreSQL's do. */
  readonly isFamily?: boolean;
}

export interface ProcessUse {
  readonly name: string;
  readonly cpuSeconds: number;
  /** When the watch began. */
  readonly idleBytes: number;
  readonly peakBytes: number;
  /** Of the process's own high-water mark, or the largest of the samples. */
  readonly peakFrom: 'kernel' | 'samples';
}

/** What a whole watch has seen. */
export interface Use {
  readonly processes: readonly ProcessUse[];
  readonly wallSeconds: number;
  /** Of this process, which asks and watches. */
  readonly ownCpuSeconds: number;
  /** Of everybody else on the machine: what they used was not there for the run. */
  readonly othersCpuSeconds: number;
  /** That the host of this machine withheld. */
  readonly stolenSeconds: number;
}

/** Waits until the memory of these processes stands still, at most 20 s. */
export async function settled(processes: readonly Watched[]): Promise<void> {
  let steady = processes.map(memoryOf);
  let steadySince = performance.now();
  const startedAt = steadySince;
  while (performance.now() - steadySince < SETTLED_MS && performance.now() - startedAt < SETTLE_MS_MAX) {
    await delay(SAMPLE_MS);
    const now = processes.map(memoryOf);
    if (now.every((bytes, i) => Math.abs(bytes - (steady[i] ?? 0)) <= SETTLED_BYTES)) continue;
    steady = now;
    steadySince = performance.now();
  }
}

/** Begins to watch; what is returned ends it and tells. */
export function watchProcesses(processes: readonly Watched[]): () => Use {
  const begun = processes.map((watched) => ({
    watched,
    idleBytes: memoryOf(watched),
    isCountedAnew: watched.isFamily !== true && resetPeak(watched.pid),
    cpuSeconds: cpuSecondsOfTree(watched.pid),
    sampledBytes: 0,
  }));
  const sample = (): void => {
    for (const entry of begun) {
      if (!entry.isCountedAnew) entry.sampledBytes = Math.max(entry.sampledBytes, memoryOf(entry.watched));
    }
  };
  const timer = setInterval(sample, SAMPLE_MS);
  const machineBefore = readMachine();
  const ownBefore = process.cpuUsage();
  const startedAt = performance.now();
  return () => {
    const wallSeconds = (performance.now() - startedAt) / 1_000;
    clearInterval(timer);
    sample();
    const machine = readMachine();
    const { user, system } = process.cpuUsage(ownBefore);
    const ownCpuSeconds = (user + system) / 1e6;
    const uses = begun.map(({ watched, idleBytes, isCountedAnew, cpuSeconds, sampledBytes }): ProcessUse => ({
      name: watched.name,
      cpuSeconds: cpuSecondsOfTree(watched.pid) - cpuSeconds,
      idleBytes,
      peakBytes: isCountedAnew ? readMemory(watched.pid).peakBytes : sampledBytes,
      peakFrom: isCountedAnew ? 'kernel' : 'samples',
    }));
    const ours = uses.reduce((sum, { cpuSeconds }) => sum + cpuSeconds, ownCpuSeconds);
    return {
      processes: uses,
      wallSeconds,
      ownCpuSeconds,
      // Both are counted in ticks of 10 ms, so that little may come out below nothing.
      othersCpuSeconds: Math.max(0, machine.busySeconds - machineBefore.busySeconds - ours),
      stolenSeconds: machine.stolenSeconds - machineBefore.stolenSeconds,
    };
  };
}

/**
 * Resident bytes. Of a family: what is each member's own, added up, and what they share once, as the largest that one
 * of them has touched; the sum of their resident sets would count PostgreSQL's buffers once a connection.
 */
function memoryOf({ pid, isFamily }: Watched): number {
  if (isFamily !== true) return residentBytes(pid);
  const members = [pid, ...childrenOf(pid)].map(readMemory);
  const own = members.reduce((sum, { anonymousBytes }) => sum + anonymousBytes, 0);
  return own + Math.max(...members.map(({ sharedBytes, fileBytes }) => sharedBytes + fileBytes));
}
