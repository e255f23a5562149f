/**
 * What Linux tells of processes in /proc: who is whose child, processor time, resident memory. Linux only; elsewhere
 * `assertLinux` says so before anything is started.
 */
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';

/** Ticks of processor time in a second: 100 wherever Linux runs Node (`getconf CLK_TCK`). */
const TICKS_PER_SECOND = 100;
/** `statm` counts pages; 4 KiB on x86-64 and on nearly every arm64 (`getconf PAGESIZE`). */
const PAGE_BYTES = 4096;

/** Throws where there is no /proc as Linux has it. */
export function assertLinux(): void {
  if (process.platform === 'linux') return;
  throw new Error(
    `processor time and memory are read from Linux's /proc; this is ${process.platform}: use a Linux machine`,
  );
}

export interface ProcessStat {
  readonly parent: number;
  /** Of the process itself, all its threads, ended ones too. */
  readonly cpuSeconds: number;
  /** Of children that have ended and were waited for, with theirs. */
  readonly reapedCpuSeconds: number;
}

/** `undefined`: there is no such process (any more). */
function readStat(pid: number): ProcessStat | undefined {
  const text = readOrUndefined(`/proc/${pid}/stat`);
  if (text === undefined) return undefined;
  // The name stands in parentheses and may hold anything, so counting starts behind the last one. proc(5): ppid is the
  // 4th field, utime, stime, cutime and cstime are the 14th to the 17th.
  const fields = text
    .slice(text.lastIndexOf(')') + 2)
    .split(' ')
    .map(Number);
  const seconds = (first: number): number => ((fields[first - 3] ?? 0) + (fields[first - 2] ?? 0)) / TICKS_PER_SECOND;
  return { parent: fields[1] ?? 0, cpuSeconds: seconds(14), reapedCpuSeconds: seconds(16) };
}

/**
 * Processor time of a process and everything below it, ended children included: the difference of two readings misses
 * nothing, however short-lived the children between them were.
 */
export function cpuSecondsOfTree(pid: number): number {
  const stat = readStat(pid);
  if (stat === undefined) return 0;
  return childrenOf(pid).reduce((sum, child) => sum + cpuSecondsOfTree(child), stat.cpuSeconds + stat.reapedCpuSeconds);
}

/** Of a process with one thread, as PostgreSQL's are: `children` lists those of a thread. */
export function childrenOf(pid: number): readonly number[] {
  const text = readOrUndefined(`/proc/${pid}/task/${pid}/children`);
  // Some kernels are built without the file.
  if (text === undefined) return childrenByParent().get(pid) ?? [];
  return text
    .split(' ')
    .filter((id) => id.trim() !== '')
    .map(Number);
}

/** Every process below one, at any depth, with its command line. */
export function descendantsOf(pid: number): { readonly pid: number; readonly command: readonly string[] }[] {
  const children = childrenByParent();
  const found: { pid: number; command: readonly string[] }[] = [];
  for (const queue = [pid]; queue.length > 0;) {
    for (const child of children.get(queue.pop()!) ?? []) {
      queue.push(child);
      found.push({ pid: child, command: (readOrUndefined(`/proc/${child}/cmdline`) ?? '').split('\0').slice(0, -1) });
    }
  }
  return found;
}

function childrenByParent(): ReadonlyMap<number, readonly number[]> {
  const children = new Map<number, number[]>();
  for (const name of readdirSync('/proc')) {
    const id = Number(name);
    const parent = Number.isInteger(id) ? readStat(id)?.parent : undefined;
    if (parent !== undefined) children.set(parent, [...(children.get(parent) ?? []), id]);
  }
  return children;
}

export interface MachineStat {
  /** Of all processors, whoever it was given to. */
  readonly busySeconds: number;
  /** That the machine's own host gave to others while something here wanted to run. */
  readonly stolenSeconds: number;
}

/** Since the machine started. */
export function readMachine(): MachineStat {
  // proc(5): user, nice, system, idle, iowait, irq, softirq, steal; the guests that follow are in user and nice already.
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = (readOrUndefined('/proc/stat') ?? '')
    .split('\n', 1)[0]!
    .split(/\s+/)
    .slice(1)
    .map((ticks) => Number(ticks) / TICKS_PER_SECOND);
  return { busySeconds: user + nice + system + irq + softirq, stolenSeconds: steal };
}

/** Resident bytes now; 0 for a process that is gone. */
export function residentBytes(pid: number): number {
  return Number((readOrUndefined(`/proc/${pid}/statm`) ?? '').split(' ')[1] ?? 0) * PAGE_BYTES;
}

export interface MemoryStatus {
  /** The most that was resident since the start of the process or the last `resetPeak`. */
  readonly peakBytes: number;
  readonly anonymousBytes: number;
  /** Pages it shares with others: PostgreSQL's buffers, as far as this process has touched them. */
  readonly sharedBytes: number;
  /** Mapped files: the program itself and its libraries. */
  readonly fileBytes: number;
}

export function readMemory(pid: number): MemoryStatus {
  const text = readOrUndefined(`/proc/${pid}/status`) ?? '';
  const bytes = (name: string): number => 1024 * Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? 0);
  return {
    peakBytes: bytes('VmHWM'),
    anonymousBytes: bytes('RssAnon'),
    sharedBytes: bytes('RssShmem'),
    fileBytes: bytes('RssFile'),
  };
}

/** Makes the kernel count the peak anew; `false` where it does not let us. */
export function resetPeak(pid: number): boolean {
  try {
    writeFileSync(`/proc/${pid}/clear_refs`, '5');
    return true;
  } catch {
    return false;
  }
}

function readOrUndefined(file: string): string | undefined {
  try {
    return readFileSync(file, 'latin1');
  } catch {
    return undefined;
  }
}
