/** A long answer that many are sent in the same moment: it is written once, and each takes its parts at his own pace. */

/** What becomes of the writing. */
type Progress = 'going-on' | 'ended' | 'cut-off' | { readonly error: unknown };

export class SharedBody {
  /** When nothing more is written: whether all is there. */
  readonly written: Promise<boolean>;
  readonly #parts: Buffer[] = [];
  readonly #keep: (bytes: number) => boolean;
  #progress: Progress = 'going-on';
  #wake: (() => void)[] = [];

  /** @param keep whether so many bytes more may be kept; where not, everybody writes the rest for himself */
  constructor(written: AsyncGenerator<string, undefined>, keep: (bytes: number) => boolean) {
    this.#keep = keep;
    this.written = this.#write(written);
  }

  /** Once there is something to send. Throws what the writing threw before. */
  async begun(): Promise<void> {
    while (this.#parts.length === 0 && this.#progress === 'going-on') await this.#news();
    if (typeof this.#progress === 'object' && this.#parts.length === 0) throw this.#progress.error;
  }

  /** @param again the same once more, in the same parts */
  async *read(again: () => Promise<AsyncGenerator<string, undefined>>): AsyncGenerator<Buffer, undefined> {
    let taken = 0;
    for (;;) {
      for (; taken < this.#parts.length; taken += 1) yield this.#parts[taken] as Buffer;
      if (typeof this.#progress === 'object') throw this.#progress.error;
      if (this.#progress === 'ended') return;
      if (this.#progress === 'cut-off') break;
      await this.#news();
    }
    let passed = 0;
    for await (const part of await again()) {
      passed += 1;
      if (passed > taken) yield Buffer.from(part);
    }
  }

  async #write(written: AsyncGenerator<string, undefined>): Promise<boolean> {
    let progress: Progress = 'ended';
    try {
      for await (const part of written) {
        const bytes = Buffer.from(part);
        this.#parts.push(bytes);
        if (!this.#keep(bytes.length)) {
          progress = 'cut-off';
          break;
        }
        this.#tell();
      }
    } catch (error) {
      progress = { error };
    }
    this.#progress = progress;
    this.#tell();
    return progress === 'ended';
  }

  #news(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake.push(resolve);
    });
  }

  #tell(): void {
    const wake = this.#wake;
    this.#wake = [];
    for (const resolve of wake) resolve();
  }
}
