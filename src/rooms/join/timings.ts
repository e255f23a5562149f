/** How long the steps of a join took, for whoever asked for it. */
import { type Clock } from '../../clock.ts';

/** Milliseconds spent in each step; a step tried again adds up. */
export class Timings {
  readonly byStep: Record<string, number> = {};
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  async measure<T>(step: string, work: () => Promise<T>): Promise<T> {
    const start = this.#clock.now();
    try {
      return await work();
    } finally {
      this.byStep[step] = (this.byStep[step] ?? 0) + this.#clock.now() - start;
    }
  }
}
