/**
 * What differs between tries: two, or the hundred of a room with a hundred forks. Subtrees that are the same in all are not
 * looked into, so that it costs what differs and not what the states hold. Pure, as snapshot-trie.ts.
 */
import {
  type Branch,
  type Child,
  type ChunkHash,
  type GetNode,
  type Leaf,
  type Missing,
  type TrieEntry,
  type TrieKey,
  type TrieNode,
  leafEntries,
  splitLeaf,
} from './snapshot-trie.ts';

/** A key at which not all tries have the same value. */
export interface TrieConflict {
  readonly key: TrieKey;
  /** Of each trie, in the order given; `null`: it has none. */
  readonly values: readonly (number | null)[];
}

/** Where a comparison stops. */
export interface ComparisonLimits {
  /** Conflicts times tries. */
  readonly valuesMax: number;
  /** Different chunks looked at. */
  readonly chunksMax: number;
}

/** More differs than was to be compared. */
export interface TooDifferent {
  readonly tooDifferent: true;
  /** Found until then. */
  readonly conflicts: readonly TrieConflict[];
  readonly missing?: undefined;
}

interface Comparison {
  readonly tooDifferent?: undefined;
  readonly conflicts: readonly TrieConflict[];
  readonly missing?: undefined;
}

/** Tries that have the same subtree at one position; no hash: nothing is there. */
interface Alike {
  readonly hash: ChunkHash | undefined;
  /** Indexes of the tries. */
  readonly tries: number[];
}

const EMPTY_LEAF: Leaf = { kind: 'leaf', keys: new Float64Array(), values: new Float64Array() };
const NO_LIMITS: ComparisonLimits = { valuesMax: Number.POSITIVE_INFINITY, chunksMax: Number.POSITIVE_INFINITY };

/** Compares the tries of `roots`; `undefined`: an empty one. */
export function compareTries(
  roots: readonly (ChunkHash | undefined)[],
  get: GetNode,
  limits: ComparisonLimits = NO_LIMITS,
): Missing | TooDifferent | Comparison {
  const walk = new Walk(roots.length, get, limits);
  walk.visit(groupsOf(roots));
  const { conflicts, missing } = walk;
  if (walk.isOverLimit) return { tooDifferent: true, conflicts };
  return missing.size > 0 ? { missing: [...missing] } : { conflicts };
}

/** One run of `compareTries`. Goes on past what is missing, to name all of it. */
class Walk {
  readonly conflicts: TrieConflict[] = [];
  readonly missing = new Set<ChunkHash>();
  isOverLimit = false;
  readonly #width: number;
  readonly #get: GetNode;
  readonly #limits: ComparisonLimits;
  #chunks = 0;

  constructor(width: number, get: GetNode, limits: ComparisonLimits) {
    this.#width = width;
    this.#get = get;
    this.#limits = limits;
  }

  #node(hash: ChunkHash | undefined): TrieNode | undefined {
    if (hash === undefined) return EMPTY_LEAF;
    if (++this.#chunks > this.#limits.chunksMax) this.isOverLimit = true;
    const node = this.#get(hash);
    if (node === undefined) this.missing.add(hash);
    return node;
  }

  visit(groups: readonly Alike[]): void {
    if (groups.length < 2 || this.isOverLimit) return;
    const nodes: TrieNode[] = [];
    for (const { hash } of groups) {
      const node = this.#node(hash);
      if (node !== undefined) nodes.push(node);
    }
    if (nodes.length < groups.length) return;
    if (nodes.every((node) => node.kind === 'branch' || node === EMPTY_LEAF)) {
      this.#visitBelow(groups, nodes);
    } else {
      this.#compareEntries(
        groups,
        nodes.map((node) => this.#entriesBelow(node)),
      );
    }
  }

  #visitBelow(groups: readonly Alike[], nodes: readonly TrieNode[]): void {
    const children = nodes.map((node) => (node.kind === 'branch' ? hashesByDigit(node) : new Map<number, ChunkHash>()));
    for (const digit of new Set(children.flatMap((byDigit) => [...byDigit.keys()]))) {
      const first = children[0]?.get(digit);
      if (children.every((byDigit) => byDigit.get(digit) === first)) continue;
      const below = new Map<ChunkHash | undefined, number[]>();
      groups.forEach(({ tries }, i) => {
        const hash = children[i]?.get(digit);
        const alike = below.get(hash);
        if (alike === undefined) below.set(hash, [...tries]);
        else for (const trie of tries) alike.push(trie);
      });
      this.visit(Array.from(below, ([hash, tries]) => ({ hash, tries })));
    }
  }

  #entriesBelow(node: TrieNode): TrieEntry[] {
    if (node.kind === 'leaf') return leafEntries(node);
    return node.children.flatMap(({ hash }) => this.#entriesBelow(this.#node(hash) ?? EMPTY_LEAF));
  }

  #compareEntries(groups: readonly Alike[], entries: readonly (readonly TrieEntry[])[]): void {
    const byKey = new Map<TrieKey, (number | null)[]>();
    entries.forEach((ofGroup, i) => {
      for (const { key, value } of ofGroup) {
        let values = byKey.get(key);
        if (values === undefined) byKey.set(key, (values = new Array<number | null>(groups.length).fill(null)));
        values[i] = value;
      }
    });
    for (const [key, byGroup] of byKey) {
      if (byGroup.every((value) => value === byGroup[0])) continue;
      if ((this.conflicts.length + 1) * this.#width > this.#limits.valuesMax) {
        this.isOverLimit = true;
        return;
      }
      const values = new Array<number | null>(this.#width).fill(null);
      groups.forEach(({ tries }, i) => {
        for (const trie of tries) values[trie] = byGroup[i] ?? null;
      });
      this.conflicts.push({ key, values });
    }
  }
}

function groupsOf(roots: readonly (ChunkHash | undefined)[]): Alike[] {
  const byHash = new Map<ChunkHash | undefined, number[]>();
  roots.forEach((hash, trie) => {
    const alike = byHash.get(hash);
    if (alike === undefined) byHash.set(hash, [trie]);
    else alike.push(trie);
  });
  return Array.from(byHash, ([hash, tries]) => ({ hash, tries }));
}

function hashesByDigit({ children }: Branch): Map<number, ChunkHash> {
  return new Map(children.map(({ digit, hash }) => [digit, hash]));
}

/** A key whose value differs; `null`: it has none on that side. */
export interface TrieDifference {
  readonly key: TrieKey;
  readonly before: number | null;
  readonly after: number | null;
}

/** Two subtrees at one position; `undefined`: nothing is there. */
export interface TriePair {
  readonly before: ChunkHash | undefined;
  readonly after: ChunkHash | undefined;
}

/** Parts of two tries, to be compared one after the other: the places of one are in none of the others. */
export interface TrieParts {
  readonly missing?: undefined;
  /** Each of some number of entries. */
  readonly parts: readonly (readonly TriePair[])[];
  /** What is given for nodes that are none of the tries: parts of a leaf. */
  readonly leaves: ReadonlyMap<ChunkHash, Leaf>;
}

/** What two tries are compared by. `before`: `undefined` for an empty one. Parts have some `entries`, where the tries have more. */
export function partsOf(
  { before, after }: { readonly before: ChunkHash | undefined; readonly after: ChunkHash },
  entries: number,
  get: GetNode,
): Missing | TrieParts {
  const whole: TrieParts = { parts: [[{ before, after }]], leaves: new Map() };
  const [from, to] = [before === undefined ? EMPTY_LEAF : get(before), get(after)];
  if (from === undefined || to === undefined) {
    return { missing: [from === undefined ? before : undefined, to === undefined ? after : undefined].filter(isNamed) };
  }
  if (countOf(from) + countOf(to) <= entries || before === after) return whole;
  const leaves = new Map<ChunkHash, Leaf>();
  const [below, above] = [childrenOf(from, 'before', leaves), childrenOf(to, 'after', leaves)];
  const parts: TriePair[][] = [];
  let size = Number.POSITIVE_INFINITY;
  for (const digit of new Set([...below.keys(), ...above.keys()])) {
    const [old, young] = [below.get(digit), above.get(digit)];
    const more = (old?.count ?? 0) + (young?.count ?? 0);
    if (size + more > entries) {
      parts.push([]);
      size = 0;
    }
    size += more;
    parts.at(-1)?.push({ before: old?.hash, after: young?.hash });
  }
  return { parts, leaves };
}

function isNamed(hash: ChunkHash | undefined): hash is ChunkHash {
  return hash !== undefined;
}

function countOf(node: TrieNode): number {
  return node.kind === 'leaf' ? node.keys.length : node.children.reduce((sum, { count }) => sum + count, 0);
}

/** The children of a root by digit. Those that a leaf would have, were it a branch, are named and put into `leaves`. */
function childrenOf(node: TrieNode, name: string, leaves: Map<ChunkHash, Leaf>): Map<number, Omit<Child, 'digit'>> {
  if (node.kind === 'branch') return new Map(node.children.map(({ digit, ...child }) => [digit, child]));
  const children = new Map<number, Omit<Child, 'digit'>>();
  for (const [digit, leaf] of splitLeaf(node)) {
    const hash = `${name} ${digit}`;
    leaves.set(hash, leaf);
    children.set(digit, { hash, count: leaf.keys.length });
  }
  return children;
}

/** What differs between pairs of subtrees. */
export function diffPairs(
  pairs: readonly TriePair[],
  get: GetNode,
): Missing | { readonly differences: TrieDifference[]; readonly missing?: undefined } {
  const differences: TrieDifference[] = [];
  const missing = new Set<ChunkHash>();
  for (const { before, after } of pairs) {
    const compared = compareTries([before, after], get);
    if (compared.missing !== undefined) {
      compared.missing.forEach((hash) => missing.add(hash));
    } else {
      for (const { key, values } of compared.conflicts) {
        differences.push({ key, before: values[0] ?? null, after: values[1] ?? null });
      }
    }
  }
  return missing.size > 0 ? { missing: [...missing] } : { differences };
}

/** What differs between two tries. */
export function diffTries(before: ChunkHash, after: ChunkHash, get: GetNode): ReturnType<typeof diffPairs> {
  return diffPairs([{ before, after }], get);
}
