/**
 * Numbers by row, outside of V8's heap: what is kept of each of a million events is bytes in typed arrays, which no collection
 * looks at, and not objects.
 */

type Items = Uint8Array | Int32Array | Uint32Array | Float64Array;

const FIRST_ROWS = 64;

/** Grows as it is written; rows that nobody has written hold 0. */
export class Column<Kind extends Items> {
  #items: Kind;
  readonly #make: (rows: number) => Kind;

  /** @param make for so many rows, all 0 */
  constructor(make: (rows: number) => Kind) {
    this.#make = make;
    this.#items = make(FIRST_ROWS);
  }

  get(row: number): number {
    return this.#items[row] ?? 0;
  }

  set(row: number, value: number): void {
    if (row >= this.#items.length) this.#grow(row);
    this.#items[row] = value;
  }

  #grow(row: number): void {
    // What is not written yet takes no memory: the system gives pages when they are touched.
    const larger = this.#make(Math.max(row + 1, this.#items.length * 2));
    larger.set(this.#items);
    this.#items = larger;
  }
}

/** Whole numbers below 2^8. */
export function bytes(): Column<Uint8Array> {
  return new Column((rows) => new Uint8Array(rows));
}

/** Whole numbers from -2^31 to below 2^31. */
export function int32s(): Column<Int32Array> {
  return new Column((rows) => new Int32Array(rows));
}

/** Whole numbers below 2^32. */
export function uint32s(): Column<Uint32Array> {
  return new Column((rows) => new Uint32Array(rows));
}

/** Whole numbers up to 2^53. */
export function numbers(): Column<Float64Array> {
  return new Column((rows) => new Float64Array(rows));
}
