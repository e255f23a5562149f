/** The chunks of snapshots in the database: loading what an operation lacks, and storing what it made. */
import { type RoomId } from '../../matrix/identifiers.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type Sql } from '../open-store.ts';
import {
  type BuiltTrie,
  type ChunkHash,
  type GetNode,
  type Missing,
  type TrieColumns,
  type TrieNode,
  buildTrieInParts,
  decodeChunk,
} from './snapshot-trie.ts';

/** Runs a pure operation until no chunk is missing; each round loads a whole level of the trie. */
export async function withChunks<Result extends { readonly missing?: undefined }>(
  sql: Sql,
  roomId: RoomId,
  operation: (get: GetNode) => Missing | Result,
): Promise<Result> {
  const loaded = new Map<ChunkHash, TrieNode>();
  const get: GetNode = (hash) => loaded.get(hash) ?? sql.caches.chunks.get(roomId, hash);
  for (;;) {
    const result = operation(get);
    if (result.missing === undefined) return result;
    const rows = await sql.query<{ hash: ChunkHash; body: Buffer }>(
      `SELECT encode(hash, 'hex') AS hash, body FROM snapshot_chunks WHERE room_id = $1 AND hash = ANY ($2::bytea[])`,
      [roomId, result.missing.map((hash) => Buffer.from(hash, 'hex'))],
    );
    for (const { hash, body } of rows) {
      const node = decodeChunk(body);
      loaded.set(hash, node);
      sql.caches.chunks.set(roomId, hash, node);
    }
    const absent = result.missing.find((hash) => !loaded.has(hash));
    if (absent !== undefined) throw new Error(`the snapshot chunk ${absent} of ${roomId} is not stored`);
  }
}

/** More are those of a whole state, which would push everything else out of the cache. */
const REMEMBERED_MAX = 500;

/** Stores the chunks that are new, and gives the state's id. A stored root has everything below it stored. */
export async function storeTrie(sql: Sql, roomId: RoomId, trie: BuiltTrie): Promise<SnapshotId> {
  await storeChunks(sql, roomId, trie.chunks);
  return trie.root as SnapshotId;
}

/** Chunks of a new state in one statement: half a megabyte. */
const STORED_AT_A_TIME = 2_000;

/** Builds and stores the state that these places make up, and gives its id: a part at a time, the root last. */
export async function storeState(sql: Sql, roomId: RoomId, places: TrieColumns): Promise<SnapshotId> {
  const parts = buildTrieInParts(places);
  let made = new Map<ChunkHash, Uint8Array>();
  for (;;) {
    const step = parts.next();
    if (step.done !== true) made.set(...step.value);
    if (step.done === true || made.size >= STORED_AT_A_TIME) {
      await storeChunks(sql, roomId, made);
      made = new Map();
    }
    if (step.done === true) return step.value as SnapshotId;
  }
}

/**
 * Stores chunks of one or more tries; a retry writes nothing. Condemned ones (collect-chunks.ts) are saved first, under their
 * lock: one that is being deleted meanwhile is written anew.
 */
export async function storeChunks(sql: Sql, roomId: RoomId, made: ReadonlyMap<ChunkHash, Uint8Array>): Promise<void> {
  if (made.size === 0) return;
  // In the order of their hashes, so that two writers of overlapping states wait for each other in one direction only.
  const chunks = [...made].sort(([a], [b]) => (a < b ? -1 : 1));
  await sql.query(
    `WITH saved AS (
       UPDATE snapshot_chunks SET condemned_at = NULL
        WHERE room_id = $1 AND hash = ANY ($2::bytea[]) AND condemned_at IS NOT NULL RETURNING hash
     )
     INSERT INTO snapshot_chunks (room_id, hash, body)
     SELECT $1, hash, body FROM unnest($2::bytea[], $3::bytea[]) AS chunk(hash, body)
      WHERE hash NOT IN (SELECT hash FROM saved)
     ON CONFLICT DO NOTHING`,
    [roomId, chunks.map(([hash]) => Buffer.from(hash, 'hex')), chunks.map(([, body]) => body)],
  );
  // Who changes a state reads the outcome next. Should this transaction be rolled back, nobody will name these chunks.
  if (chunks.length <= REMEMBERED_MAX) {
    for (const [hash, body] of chunks) sql.caches.chunks.set(roomId, hash, decodeChunk(body));
  }
}

/** Whether a state is stored and stays. What was made in a transaction that was rolled back is not, nor what is condemned. */
export async function isStored(sql: Sql, roomId: RoomId, id: SnapshotId): Promise<boolean> {
  const rows = await sql.query(
    `SELECT FROM snapshot_chunks WHERE room_id = $1 AND hash = decode($2, 'hex') AND condemned_at IS NULL`,
    [roomId, id],
  );
  return rows.length > 0;
}
