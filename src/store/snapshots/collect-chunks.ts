/**
 * Deletes the chunks of a room that no state needs any more: those reached from no event's state, no anchor's and from none that is
 * or was the current one. A room may have millions of them, so it is gone through in passes of small steps, each a transaction:
 *
 *     states that are named ──▶ what is reached from them ──▶ all chunks, by their hashes: saved, condemned or deleted
 *
 * What is reached, and how far the pass is, stands in unlogged tables: whoever comes next goes on there, and a crash of PostgreSQL
 * begins the pass anew. Writers go on meanwhile, and a state may be made, and named a little later, from any that was named before.
 * So a chunk is condemned first, and deleted by a later pass that begins a day after at the earliest, if it still is:
 *
 * - whoever stores a chunk again, or names a state that reaches it, saves it: the first at once (chunks.ts), the second in the
 *   next pass, which begins with what is named;
 * - whoever found a state in memory takes it for gone when its root is condemned (`isStored`);
 * - so only work that began about a day before could still name what is deleted, and no activity lasts so long. That a root may be
 *   condemned later than what lies below it takes hours from the day at the most: no pass may condemn for longer.
 */
import { type RoomId } from '../../matrix/identifiers.ts';
import { type Sql, type Store, type Transaction, withTransaction } from '../open-store.ts';
import { type ChunkHash, decodeChunk } from './snapshot-trie.ts';

/** From condemning to the beginning of the pass that deletes. */
const GRACE_MS = 86_400_000;
/** A pass that has condemned for longer is given up. */
const SWEEP_MS_MAX = 6 * 3_600_000;
/** Rows of one step: some MB of chunks, or 50 ms of PostgreSQL. */
const ROWS_A_STEP = 2_000;

export interface CollectOptions {
  /** Milliseconds since the Unix epoch. */
  readonly now: number;
  readonly heartbeat: () => void;
  /** Asked before each step; absent: the pass is gone through to its end. */
  readonly isOver?: () => boolean;
  readonly rowsAStep?: number;
}

/** A row of `collections`: a pass over the chunks of a room, and how far it is. */
interface Pass {
  readonly pass: number;
  readonly startedAt: number;
  /** Positions up to which events and current states were looked at. */
  readonly eventsTo: number;
  readonly statesTo: number;
  /** Up to which reached chunk it was looked at what they reach. */
  readonly reachedTo: number;
  /** Chunks up to this one are settled; `null`: none, since it is not yet known what is reached. */
  readonly sweptTo: Buffer | null;
  readonly sweptSince: number | null;
  /** What was reached is forgotten. */
  readonly isOver: boolean;
}

/** Goes on with the pass over a room's chunks, or begins one; gives how many chunks were deleted. */
export async function collectChunks(store: Store, roomId: RoomId, options: CollectOptions): Promise<number> {
  const { isOver = () => false, heartbeat, rowsAStep = ROWS_A_STEP } = options;
  let deleted = 0;
  for (let isDone = false; !isDone && !isOver();) {
    const step = await withTransaction(store, (tx) => takeStep(tx, roomId, options.now, rowsAStep));
    deleted += step.deleted;
    isDone = step.isDone;
    heartbeat();
  }
  return deleted;
}

async function takeStep(
  tx: Transaction,
  roomId: RoomId,
  now: number,
  limit: number,
): Promise<{ readonly isDone: boolean; readonly deleted: number }> {
  // The row is locked to the end of the step: two that go through a room at once take turns. A room that is purged has none any more.
  const [pass] = await tx.query<Pass>(
    `INSERT INTO collections AS c (room_id, started_at) SELECT room_id, $2 FROM rooms WHERE room_id = $1 FOR KEY SHARE
     ON CONFLICT (room_id) DO UPDATE SET room_id = c.room_id
     RETURNING pass, started_at AS "startedAt", events_to AS "eventsTo", states_to AS "statesTo", reached_to AS "reachedTo",
               swept_to AS "sweptTo", swept_since AS "sweptSince", is_over AS "isOver"`,
    [roomId, now],
  );
  if (pass === undefined) return { isDone: true, deleted: 0 };
  const isLate = pass.sweptSince !== null && now - pass.sweptSince > SWEEP_MS_MAX;
  if (pass.isOver || isLate) return { isDone: await forget(tx, pass, limit), deleted: 0 };
  if (pass.sweptTo !== null) return { isDone: false, deleted: await sweep(tx, roomId, pass, now, limit) };
  // What was named while the rest was gone through is reached, too; who names states all the time is left behind by less than a step.
  const isNamed = await reachNamed(tx, roomId, pass, limit);
  const isReached = (await reachBelow(tx, roomId, pass, limit)) && isNamed;
  const toSweep = `UPDATE collections SET swept_to = '', swept_since = $2 WHERE pass = $1`;
  if (isReached) await tx.query(toSweep, [pass.pass, now]);
  return { isDone: false, deleted: 0 };
}

/** Marks states that are named as reached, the next of events and of the room; `true`: these were the last. */
async function reachNamed(sql: Sql, roomId: RoomId, pass: Pass, limit: number): Promise<boolean> {
  const [next] = await sql.query<{ events: number; states: number }>(
    `WITH of_events AS MATERIALIZED (
       SELECT position, state_before, state_after FROM event_states
        WHERE room_id = $1 AND position > $3 ORDER BY position LIMIT $5
     ), of_room AS MATERIALIZED (
       SELECT position, state FROM current_states WHERE room_id = $1 AND position > $4 ORDER BY position LIMIT $5
     ), named (state) AS (
       SELECT state_before FROM of_events UNION SELECT state_after FROM of_events UNION SELECT state FROM of_room
       UNION SELECT state_after FROM anchors WHERE room_id = $1
       UNION SELECT current_state FROM rooms WHERE room_id = $1 AND current_state IS NOT NULL
     ), reached AS (
       INSERT INTO reached_chunks (pass, hash) SELECT $2, state FROM named ON CONFLICT DO NOTHING
     ), told AS (
       UPDATE collections SET events_to = coalesce((SELECT max(position) FROM of_events), events_to),
                              states_to = coalesce((SELECT max(position) FROM of_room), states_to)
        WHERE pass = $2
     )
     SELECT (SELECT count(*) FROM of_events) AS events, (SELECT count(*) FROM of_room) AS states`,
    [roomId, pass.pass, pass.eventsTo, pass.statesTo, limit],
  );
  return next === undefined || (next.events < limit && next.states < limit);
}

/** Marks what the next reached chunks lead to; `true`: there was none. */
async function reachBelow(sql: Sql, roomId: RoomId, { pass, reachedTo }: Pass, limit: number): Promise<boolean> {
  const rows = await sql.query<{ nid: number; body: Buffer | null }>(
    `SELECT r.nid, c.body
       FROM (SELECT nid, hash FROM reached_chunks WHERE pass = $2 AND nid > $3 ORDER BY nid LIMIT $4) AS r
       LEFT JOIN snapshot_chunks c ON c.room_id = $1 AND c.hash = r.hash ORDER BY r.nid`,
    [roomId, pass, reachedTo, limit],
  );
  const last = rows.at(-1);
  if (last === undefined) return true;
  const below = new Set<ChunkHash>();
  for (const { body } of rows) {
    const node = body === null ? undefined : decodeChunk(body);
    for (const { hash } of node?.kind === 'branch' ? node.children : []) below.add(hash);
  }
  await sql.query(
    `WITH below AS (
       INSERT INTO reached_chunks (pass, hash) SELECT $1, hash FROM unnest($2::bytea[]) AS b(hash) ON CONFLICT DO NOTHING
     )
     UPDATE collections SET reached_to = $3 WHERE pass = $1`,
    [pass, [...below].map((hash) => Buffer.from(hash, 'hex')), last.nid],
  );
  return false;
}

/**
 * Settles the next chunks. Locked in the order of their hashes, as who stores chunks. Each is found by its hash: a join would compare each
 * with all of the room's where PostgreSQL has no statistics of a room that has just grown, for minutes.
 */
async function sweep(sql: Sql, roomId: RoomId, pass: Pass, now: number, limit: number): Promise<number> {
  const [swept] = await sql.query<{ deleted: number }>(
    `WITH next AS MATERIALIZED (
       SELECT hash FROM snapshot_chunks WHERE room_id = $1 AND hash > $3 ORDER BY hash LIMIT $4
     ), chunk AS MATERIALIZED (
       SELECT c.*, (SELECT count(*) FROM reached_chunks r WHERE r.pass = $2 AND r.hash = c.hash) > 0 AS is_reached
         FROM next n CROSS JOIN LATERAL (SELECT ctid AS row, hash, condemned_at FROM snapshot_chunks
                                          WHERE room_id = $1 AND hash = n.hash OFFSET 0 FOR NO KEY UPDATE) AS c
     ), marked AS (
       UPDATE snapshot_chunks SET condemned_at = CASE WHEN condemned_at IS NULL THEN $5::bigint END
        WHERE ctid = ANY (ARRAY(SELECT row FROM chunk WHERE is_reached = (condemned_at IS NOT NULL)))
     ), deleted AS (
       DELETE FROM snapshot_chunks
        WHERE ctid = ANY (ARRAY(SELECT row FROM chunk WHERE NOT is_reached AND condemned_at <= $6)) RETURNING 1
     ), told AS (
       UPDATE collections SET swept_to = coalesce((SELECT hash FROM next ORDER BY hash DESC LIMIT 1), swept_to),
                              is_over = NOT EXISTS (SELECT FROM next)
        WHERE pass = $2
     )
     SELECT count(*) AS deleted FROM deleted`,
    [roomId, pass.pass, pass.sweptTo, limit, now, pass.startedAt - GRACE_MS],
  );
  return swept?.deleted ?? 0;
}

/** Forgets the next of what was reached; `true`: the pass is forgotten with it. */
async function forget(sql: Sql, { pass }: Pass, limit: number): Promise<boolean> {
  const rows = await sql.query(
    `DELETE FROM reached_chunks WHERE nid IN (SELECT nid FROM reached_chunks WHERE pass = $1 ORDER BY nid LIMIT $2) RETURNING 1`,
    [pass, limit],
  );
  if (rows.length === limit) return false;
  await sql.query(`DELETE FROM collections WHERE pass = $1`, [pass]);
  return true;
}

/**
 * Rooms by the time of their last collection, those never collected first; marked as collected at `now`. One whose pass is not over
 * is due again with the next `now`.
 */
export async function roomsToCollect(
  store: Store,
  { now, everyMs, limit }: { readonly now: number; readonly everyMs: number; readonly limit: number },
): Promise<RoomId[]> {
  const rows = await store.query<{ roomId: RoomId }>(
    `UPDATE rooms SET collected_at = $1::bigint
      WHERE room_id IN (SELECT room_id FROM rooms r
                         WHERE coalesce(collected_at, 0) <= $1::bigint - $2::bigint
                            OR collected_at < $1::bigint AND EXISTS (SELECT FROM collections c WHERE c.room_id = r.room_id)
                         ORDER BY coalesce(collected_at, 0) LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED)
      RETURNING room_id AS "roomId"`,
    [now, everyMs, limit],
  );
  return rows.map(({ roomId }) => roomId);
}
