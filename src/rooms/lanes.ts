/** A bounded number of tasks side by side, whose first failure ends the others. */

/** Tasks of one piece of work, such as the batches of a body. */
export interface Lanes {
  /** Aborted by the first failure, or with the signal given; its reason is what `start` and `drain` throw. */
  readonly signal: AbortSignal;
  /** Starts a task as soon as a lane is free, and resolves then; throws once any task has failed. */
  start(task: () => Promise<void>): Promise<void>;
  /** Resolves when all tasks are done. Throws the first failure, after every task has ended. */
  drain(): Promise<void>;
}

/** `count`: how many tasks run at once. `outer`: aborts them from outside. */
export function createLanes(count: number, outer: AbortSignal): Lanes {
  const running = new Set<Promise<void>>();
  const failed = new AbortController();
  const signal = AbortSignal.any([outer, failed.signal]);
  return {
    signal,
    async start(task) {
      while (running.size >= count && !signal.aborted) await Promise.race(running);
      signal.throwIfAborted();
      const run = task()
        .catch((error: unknown) => failed.abort(error))
        .finally(() => running.delete(run));
      running.add(run);
    },
    async drain() {
      while (running.size > 0) await Promise.race(running);
      signal.throwIfAborted();
    },
  };
}
