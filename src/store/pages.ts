/** Lists that are longer than one statement should be, or memory should hold. */

/** At most `size` items at a time; none where there are none. */
export function* inPages<Item>(items: Iterable<Item>, size: number): Generator<Item[], void, undefined> {
  let page: Item[] = [];
  for (const item of items) {
    page.push(item);
    if (page.length < size) continue;
    yield page;
    page = [];
  }
  if (page.length > 0) yield page;
}
