/** Strings outside of V8's heap, each by a number: as bytes one after the other. */
import { invariant } from '../invariant.ts';

/** Longer than any string of an event, which has 65,535 characters at most, at two bytes each. */
const PAGE_BYTES = 262_144;
/** Of the first page, which grows: most tables are of a few events. */
const FIRST_BYTES = 4_096;
/** An entry begins at a multiple, so that its place fits into 32 bits for far more than an answer may have. */
const ALIGNMENT = 4;
const HEADER_BYTES = 4;
/** A string of no greater unit has a byte for each. */
const NARROW_MAX = 0xff;

/** Where a string stands: below 2^32. */
export type TextPlace = number;

/** Strings are added and never taken out. Any string comes back as it was, lone surrogates included. */
export class TextArena {
  readonly #pages: Buffer[] = [];
  #end = 0;

  add(text: string): TextPlace {
    const isNarrow = isNarrowText(text);
    const length = isNarrow ? text.length : text.length * 2;
    invariant(HEADER_BYTES + length <= PAGE_BYTES, 'a string of an event is shorter than an event may be');
    const page = this.#pageFor(HEADER_BYTES + length);
    const start = this.#end + HEADER_BYTES;
    page.writeUInt32LE(length * 2 + (isNarrow ? 0 : 1), this.#end);
    // Most are short, and for these a call of the runtime costs more than a loop.
    if (isNarrow) for (let i = 0; i < length; i += 1) page[start + i] = text.charCodeAt(i);
    else page.write(text, start, 'utf16le');
    const place = ((this.#pages.length - 1) * PAGE_BYTES + this.#end) / ALIGNMENT;
    invariant(place < 2 ** 32, 'the strings of an answer are less than 16 GiB');
    this.#end += Math.ceil((HEADER_BYTES + length) / ALIGNMENT) * ALIGNMENT;
    return place;
  }

  get(place: TextPlace): string {
    const page = this.#pageOf(place);
    const start = startIn(place);
    const header = headerAt(page, start);
    return page.toString(header & 1 ? 'utf16le' : 'latin1', start, start + (header >>> 1));
  }

  /** Whether this string stands there. */
  isAt(place: TextPlace, text: string): boolean {
    const page = this.#pageOf(place);
    const start = startIn(place);
    const header = headerAt(page, start);
    const length = header >>> 1;
    if (header & 1) return length === text.length * 2 && page.toString('utf16le', start, start + length) === text;
    if (length !== text.length) return false;
    for (let i = 0; i < length; i += 1) if (page[start + i] !== text.charCodeAt(i)) return false;
    return true;
  }

  /** The UTF-16 unit at an index; 0: the string has none there. */
  unitAt(place: TextPlace, index: number): number {
    const page = this.#pageOf(place);
    const start = startIn(place);
    const header = headerAt(page, start);
    const offset = header & 1 ? index * 2 : index;
    if (offset >= header >>> 1) return 0;
    return header & 1 ? page.readUInt16LE(start + offset) : page.readUInt8(start + offset);
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

  #pageOf(place: TextPlace): Buffer {
    const page = this.#pages[Math.floor((place * ALIGNMENT) / PAGE_BYTES)];
    invariant(page !== undefined, 'a string stands where one was put');
    return page;
  }
}

function isNarrowText(text: string): boolean {
  for (let i = 0; i < text.length; i += 1) if (text.charCodeAt(i) > NARROW_MAX) return false;
  return true;
}

/** Where in its page the string begins, after its header. */
function startIn(place: TextPlace): number {
  return ((place * ALIGNMENT) % PAGE_BYTES) + HEADER_BYTES;
}

/** Twice the length in bytes, and one where each unit has two. */
function headerAt(page: Buffer, start: number): number {
  const at = start - HEADER_BYTES;
  return (page[at] ?? 0) | ((page[at + 1] ?? 0) << 8) | ((page[at + 2] ?? 0) << 16);
}
