/**
 * What differs between tries: two, or the hundred of a room with a hundred forks. Subtrees that are the same in all are not
 * looked into, so that it costs what differs and not what the states hold. Pure, as snapshot-trie.ts.
 */
import {
  type Branch,
  type ChunkHash,
  type GetNode,
  type Leaf,
  type Missing,
  type TrieEntry,
  type TrieKey,
  type TrieNode,
  leafEntries,
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

/** Compares the tries of `roots`. */
export function compareTries(
  roots: readonly ChunkHash[],
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

function groupsOf(roots: readonly ChunkHash[]): Alike[] {
  const byHash = new Map<ChunkHash, number[]>();
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

/** What differs between two tries. */
export function diffTries(
  before: ChunkHash,
  after: ChunkHash,
  get: GetNode,
): Missing | { readonly differences: TrieDifference[]; readonly missing?: undefined } {
  const compared = compareTries([before, after], get);
  if (compared.missing !== undefined) return compared;
  const differences = compared.conflicts.map(({ key, values }) => {
    return { key, before: values[0] ?? null, after: values[1] ?? null };
  });
  return { differences };
}
