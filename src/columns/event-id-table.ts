/**
 * Event ids and their numbers, the rows of columns: a set and a list at once, in some 70 bytes an id outside of V8's heap. As a
 * `Map` of strings they would be 150 that each collection goes through.
 */
import { type EventId } from '../matrix/identifiers.ts';
import { uint32s } from './column.ts';
import { hashText } from './hash-text.ts';
import { TextArena } from './text-arena.ts';

const FIRST_SLOTS = 128;

/** Rows count from 0 in the order in which ids were added first; none is ever taken out. */
export class EventIdTable implements Iterable<EventId> {
  readonly #texts = new TextArena();
  readonly #places = uint32s();
  readonly #hashes = uint32s();
  /** Rows and one, by hash; 0: free. At most half of them are taken. */
  #slots = new Int32Array(FIRST_SLOTS);
  #size = 0;
  /** Who asks for an id asks for it several times in a row. */
  #lastId: EventId | undefined;
  #lastRow = 0;

  get size(): number {
    return this.#size;
  }

  /** The row of an id, which gets one if it has none. */
  add(eventId: EventId): number {
    if (eventId === this.#lastId) return this.#lastRow;
    const hash = hashText(eventId);
    const slot = this.#slotOf(eventId, hash);
    const taken = this.#slots[slot] ?? 0;
    if (taken > 0) return this.#remember(eventId, taken - 1);
    const row = this.#size;
    this.#places.set(row, this.#texts.add(eventId));
    this.#hashes.set(row, hash);
    this.#slots[slot] = row + 1;
    this.#size += 1;
    if (this.#size * 2 > this.#slots.length) this.#rehash();
    return this.#remember(eventId, row);
  }

  /** `undefined`: it was never added. */
  rowOf(eventId: EventId): number | undefined {
    if (eventId === this.#lastId) return this.#lastRow;
    const taken = this.#slots[this.#slotOf(eventId, hashText(eventId))] ?? 0;
    return taken > 0 ? this.#remember(eventId, taken - 1) : undefined;
  }

  idOf(row: number): EventId {
    return this.#texts.get(this.#places.get(row)) as EventId;
  }

  /** A UTF-16 unit of the id; 0: it is shorter. */
  unitAt(row: number, index: number): number {
    return this.#texts.unitAt(this.#places.get(row), index);
  }

  /** In the order of the rows, those that are added meanwhile included. */
  *[Symbol.iterator](): Generator<EventId, void, undefined> {
    for (let row = 0; row < this.#size; row += 1) yield this.idOf(row);
  }

  #remember(eventId: EventId, row: number): number {
    this.#lastId = eventId;
    this.#lastRow = row;
    return row;
  }

  /** Where the id stands, or would. */
  #slotOf(eventId: EventId, hash: number): number {
    const mask = this.#slots.length - 1;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const taken = this.#slots[slot] ?? 0;
      if (taken === 0) return slot;
      if (this.#hashes.get(taken - 1) === hash && this.#texts.isAt(this.#places.get(taken - 1), eventId)) return slot;
    }
  }

  #rehash(): void {
    this.#slots = new Int32Array(this.#slots.length * 2);
    const mask = this.#slots.length - 1;
    for (let row = 0; row < this.#size; row += 1) {
      let slot = this.#hashes.get(row) & mask;
      while (this.#slots[slot] !== 0) slot = (slot + 1) & mask;
      this.#slots[slot] = row + 1;
    }
  }
}
