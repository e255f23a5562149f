/** Splits a stream of bytes into lines that end with `\n` and nothing else, without decoding them. */

const NEWLINE = 0x0a;

/** Stands for a line that was longer than the limit, and is gone. */
export const OVERLONG: unique symbol = Symbol('a line beyond the limit');

export class LineSplitter {
  readonly #isSplitting: boolean;
  readonly #bytesMax: number;
  #parts: Uint8Array[] = [];
  #bytes = 0;

  /** Unless it `isSplitting`, the whole stream is one line. One of more than `bytesMax` comes out as `OVERLONG`. */
  constructor({ isSplitting, bytesMax }: { readonly isSplitting: boolean; readonly bytesMax: number }) {
    this.#isSplitting = isSplitting;
    this.#bytesMax = bytesMax;
  }

  /** The lines that the chunk completes, without their ends; some are views of the chunk. */
  *push(chunk: Uint8Array): Generator<Uint8Array | typeof OVERLONG> {
    let start = 0;
    while (this.#isSplitting) {
      const end = chunk.indexOf(NEWLINE, start);
      if (end < 0) break;
      this.#add(chunk.subarray(start, end));
      yield this.#take();
      start = end + 1;
    }
    if (start < chunk.length) this.#add(chunk.subarray(start));
  }

  /** The last line, where the stream does not end with the end of one; without lines, the whole stream. */
  *end(): Generator<Uint8Array | typeof OVERLONG> {
    if (this.#bytes > 0 || !this.#isSplitting) yield this.#take();
  }

  #add(part: Uint8Array): void {
    this.#bytes += part.length;
    if (this.#bytes > this.#bytesMax) this.#parts = [];
    else this.#parts.push(part);
  }

  #take(): Uint8Array | typeof OVERLONG {
    const [only, ...others] = this.#parts;
    const isOverlong = this.#bytes > this.#bytesMax;
    const line = only !== undefined && others.length === 0 ? only : Buffer.concat(this.#parts);
    this.#parts = [];
    this.#bytes = 0;
    return isOverlong ? OVERLONG : line;
  }
}
