import { expect, test } from 'vitest';
import { createCaches } from '../../src/store/caches.ts';
import { trieKey } from '../../src/store/snapshots/snapshot-trie.ts';

test('of the numbers of places as much is kept in memory as is allowed, however long the names are', () => {
  const { stateKeys } = createCaches();
  const characters = (length: number): number => {
    stateKeys.clear();
    for (let i = 0; i < 60_000; i += 1) stateKeys.set(String(i).padStart(length, 'x'), trieKey(i, false));
    return stateKeys.size * length;
  };
  expect(characters(40)).toBe(50_000 * 40);
  expect(characters(510)).toBeLessThan(5_000_000);
});
