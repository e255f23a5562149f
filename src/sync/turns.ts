/** So many pieces of work at a time; the others wait for their turn, in the order in which they came. */
import { type Cancellation, errorOf } from '../cancellation.ts';

export class Turns {
  #free: number;
  readonly #waiting = new Set<() => void>();

  constructor(atOnce: number) {
    this.#free = atOnce;
  }

  /** Does the work when it is its turn. Who goes away before that leaves the queue: it rejects with the signal's reason. */
  async during<Result>(signal: Cancellation, work: () => Promise<Result>): Promise<Result> {
    if (this.#free > 0) this.#free -= 1;
    else await this.#turn(signal);
    try {
      return await work();
    } finally {
      const [next] = this.#waiting;
      if (next === undefined) this.#free += 1;
      else next();
    }
  }

  #turn(signal: Cancellation): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        signal.removeEventListener('abort', gone);
        this.#waiting.delete(begin);
      };
      const begin = (): void => {
        leave();
        resolve();
      };
      const gone = {
        handleEvent: (): void => {
          leave();
          reject(errorOf(signal.reason));
        },
      };
      if (signal.aborted) {
        gone.handleEvent();
        return;
      }
      this.#waiting.add(begin);
      signal.addEventListener('abort', gone);
    });
  }
}
