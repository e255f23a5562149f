/**
 * Deletes the chunks of a room that no state needs any more: those reached from no event's state, no anchor's and from none that is
 * or was the current one. Writers go on meanwhile, and a state may be made, and named a little later, from any that was named
 * before. So a chunk is condemned first, and deleted by a later pass, a day after at the earliest, if it still is:
 *
 * - whoever stores a chunk again, or names a state that reaches it, saves it: the first at once (chunks.ts), the second in the
 *   next pass, which reads what is named before it deletes anything;
 * - whoever found a state in memory takes it for gone when its root is condemned (`isStored`);
 * - so only work that began more than a day ago could still name what is deleted, and no activity lasts so long.
 */
import { type RoomId } from '../../matrix/identifiers.ts';
import { type Store, type Transaction, withTransaction } from '../open-store.ts';
import { type ChunkHash, decodeChunk } from './snapshot-trie.ts';

/** From condemning to deleting. */
const GRACE_MS = 86_400_000;
const CHUNKS_READ = 1_000;
const CHUNKS_DELETED = 1_000;

/** A room with more chunks is left alone: their names would take more than 100 MB of this process. */
const CHUNKS_MAX = 300_000;

export interface CollectOptions {
  /** Milliseconds since the Unix epoch. */
  readonly now: number;
  readonly heartbeat: () => void;
}

/** Condemns, saves and deletes the chunks of one room; gives how many were deleted. */
export async function collectChunks(store: Store, roomId: RoomId, { now, heartbeat }: CollectOptions): Promise<number> {
  const chunks = await store.query<{ hash: ChunkHash; condemnedAt: number | null }>(
    `SELECT encode(hash, 'hex') AS hash, condemned_at AS "condemnedAt" FROM snapshot_chunks WHERE room_id = $1 LIMIT $2`,
    [roomId, CHUNKS_MAX],
  );
  if (chunks.length === CHUNKS_MAX) return 0;
  const needed = await neededChunks(store, roomId, heartbeat);
  const toCondemn = chunks.filter(({ hash, condemnedAt }) => condemnedAt === null && !needed.has(hash));
  const toSave = chunks.filter(({ hash, condemnedAt }) => condemnedAt !== null && needed.has(hash));
  // All at once: a state whose root is not condemned has nothing condemned below it.
  await withTransaction(store, async (tx) => {
    await condemn(tx, roomId, toSave, null);
    await condemn(tx, roomId, toCondemn, now);
  });
  const dueAt = now - GRACE_MS;
  const due = chunks.filter(
    ({ hash, condemnedAt }) => condemnedAt !== null && condemnedAt <= dueAt && !needed.has(hash),
  );
  let deleted = 0;
  for (let start = 0; start < due.length; start += CHUNKS_DELETED) {
    const gone = await store.query(
      `DELETE FROM snapshot_chunks WHERE room_id = $1 AND hash = ANY ($2::bytea[]) AND condemned_at <= $3 RETURNING 1`,
      [roomId, due.slice(start, start + CHUNKS_DELETED).map(bytesOf), dueAt],
    );
    deleted += gone.length;
    heartbeat();
  }
  return deleted;
}

/** Everything that is reached from a state which is named. */
async function neededChunks(store: Store, roomId: RoomId, heartbeat: () => void): Promise<Set<ChunkHash>> {
  const roots = await store.query<{ hash: ChunkHash }>(
    `SELECT DISTINCT encode(state, 'hex') AS hash
       FROM (SELECT state_before FROM event_states WHERE room_id = $1
              UNION ALL SELECT state_after FROM event_states WHERE room_id = $1
              UNION ALL SELECT state_after FROM anchors WHERE room_id = $1
              UNION ALL SELECT state FROM current_states WHERE room_id = $1
              UNION ALL SELECT current_state FROM rooms WHERE room_id = $1 AND current_state IS NOT NULL) AS named(state)`,
    [roomId],
  );
  const needed = new Set(roots.map(({ hash }) => hash));
  const unread = [...needed];
  while (unread.length > 0) {
    const page = unread.splice(-CHUNKS_READ);
    const rows = await store.query<{ body: Buffer }>(
      `SELECT body FROM snapshot_chunks WHERE room_id = $1 AND hash = ANY ($2::bytea[])`,
      [roomId, page.map((hash) => Buffer.from(hash, 'hex'))],
    );
    for (const { body } of rows) {
      const node = decodeChunk(body);
      for (const { hash } of node.kind === 'branch' ? node.children : []) {
        if (needed.has(hash)) continue;
        needed.add(hash);
        unread.push(hash);
      }
    }
    heartbeat();
  }
  return needed;
}

function bytesOf({ hash }: { readonly hash: ChunkHash }): Buffer {
  return Buffer.from(hash, 'hex');
}

/** `at` null: saves. In the order of their hashes, as who stores chunks. */
async function condemn(
  tx: Transaction,
  roomId: RoomId,
  chunks: readonly { readonly hash: ChunkHash }[],
  at: number | null,
): Promise<void> {
  if (chunks.length === 0) return;
  await tx.query(
    `UPDATE snapshot_chunks c SET condemned_at = $3
       FROM (SELECT hash FROM snapshot_chunks WHERE room_id = $1 AND hash = ANY ($2::bytea[])
              ORDER BY hash FOR NO KEY UPDATE) AS locked
      WHERE c.room_id = $1 AND c.hash = locked.hash`,
    [roomId, chunks.map(bytesOf), at],
  );
}

/** Rooms by the time of their last collection, those never collected first; marked as collected at `now`. */
export async function roomsToCollect(
  store: Store,
  { now, everyMs, limit }: { readonly now: number; readonly everyMs: number; readonly limit: number },
): Promise<RoomId[]> {
  const rows = await store.query<{ roomId: RoomId }>(
    `UPDATE rooms SET collected_at = $1::bigint
      WHERE room_id IN (SELECT room_id FROM rooms WHERE coalesce(collected_at, 0) <= $1::bigint - $2::bigint
                         ORDER BY coalesce(collected_at, 0) LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED)
      RETURNING room_id AS "roomId"`,
    [now, everyMs, limit],
  );
  return rows.map(({ roomId }) => roomId);
}
