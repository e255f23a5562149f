/** A queue of queues: takes turns between rooms, so that a room of 100,000 members does not make one of ten wait. */
export class FairQueue<T> {
  readonly #byRoom = new Map<string, T[]>();

  push(room: string, item: T): void {
    const items = this.#byRoom.get(room);
    if (items === undefined) this.#byRoom.set(room, [item]);
    else items.push(item);
  }

  /** The item whose turn it is, left in its place. */
  peek(): T | undefined {
    for (const items of this.#byRoom.values()) return items[0];
    return undefined;
  }

  /** Takes the item whose turn it is; its room goes to the back. */
  shift(): T | undefined {
    for (const [room, items] of this.#byRoom) {
      this.#byRoom.delete(room);
      const item = items.shift();
      if (items.length > 0) this.#byRoom.set(room, items);
      return item;
    }
    return undefined;
  }

  /** Removes the items that `unwanted` names. */
  drop(unwanted: (item: T) => boolean): void {
    for (const [room, items] of this.#byRoom) {
      const kept = items.filter((item) => !unwanted(item));
      if (kept.length === 0) this.#byRoom.delete(room);
      else this.#byRoom.set(room, kept);
    }
  }
}
