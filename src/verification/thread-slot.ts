/**
 * One place in the pool: a worker thread, what it is working on, and what happens when it dies. A dead thread takes its
 * chunks with it (each fails with a clear error, none is lost silently) and is replaced when there is work again.
 */
import { Worker } from 'node:worker_threads';
import { type ThreadReply, type ThreadRequest } from './messages.ts';

/** One chunk being worked on and one behind it in the thread's mailbox, so that it never waits for the main thread. */
export const IN_FLIGHT_MAX = 2;

/** Of new objects in a thread: a chunk's are a few MB. Left to itself V8 takes 48 MB for them, in each thread. */
const YOUNG_GENERATION_MB = 24;

/** The thread died, or a chunk could not be worked on for a fault of ours. Trying again is safe. */
export class VerificationThreadError extends Error {
  override readonly name = 'VerificationThreadError';
}

export interface ThreadTask {
  readonly request: Exclude<ThreadRequest, { type: 'forget' }>;
  readonly transfer: readonly ArrayBuffer[];
  readonly settle: (reply: ThreadReply | Error) => void;
}

/** Counts lives, so that a chunk prepared by a dead thread is not verified by its successor. */
export type ThreadLife = number;

export class ThreadSlot {
  readonly #startThread: () => Worker;
  readonly #onIdle: () => void;
  readonly #inFlight = new Map<number, ThreadTask>();
  #worker: Worker | undefined;
  #life: ThreadLife = 0;

  /** `onIdle` is called whenever the thread may take more work. */
  constructor(startThread: () => Worker, onIdle: () => void) {
    this.#startThread = startThread;
    this.#onIdle = onIdle;
    this.#worker = this.#start();
  }

  get life(): ThreadLife {
    return this.#life;
  }

  /** How many chunks it has in hand; at most `IN_FLIGHT_MAX` are sent. */
  get load(): number {
    return this.#inFlight.size;
  }

  send(task: ThreadTask): void {
    const worker = (this.#worker ??= this.#start());
    this.#inFlight.set(task.request.chunk, task);
    worker.ref();
    worker.postMessage(task.request, task.transfer);
  }

  forget(chunk: number): void {
    const request: ThreadRequest = { type: 'forget', chunk };
    this.#worker?.postMessage(request);
  }

  async close(): Promise<void> {
    const worker = this.#worker;
    this.#worker = undefined;
    this.#fail('the verification pool was closed');
    await worker?.terminate();
  }

  #start(): Worker {
    const worker = this.#startThread();
    // A pool without work does not keep the process alive.
    worker.unref();
    worker.on('message', (reply: ThreadReply) => this.#take(reply));
    worker.on('error', (error) => this.#died(worker, error instanceof Error ? error.message : String(error)));
    worker.on('exit', (code) => this.#died(worker, `it exited with code ${code}`));
    return worker;
  }

  #take(reply: ThreadReply): void {
    const task = this.#inFlight.get(reply.chunk);
    this.#inFlight.delete(reply.chunk);
    if (this.#inFlight.size === 0) this.#worker?.unref();
    task?.settle(reply.type === 'failed' ? new VerificationThreadError(reply.message) : reply);
    this.#onIdle();
  }

  #died(worker: Worker, reason: string): void {
    if (this.#worker !== worker) return;
    this.#worker = undefined;
    this.#life++;
    this.#fail(`a verification thread died: ${reason}`);
    this.#onIdle();
  }

  #fail(message: string): void {
    const tasks = [...this.#inFlight.values()];
    this.#inFlight.clear();
    for (const task of tasks) task.settle(new VerificationThreadError(message));
  }
}

/** Starts a thread on thread.ts, or on what it was built into. */
export function startVerificationThread(): Worker {
  return new Worker(threadEntry(), {
    name: 'rejoinder-verification',
    resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB },
  });
}

/**
 * Built, the entry is a file beside this one. From source (tests) it is TypeScript, and a thread has no loader for that:
 * `--import tsx` in its execArgv has no effect on Node 20, so a line of JavaScript registers the loader there first.
 */
function threadEntry(): URL {
  if (!import.meta.url.endsWith('.ts')) return new URL('./thread.js', import.meta.url);
  const loader = import.meta.resolve('tsx/esm/api');
  const entry = new URL('./thread.ts', import.meta.url).href;
  const code = `import { register } from ${JSON.stringify(loader)}; register(); await import(${JSON.stringify(entry)});`;
  return new URL(`data:text/javascript,${encodeURIComponent(code)}`);
}
