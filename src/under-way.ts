/** How much of a kind each of many strangers has under way at a time, here: more is refused, not made to wait. */
export class UnderWay {
  readonly #max: number;
  readonly #byGroup = new Map<string, number>();

  constructor(max: number) {
    this.#max = max;
  }

  /** Runs `task`, and gives what it gives. @throws what `refusal` makes, where the group has as much under way as it may */
  async run<Result>(group: string, task: () => Promise<Result>, refusal: () => Error): Promise<Result> {
    const ofGroup = this.#byGroup.get(group) ?? 0;
    if (ofGroup >= this.#max) throw refusal();
    this.#byGroup.set(group, ofGroup + 1);
    try {
      return await task();
    } finally {
      const left = (this.#byGroup.get(group) ?? 1) - 1;
      if (left === 0) this.#byGroup.delete(group);
      else this.#byGroup.set(group, left);
    }
  }
}
