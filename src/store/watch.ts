/**
 * One thing that several callers wait for in a room: they share its looks, so that a thousand waiters look as often as one.
 * A waiter is given the result of a look that began after it came, never of an earlier one.
 */

interface Waiter<Result> {
  /** Its time is over: the next look is its last. */
  isLate: boolean;
  settle(result: Result | undefined): void;
  fail(error: unknown): void;
}

export interface WatchOptions<Result> {
  readonly look: () => Promise<Result | undefined>;
  /** How long until the next look without any news, milliseconds. */
  readonly pauseMs: () => number;
  /** Nobody waits any more. */
  readonly onIdle: () => void;
}

export class Watch<Result> {
  readonly #options: WatchOptions<Result>;
  readonly #waiters = new Set<Waiter<Result>>();
  #timer: NodeJS.Timeout | undefined;
  #isStale = false;
  #isLooking = false;

  constructor(options: WatchOptions<Result>) {
    this.#options = options;
  }

  get waiting(): number {
    return this.#waiters.size;
  }

  /** Gives the first result that is not `undefined`; `undefined` after `timeoutMs`. Rejects with `signal`'s reason. */
  wait(signal: AbortSignal, timeoutMs: number): Promise<Result | undefined> {
    return new Promise((resolve, reject) => {
      const end = (finish: () => void): void => {
        clearTimeout(deadline);
        signal.removeEventListener('abort', onAbort);
        this.#waiters.delete(waiter);
        if (this.#waiters.size === 0) this.#rest();
        finish();
      };
      const waiter: Waiter<Result> = {
        isLate: timeoutMs <= 0,
        settle: (result) => {
          end(() => {
            resolve(result);
          });
        },
        fail: (error) => {
          end(() => {
            reject(error instanceof Error ? error : new Error(String(error)));
          });
        },
      };
      const onAbort = (): void => {
        waiter.fail(signal.reason);
      };
      const deadline = setTimeout(() => {
        waiter.isLate = true;
        this.wake();
      }, timeoutMs);
      signal.addEventListener('abort', onAbort);
      this.#waiters.add(waiter);
      this.wake();
    });
  }

  /** Something may have changed: looks at once, and once more after a look that is under way. */
  wake(): void {
    this.#isStale = true;
    if (!this.#isLooking) void this.#lookWhileStale();
  }

  /** Looks in `ms`, or sooner when woken. */
  wakeIn(ms: number): void {
    clearTimeout(this.#timer);
    if (this.#waiters.size === 0) return;
    this.#timer = setTimeout(() => {
      this.wake();
    }, ms);
  }

  async #lookWhileStale(): Promise<void> {
    this.#isLooking = true;
    while (this.#isStale && this.#waiters.size > 0) {
      this.#isStale = false;
      const asking = [...this.#waiters].map((waiter) => ({ waiter, isLast: waiter.isLate }));
      try {
        const result = await this.#options.look();
        for (const { waiter, isLast } of asking) {
          if ((result !== undefined || isLast) && this.#waiters.has(waiter)) waiter.settle(result);
        }
      } catch (error) {
        for (const { waiter } of asking) if (this.#waiters.has(waiter)) waiter.fail(error);
      }
    }
    this.#isLooking = false;
    this.wakeIn(this.#options.pauseMs());
  }

  #rest(): void {
    clearTimeout(this.#timer);
    this.#options.onIdle();
  }
}
