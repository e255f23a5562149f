/** `serve` and `worker` as child processes of `up`: started, waited for, watched, and told of when they die. */
import { type Child, startChild } from '../../launch/child.ts';
import { type Environment } from '../../launch/progress.ts';
import { CliError } from '../failure.ts';

/** A first start compiles the workflow bundle and connects; on a loaded machine that takes a while. */
const READY_MS_MAX = 60_000;
const LOG_LINES = 8;

export interface PartOptions {
  readonly name: 'serve' | 'worker';
  /** The interpreter with its options, and our entry point. */
  readonly self: readonly string[];
  readonly env: Environment;
  readonly logFile: string;
  readonly cwd?: string;
}

export interface Part {
  readonly child: Child;
  /** Rejects with a `CliError` when the process ends before it was asked to. */
  readonly failed: Promise<never>;
  waitUntilReady(probe: () => Promise<boolean>): Promise<void>;
  stop(): Promise<void>;
}

/** Starts a part as a child process that writes to its log file. */
export async function startPart({ name, self, env, logFile, cwd }: PartOptions): Promise<Part> {
  const [command = process.execPath, ...args] = self;
  const child = await startChild({
    name: `rejoinder ${name}`,
    command,
    args: [...args, name],
    env,
    logFile,
    stopSignal: 'TERM',
    ...(cwd === undefined ? {} : { cwd }),
  });
  let stopping = false;
  const failed = child.ended.then(async (how): Promise<never> => {
    // Asked to stop: nothing is wrong, and nobody waits for this any more.
    if (stopping) return new Promise<never>(() => undefined);
    throw new CliError(`rejoinder ${name} ${how}`, { hint: await lastWords(child, logFile) });
  });
  failed.catch(() => undefined);
  return {
    child,
    failed,
    waitUntilReady: (probe) =>
      Promise.race([child.waitUntil(async () => !child.hasEnded() && (await probe()), READY_MS_MAX), failed]),
    stop: () => {
      stopping = true;
      return child.stop();
    },
  };
}

/** What it printed for people last (logs are JSON, errors are not), else the last of its log. */
async function lastWords(child: Child, logFile: string): Promise<string> {
  const lines = (await child.logTail()).split('\n').filter((line) => line !== '');
  const plain = lines.filter((line) => !line.startsWith('{'));
  const told = plain.length > 0 ? plain : lines;
  return [...told.slice(-LOG_LINES), `The whole log: ${logFile}`].join('\n');
}
