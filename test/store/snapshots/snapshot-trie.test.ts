import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  type BuiltTrie,
  type ChunkHash,
  type GetNode,
  LEAF_ENTRIES_MAX,
  type Missing,
  type TrieChange,
  type TrieEntry,
  type TrieSelection,
  buildTrie,
  changeTrie,
  decodeChunk,
  readTrie,
  trieKey,
} from '../../../src/store/snapshots/snapshot-trie.ts';
import { diffPairs, diffTries, partsOf } from '../../../src/store/snapshots/compare-tries.ts';

/** Chunks as the database holds them; an operation sees only what it asked for. */
class Chunks {
  readonly bodies = new Map<ChunkHash, Uint8Array>();
  loaded = 0;

  add(trie: BuiltTrie): ChunkHash {
    for (const [hash, body] of trie.chunks) this.bodies.set(hash, body);
    return trie.root;
  }

  run<Result extends { missing?: undefined }>(operation: (get: GetNode) => Missing | Result): Result {
    const loaded = new Map<ChunkHash, ReturnType<typeof decodeChunk>>();
    for (;;) {
      const result = operation((hash) => loaded.get(hash));
      if (result.missing === undefined) {
        this.loaded = loaded.size;
        return result;
      }
      for (const hash of result.missing) loaded.set(hash, decodeChunk(this.bodies.get(hash)!));
    }
  }

  read(root: ChunkHash, selection: TrieSelection = { members: true }): Map<number, number> {
    const { entries } = this.run((get) => readTrie(root, selection, get));
    expect(new Set(entries.map(({ key }) => key)).size).toBe(entries.length);
    return new Map(entries.map(({ key, value }) => [key, value]));
  }

  change(root: ChunkHash, changes: readonly TrieChange[]): ChunkHash {
    return this.add(this.run((get) => changeTrie(root, changes, get)));
  }
}

function entriesOf(map: ReadonlyMap<number, number>): TrieEntry[] {
  return Array.from(map, ([key, value]) => ({ key, value }));
}

/** States from empty to two levels deep, with keys near each other and up to 2^53. */
const arbitraryState = fc
  .record({
    near: fc.integer({ min: 0, max: 20_000 }),
    members: fc.integer({ min: 0, max: 2_000 }),
    others: fc.integer({ min: 0, max: 400 }),
    huge: fc.array(fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }), { maxLength: 20 }),
    salt: fc.nat(1_000),
  })
  .map(({ near, members, others, huge, salt }) => {
    const state = new Map<number, number>();
    for (let i = 0; i < members; i += 1) state.set(trieKey(near + i, true), near + ((i * 7919 + salt) % 100_000));
    for (let i = 0; i < others; i += 1) state.set(trieKey(near + 5_000 + i, false), i * 3 + salt);
    for (const key of huge) state.set(key, Number.MAX_SAFE_INTEGER - key);
    return state;
  });

const runs = { numRuns: 60 };

test('the id of a state depends on its entries alone, not on the order or the changes they came by', () => {
  fc.assert(
    fc.property(arbitraryState, arbitraryState, fc.nat(), (target, detour, cut) => {
      const chunks = new Chunks();
      const entries = entriesOf(target);
      const root = chunks.add(buildTrie(entries));
      expect(buildTrie(entries.toReversed()).root).toBe(root);
      const start = cut % (entries.length + 1);
      const half = chunks.add(buildTrie(entries.slice(start)));
      expect(chunks.change(half, entries.slice(0, start))).toBe(root);
      // Through another state, and back.
      const away = chunks.change(root, entriesOf(detour));
      const back = [...detour.keys()].map((key) => ({ key, value: target.get(key) ?? null }));
      expect(chunks.change(away, back)).toBe(root);
    }),
    runs,
  );
});

test('what was put in is read back, whole, without memberships, and by key', () => {
  fc.assert(
    fc.property(arbitraryState, fc.array(fc.nat(20_000), { maxLength: 30 }), (state, others) => {
      const chunks = new Chunks();
      const root = chunks.add(buildTrie(entriesOf(state)));
      expect(chunks.read(root)).toEqual(state);
      expect(chunks.read(root, { members: false })).toEqual(new Map([...state].filter(([key]) => key % 2 === 0)));
      const keys = new Set([...others, ...[...state.keys()].filter((_, i) => i % 17 === 0)]);
      expect(chunks.read(root, { keys })).toEqual(new Map([...state].filter(([key]) => keys.has(key))));
    }),
    runs,
  );
});

test('the difference of two states equals the naive one', () => {
  fc.assert(
    fc.property(arbitraryState, arbitraryState, fc.boolean(), (first, second, related) => {
      const other = related ? new Map([...first, ...[...second].slice(0, 20)].slice(5)) : second;
      const chunks = new Chunks();
      const [a, b] = [chunks.add(buildTrie(entriesOf(first))), chunks.add(buildTrie(entriesOf(other)))];
      const naive = [...new Set([...first.keys(), ...other.keys()])]
        .map((key) => ({ key, before: first.get(key) ?? null, after: other.get(key) ?? null }))
        .filter(({ before, after }) => before !== after);
      const { differences } = chunks.run((get) => diffTries(a, b, get));
      const byKey = (x: { key: number }, y: { key: number }): number => x.key - y.key;
      expect(differences.toSorted(byKey)).toEqual(naive.toSorted(byKey));
    }),
    runs,
  );
});

test('what two states differ in is found in parts, each of about the size asked for, from nothing and from a leaf as well', () => {
  fc.assert(
    fc.property(arbitraryState, arbitraryState, fc.nat(300), fc.boolean(), (first, second, size, fromNothing) => {
      const other = new Map([...first, ...second]);
      const chunks = new Chunks();
      const [a, b] = [chunks.add(buildTrie(entriesOf(first))), chunks.add(buildTrie(entriesOf(other)))];
      const before = fromNothing ? undefined : a;
      const { parts, leaves } = chunks.run((get) => partsOf({ before, after: b }, size, get));
      const found = parts.flatMap((pairs) => {
        return chunks.run((get) => diffPairs(pairs, (hash) => leaves.get(hash) ?? get(hash))).differences;
      });
      const whole = chunks.run((get) => diffPairs([{ before, after: b }], get)).differences;
      const byKey = (x: { key: number }, y: { key: number }): number => x.key - y.key;
      expect(found.toSorted(byKey)).toEqual(whole.toSorted(byKey));
      if (fromNothing) expect(found).toHaveLength(other.size);
      expect(parts.length).toBeLessThanOrEqual(64);
    }),
    runs,
  );
});

test('a state of a hundred thousand members costs a few chunks to change, to compare, and to read without them', () => {
  const chunks = new Chunks();
  const state = new Map<number, number>();
  for (let nid = 1; nid <= 100_000; nid += 1) state.set(trieKey(nid, nid > 40), nid + 1_000_000);
  const built = buildTrie(entriesOf(state));
  const root = chunks.add(built);
  expect(built.chunks.size).toBeLessThan(4_500);
  const changed = chunks.run((get) => changeTrie(root, [{ key: trieKey(77_777, true), value: 5 }], get));
  expect(changed.chunks.size).toBe(3);
  expect([...changed.chunks.values()].reduce((sum, body) => sum + body.length, 0)).toBeLessThan(4_096);
  chunks.add(changed);
  expect(chunks.run((get) => diffTries(root, changed.root, get)).differences).toEqual([
    { key: trieKey(77_777, true), before: 1_077_777, after: 5 },
  ]);
  expect(chunks.loaded).toBe(6);
  expect(chunks.read(root, { members: false }).size).toBe(40);
  expect(chunks.loaded).toBe(2);
});

test('a state at the limit of a leaf is one chunk, and one entry more splits it', () => {
  const entries = Array.from({ length: LEAF_ENTRIES_MAX }, (_, i) => ({ key: trieKey(i, i % 2 === 0), value: i }));
  expect(buildTrie(entries).chunks.size).toBe(1);
  expect(buildTrie([...entries, { key: trieKey(999, true), value: 1 }]).chunks.size).toBeGreaterThan(2);
  expect(buildTrie([]).chunks.size).toBe(1);
});

test('changing nothing gives the same state, and emptying a state gives the empty one', () => {
  const chunks = new Chunks();
  const entries = Array.from({ length: 1_000 }, (_, i) => ({ key: trieKey(i, true), value: i }));
  const root = chunks.add(buildTrie(entries));
  expect(chunks.change(root, [])).toBe(root);
  expect(chunks.change(root, entries)).toBe(root);
  expect(
    chunks.change(
      root,
      entries.map(({ key }) => ({ key, value: null })),
    ),
  ).toBe(buildTrie([]).root);
});
