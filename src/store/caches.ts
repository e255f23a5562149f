/**
 * What a process keeps of the database in memory: facts that never change once they are stored. No verdict is among them,
 * since verdicts do change, in this process and in others. Shared by everything over one pool, each bounded.
 */
import { LRUCache } from 'lru-cache';
import { AuthEventCache } from './events/auth-event-cache.ts';
import { ChunkCache } from './snapshots/chunk-cache.ts';
import { ResolutionCache } from './snapshots/resolution-cache.ts';
import { type TrieKey } from './snapshots/snapshot-trie.ts';

/** Names of 40 characters and their numbers: some 10 MB. */
const STATE_KEYS_MAX = 50_000;

export interface Caches {
  readonly chunks: ChunkCache;
  /** Interned places, by `placeName` (snapshots/state-keys.ts). */
  readonly stateKeys: LRUCache<string, TrieKey>;
  readonly authEvents: AuthEventCache;
  readonly resolutions: ResolutionCache;
}

/** Empty caches, for one pool of connections. */
export function createCaches(): Caches {
  return {
    chunks: new ChunkCache(),
    stateKeys: new LRUCache({ max: STATE_KEYS_MAX }),
    authEvents: new AuthEventCache(),
    resolutions: new ResolutionCache(),
  };
}
