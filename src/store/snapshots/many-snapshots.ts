/** Reads of states of many rooms at once: as many statements as a trie has levels, however many rooms there are. */
import { type RoomId } from '../../matrix/identifiers.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type Sql } from '../open-store.ts';
import { textArray } from '../sql-values.ts';
import { type TrieDifference, diffTries } from './compare-tries.ts';
import {
  type ChunkHash,
  type GetNode,
  type Missing,
  type TrieKey,
  type TrieNode,
  type TrieSelection,
  decodeChunk,
  readTrie,
} from './snapshot-trie.ts';

/** What is read of one state. */
export interface StateRead {
  readonly roomId: RoomId;
  readonly state: SnapshotId;
  readonly selection: TrieSelection;
}

/** The events, by number, at the selected places of each state. */
export async function readStates(
  sql: Sql,
  reads: readonly StateRead[],
): Promise<readonly ReadonlyMap<TrieKey, number>[]> {
  return eachWithChunks(sql, reads, ({ state, selection }, get) => {
    const read = readTrie(state, selection, get);
    if (read.missing !== undefined) return read;
    return { result: new Map(read.entries.map(({ key, value }) => [key, value])) };
  });
}

/** Two states of a room. */
export interface StatePair {
  readonly roomId: RoomId;
  /** `null`: the state without any event. */
  readonly before: SnapshotId | null;
  readonly after: SnapshotId;
  /** Whether memberships are compared. */
  readonly members: boolean;
}

/** What differs between the states of each pair. With memberships it costs what differs, without them what the states hold. */
export async function diffStates(
  sql: Sql,
  pairs: readonly StatePair[],
): Promise<readonly ReadonlyMap<TrieKey, TrieDifference>[]> {
  return eachWithChunks(sql, pairs, ({ before, after, members }, get) => {
    const differences =
      members && before !== null ? diffTries(before, after, get) : diffWhole(before, after, members, get);
    if (differences.missing !== undefined) return differences;
    return { result: new Map(differences.differences.map((difference) => [difference.key, difference])) };
  });
}

function diffWhole(
  before: SnapshotId | null,
  after: SnapshotId,
  members: boolean,
  get: GetNode,
): Missing | { readonly differences: readonly TrieDifference[]; readonly missing?: undefined } {
  if (before === after) return { differences: [] };
  const [was, is] = [
    before === null ? { entries: [] } : readTrie(before, { members }, get),
    readTrie(after, { members }, get),
  ];
  if (was.missing !== undefined || is.missing !== undefined) {
    return { missing: [...(was.missing ?? []), ...(is.missing ?? [])] };
  }
  const places = new Map<TrieKey, TrieDifference>();
  for (const { key, value } of was.entries) places.set(key, { key, before: value, after: null });
  for (const { key, value } of is.entries) {
    places.set(key, { key, before: places.get(key)?.before ?? null, after: value });
  }
  return { differences: [...places.values()].filter((place) => place.before !== place.after) };
}

/** Runs a pure operation on each item until no chunk is missing; each round loads what all of them miss. */
async function eachWithChunks<Item extends { readonly roomId: RoomId }, Result>(
  sql: Sql,
  items: readonly Item[],
  operation: (item: Item, get: GetNode) => Missing | { readonly result: Result; readonly missing?: undefined },
): Promise<Result[]> {
  const loaded = new Map<string, TrieNode>();
  const results = new Map<Item, Result>();
  let open = items;
  for (;;) {
    const missing = new Map<string, { readonly roomId: RoomId; readonly hash: ChunkHash }>();
    open = open.filter((item) => {
      const { roomId } = item;
      const done = operation(item, (hash) => loaded.get(hash + roomId) ?? sql.caches.chunks.get(roomId, hash));
      if (done.missing === undefined) results.set(item, done.result);
      else for (const hash of done.missing) missing.set(hash + roomId, { roomId, hash });
      return done.missing !== undefined;
    });
    if (open.length === 0) return items.map((item) => results.get(item) as Result);
    const wanted = [...missing.values()];
    const rows = await sql.query<{ roomId: RoomId; hash: ChunkHash; body: Buffer }>(
      `SELECT c.room_id AS "roomId", encode(c.hash, 'hex') AS hash, c.body
         FROM unnest($1::text[], $2::text[]) AS wanted(room_id, hash)
         JOIN snapshot_chunks c ON c.room_id = wanted.room_id AND c.hash = decode(wanted.hash, 'hex')`,
      [textArray(wanted.map(({ roomId }) => roomId)), textArray(wanted.map(({ hash }) => hash))],
    );
    for (const { roomId, hash, body } of rows) {
      const node = decodeChunk(body);
      loaded.set(hash + roomId, node);
      sql.caches.chunks.set(roomId, hash, node);
    }
    const absent = wanted.find(({ roomId, hash }) => !loaded.has(hash + roomId));
    if (absent !== undefined) throw new Error(`the snapshot chunk ${absent.hash} of ${absent.roomId} is not stored`);
  }
}
