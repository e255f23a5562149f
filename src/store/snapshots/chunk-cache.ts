/** Snapshot chunks that were read or written lately, decoded, so that the same path is not fetched again for each event. */
import { LRUCache } from 'lru-cache';
import { type RoomId } from '../../matrix/identifiers.ts';
import { type ChunkHash, type TrieNode } from './snapshot-trie.ts';

/** Holds the state of about ten rooms of 100,000 members, decoded. */
const CACHE_BYTES_MAX = 32 * 1024 * 1024;

/** What a decoded node takes besides its entries, about: objects, headers of typed arrays, its place in the cache. */
const NODE_OVERHEAD_BYTES = 400;
const ENTRY_BYTES = 16;
const CHILD_BYTES = 120;

/**
 * The most recently used snapshot chunks, decoded. Content-addressed, so that an entry is never wrong; by room, because
 * the numbers in them mean events of one room, and whoever guesses a hash must not read another's.
 */
export class ChunkCache {
  readonly #nodes = new LRUCache<string, TrieNode>({
    maxSize: CACHE_BYTES_MAX,
    sizeCalculation: (node) =>
      NODE_OVERHEAD_BYTES +
      (node.kind === 'leaf' ? node.keys.length * ENTRY_BYTES : node.children.length * CHILD_BYTES),
  });

  get(roomId: RoomId, hash: ChunkHash): TrieNode | undefined {
    return this.#nodes.get(hash + roomId);
  }

  set(roomId: RoomId, hash: ChunkHash, node: TrieNode): void {
    this.#nodes.set(hash + roomId, node);
  }
}
