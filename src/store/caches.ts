/**
 * What a process keeps of the database in memory: facts that never change once they are stored. No verdict is among them,
 * since verdicts do change, in this process and in others. Shared by everything over one pool, each bounded.
 */
import { LRUCache } from 'lru-cache';
import { AuthEventCache } from './events/auth-event-cache.ts';
import { ChunkCache } from './snapshots/chunk-cache.ts';
import { ResolutionCache } from './snapshots/resolution-cache.ts';
import { type TrieKey } from './snapshots/snapshot-trie.ts';

/** Of names, which senders choose, with what an entry costs beside: 50,000 usual ones of 40 characters, some 10 MB. */
const STATE_KEYS_SIZE_MAX = 5_000_000;
const STATE_KEY_SIZE_MIN = 60;
/** Sets of states that are too much to resolve; each is refused anew at no cost, until this process is another one. */
const TOO_LARGE_MAX = 1_000;
/** An auth chain of theirs may have come by then, or gone. */
const TOO_LARGE_MS_MAX = 6 * 3_600_000;

export interface Caches {
  readonly chunks: ChunkCache;
  /** Interned places, by `placeName` (snapshots/state-keys.ts). */
  readonly stateKeys: LRUCache<string, TrieKey>;
  readonly authEvents: AuthEventCache;
  readonly resolutions: ResolutionCache;
  /** What is resolved for longer than anybody waits for it, by its `resolutionName`: one at a time. */
  readonly longResolution: { name: string | null };
  /** What is resolved for all who want it at once, by its `resolutionName`, until it is over. Never rejects. */
  readonly resolving: Map<string, Promise<void>>;
  /** By the name of what was to be resolved (`resolutionName`): in how many places the states differ, as far as counted. */
  readonly tooLarge: LRUCache<string, number>;
}

/** Empty caches, for one pool of connections. */
export function createCaches(): Caches {
  return {
    chunks: new ChunkCache(),
    stateKeys: new LRUCache({
      maxSize: STATE_KEYS_SIZE_MAX,
      sizeCalculation: (_key, name) => STATE_KEY_SIZE_MIN + name.length,
    }),
    authEvents: new AuthEventCache(),
    resolutions: new ResolutionCache(),
    longResolution: { name: null },
    resolving: new Map(),
    tooLarge: new LRUCache({ max: TOO_LARGE_MAX, ttl: TOO_LARGE_MS_MAX }),
  };
}
