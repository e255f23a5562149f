/**
 * Gathers what is said of many things, of each the newest, and hands it on: at once where nothing was for a while, and all that comes
 * meanwhile together, when that while is over. So however often something is said, it is written so often at the most.
 */
export interface GatheringOptions<Item> {
  /** Between two times that something is handed on, milliseconds. */
  readonly everyMs: number;
  /** Of how many things something may wait. */
  readonly itemsMax: number;
  readonly handOn: (items: readonly Item[]) => Promise<void>;
  /** What was to be handed on is lost. */
  readonly onFailed: (error: unknown) => void;
}

export class Gathering<Item> {
  readonly #options: GatheringOptions<Item>;
  #waiting = new Map<string, Item>();
  #running: Promise<void> | undefined;
  #rest: NodeJS.Timeout | undefined;

  constructor(options: GatheringOptions<Item>) {
    this.#options = options;
  }

  /** What is said of `about` now; gives whether there was room for it. */
  put(about: string, item: Item): boolean {
    if (this.#waiting.size >= this.#options.itemsMax && !this.#waiting.has(about)) return false;
    this.#waiting.set(about, item);
    // What is said in the same moment goes together.
    if (this.#running === undefined && this.#rest === undefined) this.#runAfter(0);
    return true;
  }

  /** Hands on all that waits, and resolves when that is done. */
  async settle(): Promise<void> {
    while (this.#running !== undefined || this.#waiting.size > 0) {
      this.#run();
      await this.#running;
    }
  }

  /** The same, for the last time. */
  async close(): Promise<void> {
    await this.settle();
    clearTimeout(this.#rest);
  }

  #run(): void {
    if (this.#running !== undefined || this.#waiting.size === 0) return;
    const items = [...this.#waiting.values()];
    this.#waiting = new Map();
    this.#running = this.#options
      .handOn(items)
      .catch((error: unknown) => this.#options.onFailed(error))
      .finally(() => {
        this.#running = undefined;
        this.#runAfter(this.#options.everyMs);
      });
  }

  #runAfter(ms: number): void {
    clearTimeout(this.#rest);
    this.#rest = setTimeout(() => {
      this.#rest = undefined;
      this.#run();
    }, ms);
  }
}
