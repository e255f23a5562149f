/** Strings outside of V8's heap, each by a number: as bytes one after the other. */
import { invariant } from '../invariant.ts';

/** Longer than any string of an event, which has 65,535 characters at most, at two bytes each. */
const PAGE_BYTES = 262_144;
/** Of the first page, which grows: most tables are of a few events. */
const FIRST_BYTES = 4_096;
/** An entry begins at a multiple, so that its place fits into 32 bits for far more than an answer may have. */
const ALIGNMENT = 4;
const HEADER_BYTES = 4;
const NARROW = /^[\0-\u00ff]*$/;

/** Where a string stands: below 2^32. */
export type TextPlace = number;

/** Strings are added and never taken out. Any string comes back as it was, lone surrogates included. */
export class TextArena {
  readonly #pages: Buffer[] = [];
  #end = 0;

  add(text: string): TextPlace {
    const isNarrow = NARROW.test(text);
    const length = isNarrow ? text.length : text.length * 2;
    invariant(HEADER_BYTES + length <= PAGE_BYTES, 'a string of an event is shorter than an event may be');
    const page = this.#pageFor(HEADER_BYTES + length);
    page.writeUInt32LE(length * 2 + (isNarrow ? 0 : 1), this.#end);
    page.write(text, this.#end + HEADER_BYTES, isNarrow ? 'latin1' : 'utf16le');
    const place = ((this.#pages.length - 1) * PAGE_BYTES + this.#end) / ALIGNMENT;
    invariant(place < 2 ** 32, 'the strings of an answer are less than 16 GiB');
    this.#end += Math.ceil((HEADER_BYTES + length) / ALIGNMENT) * ALIGNMENT;
    return place;
  }

  get(place: TextPlace): string {
    const { page, start, length, isNarrow } = this.#find(place);
    return page.toString(isNarrow ? 'latin1' : 'utf16le', start, start + length);
  }

  /** Whether this string stands there. */
  isAt(place: TextPlace, text: string): boolean {
    const { page, start, length, isNarrow } = this.#find(place);
    if (!isNarrow) return length === text.length * 2 && page.toString('utf16le', start, start + length) === text;
    if (length !== text.length) return false;
    for (let i = 0; i < length; i += 1) if (page[start + i] !== text.charCodeAt(i)) return false;
    return true;
  }

  /** The UTF-16 unit at an index; 0: the string has none there. */
  unitAt(place: TextPlace, index: number): number {
    const { page, start, length, isNarrow } = this.#find(place);
    const offset = isNarrow ? index : index * 2;
    if (offset >= length) return 0;
    return isNarrow ? page.readUInt8(start + offset) : page.readUInt16LE(start + offset);
  }

  /** The last page, with room for so many bytes at `#end`. */
  #pageFor(length: number): Buffer {
    const end = this.#end + length;
    const last = this.#pages.at(-1);
    if (last !== undefined && end <= last.length) return last;
    if (last === undefined || end > PAGE_BYTES) {
      const page = Buffer.alloc(last === undefined ? Math.max(FIRST_BYTES, length) : PAGE_BYTES);
      this.#pages.push(page);
      this.#end = 0;
      return page;
    }
    const larger = Buffer.alloc(Math.min(PAGE_BYTES, Math.max(last.length * 2, end)));
    last.copy(larger, 0, 0, this.#end);
    this.#pages[this.#pages.length - 1] = larger;
    return larger;
  }

  #find(place: TextPlace): {
    readonly page: Buffer;
    readonly start: number;
    readonly length: number;
    readonly isNarrow: boolean;
  } {
    const offset = place * ALIGNMENT;
    const page = this.#pages[Math.floor(offset / PAGE_BYTES)];
    invariant(page !== undefined, 'a string stands where one was put');
    const header = page.readUInt32LE(offset % PAGE_BYTES);
    const start = (offset % PAGE_BYTES) + HEADER_BYTES;
    return { page, start, length: Math.floor(header / 2), isNarrow: header % 2 === 0 };
  }
}
