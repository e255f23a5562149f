/**
 * A server process that lives no longer than we do. Each runs under a shell of a few lines that holds the read end of a
 * pipe from us: when the pipe closes, because we stop it or because we were killed, the shell signals the server. The
 * server has a process group of its own, so that Ctrl-C in a terminal reaches us alone and we end things in order.
 */
import { spawn } from 'node:child_process';
import { open, readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { type Environment, LaunchError } from './progress.ts';

// $1 is the signal's name, the rest the command. Descriptor 3 keeps the pipe, since a shell gives its background jobs
// an empty standard input. The watcher is ended first, so that it can't signal an id that is somebody else's by then.
const KEEPER = `
signal=$1; shift; exec 3<&0 </dev/null
"$@" 3<&- & server=$!
( while read -r line <&3; do :; done; kill -s "$signal" "$server" ) >/dev/null 2>&1 & watcher=$!
exec 3<&-
wait "$server"; status=$?
kill "$watcher" 2>/dev/null
exit "$status"
`;

/** After its signal a server may write its last state; longer than this it hangs. */
const STOP_TIMEOUT_MS = 15_000;
const POLL_MS = 25;
/** Enough of a log to hold the reason of a failed start. */
const LOG_TAIL_BYTES = 4_000;

export interface ChildOptions {
  /** What people call it in messages. */
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Environment;
  /** The file that takes its standard output and error; what was there stays. */
  readonly logFile: string;
  readonly stopSignal: 'TERM' | 'INT' | 'QUIT' | 'KILL';
  readonly cwd?: string;
  /** Run as this user; needs root. */
  readonly user?: { readonly uid: number; readonly gid: number };
  /** Opens a channel of JSON messages to a Node process, and takes those it sends (`process.send`). */
  readonly onMessage?: (message: unknown) => void;
}

export interface Child {
  /** Becomes true when the process ended, asked or not. */
  hasEnded(): boolean;
  /** The process ended; resolves with how. */
  readonly ended: Promise<string>;
  /** The last lines of its log. */
  logTail(): Promise<string>;
  /** Polls `probe` until it holds. Throws a `LaunchError` with the log's end when the process ends first or time runs out. */
  waitUntil(probe: () => Promise<boolean>, timeoutMs: number): Promise<void>;
  /** Sends a message over the channel; one to a process that has ended is lost. Throws when no channel was opened. */
  send(message: object): void;
  /** Signals the server and waits until it is gone; kills it when that takes too long. A second call waits for the first. */
  stop(): Promise<void>;
}

/** Starts a server under a keeper. */
export async function startChild(options: ChildOptions): Promise<Child> {
  const log = await open(options.logFile, 'a');
  const logStart = (await log.stat()).size;
  const child = spawn('/bin/sh', ['-c', KEEPER, 'keeper', options.stopSignal, options.command, ...options.args], {
    // The keeper uses descriptor 3 itself; the channel's is told to the server in its environment.
    stdio: ['pipe', log.fd, log.fd, ...(options.onMessage === undefined ? [] : (['ignore', 'ipc'] as const))],
    env: { ...options.env },
    detached: true,
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.user === undefined ? {} : { uid: options.user.uid, gid: options.user.gid }),
  });
  if (options.onMessage !== undefined) child.on('message', options.onMessage);
  let isOver = false;
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(`could not be started: ${error.message}`));
    child.once('exit', (code, signal) => resolve(signal === null ? `exited with ${code ?? -1}` : `ended by ${signal}`));
  });
  void ended.then(() => (isOver = true));
  // A server that is gone breaks the pipe; `ended` tells that story.
  child.stdin?.on('error', () => undefined);
  await log.close();

  async function logTail(): Promise<string> {
    const text = await readFile(options.logFile).catch(() => Buffer.alloc(0));
    return text
      .subarray(Math.max(logStart, text.length - LOG_TAIL_BYTES))
      .toString('utf8')
      .trim();
  }

  async function waitUntil(probe: () => Promise<boolean>, timeoutMs: number): Promise<void> {
    for (let waitedMs = 0; !(await probe()); waitedMs += POLL_MS) {
      const failed = isOver ? await ended : waitedMs > timeoutMs ? `did not answer within ${timeoutMs} ms` : undefined;
      if (failed !== undefined) throw new LaunchError(`${options.name} ${failed}:\n${await logTail()}`);
      await delay(POLL_MS);
    }
  }

  function send(message: object): void {
    if (options.onMessage === undefined) throw new LaunchError(`${options.name} was started without a channel`);
    // Whoever waits for an answer hears of the end by `ended`.
    if (child.connected) child.send(message, () => undefined);
  }

  let stopping: Promise<void> | undefined;
  async function stopOnce(): Promise<void> {
    child.stdin?.destroy();
    const timer = setTimeout(() => {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
    }, STOP_TIMEOUT_MS);
    await ended;
    clearTimeout(timer);
  }

  return { hasEnded: () => isOver, ended, logTail, waitUntil, send, stop: () => (stopping ??= stopOnce()) };
}

/** Whether something accepts connections there. */
export async function acceptsConnections(port: number, host = '127.0.0.1'): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, host);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
