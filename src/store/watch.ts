/**
 * One thing that several callers wait for in a room: they share its looks, so that a thousand waiters look as often as one.
 * A waiter is given the result of a look that began after it came, never of an earlier one.
 */
import { type Cancellation, errorOf } from '../cancellation.ts';

/** Thousands wait at a time: it has no functions of its own, and no timer. */
class Waiter<Result> {
  /** By `performance.now()`: when its time is over. */
  readonly until: number;
  /** Its time is over: the next look is its last. */
  isLate: boolean;
  readonly #watch: Watch<Result>;
  readonly #signal: Cancellation;
  readonly #resolve: (result: Result | undefined) => void;
  readonly #reject: (error: Error) => void;

  constructor(
    watch: Watch<Result>,
    { signal, timeoutMs }: { readonly signal: Cancellation; readonly timeoutMs: number },
    resolve: (result: Result | undefined) => void,
    reject: (error: Error) => void,
  ) {
    this.until = performance.now() + timeoutMs;
    this.isLate = timeoutMs <= 0;
    this.#watch = watch;
    this.#signal = signal;
    this.#resolve = resolve;
    this.#reject = reject;
    signal.addEventListener('abort', this);
  }

  /** Of the signal, when it is aborted. */
  handleEvent(): void {
    this.fail(this.#signal.reason);
  }

  settle(result: Result | undefined): void {
    this.#end();
    this.#resolve(result);
  }

  fail(error: unknown): void {
    this.#end();
    this.#reject(errorOf(error));
  }

  #end(): void {
    this.#signal.removeEventListener('abort', this);
    this.#watch.leave(this);
  }
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
  /** Of the first waiter whose time will be over. */
  #deadline: NodeJS.Timeout | undefined;
  #deadlineAt = Number.POSITIVE_INFINITY;
  #isStale = false;
  #isLooking = false;

  constructor(options: WatchOptions<Result>) {
    this.#options = options;
  }

  get waiting(): number {
    return this.#waiters.size;
  }

  /** Gives the first result that is not `undefined`; `undefined` after `timeoutMs`. Rejects with `signal`'s reason. */
  wait(signal: Cancellation, timeoutMs: number): Promise<Result | undefined> {
    return new Promise((resolve, reject) => {
      const waiter = new Waiter(this, { signal, timeoutMs }, resolve, reject);
      this.#waiters.add(waiter);
      if (!waiter.isLate) this.#expireBy(waiter.until);
      this.wake();
    });
  }

  /** Somebody waits no longer. */
  leave(waiter: Waiter<Result>): void {
    this.#waiters.delete(waiter);
    if (this.#waiters.size === 0) this.#rest();
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

  #expireBy(until: number): void {
    if (until >= this.#deadlineAt) return;
    clearTimeout(this.#deadline);
    this.#deadlineAt = until;
    this.#deadline = setTimeout(() => this.#expire(), Math.max(0, until - performance.now()));
  }

  #expire(): void {
    const now = performance.now();
    this.#deadlineAt = Number.POSITIVE_INFINITY;
    for (const waiter of this.#waiters) {
      if (waiter.until <= now) waiter.isLate = true;
      else this.#expireBy(waiter.until);
    }
    this.wake();
  }

  #rest(): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#deadline);
    this.#deadlineAt = Number.POSITIVE_INFINITY;
    this.#options.onIdle();
  }
}
