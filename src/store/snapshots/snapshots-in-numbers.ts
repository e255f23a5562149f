/**
 * Snapshots as state resolution works on them: places and events by number, so that comparing states, looking a few places
 * up and changing them costs no more than what is looked at. The numbers mean something in one room only.
 */
import { type RoomId } from '../../matrix/identifiers.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type Sql } from '../open-store.ts';
import { storeTrie, withChunks } from './chunks.ts';
import { type ComparisonLimits, type TooDifferent, type TrieConflict, compareTries } from './compare-tries.ts';
import { type Missing, type TrieChange, type TrieEntry, type TrieKey, changeTrie, readTrie } from './snapshot-trie.ts';

/** The places at which not all of the states have the same event. */
export async function compareSnapshots(
  sql: Sql,
  roomId: RoomId,
  snapshots: readonly SnapshotId[],
  limits: ComparisonLimits,
): Promise<TooDifferent | { readonly tooDifferent?: undefined; readonly conflicts: readonly TrieConflict[] }> {
  return withChunks(sql, roomId, (get) => compareTries(snapshots, get, limits));
}

/** Some places of a state. */
export interface PlacesWanted {
  readonly snapshot: SnapshotId;
  readonly keys: ReadonlySet<TrieKey>;
}

/** The events at some places of some states, for each state by place; empty places are absent. */
export async function lookUpPlaces(
  sql: Sql,
  roomId: RoomId,
  wanted: readonly PlacesWanted[],
): Promise<ReadonlyMap<TrieKey, number>[]> {
  const { states } = await withChunks<{ states: Map<TrieKey, number>[]; missing?: undefined }>(sql, roomId, (get) => {
    const states: Map<TrieKey, number>[] = [];
    const missing = new Set<string>();
    for (const { snapshot, keys } of wanted) {
      const read = readTrie(snapshot, { keys }, get);
      if (read.missing !== undefined) read.missing.forEach((hash) => missing.add(hash));
      else states.push(new Map(read.entries.map(({ key, value }) => [key, value])));
    }
    return missing.size > 0 ? ({ missing: [...missing] } satisfies Missing) : { states };
  });
  return states;
}

/** Every place of a state. */
export async function readEntries(sql: Sql, roomId: RoomId, snapshot: SnapshotId): Promise<readonly TrieEntry[]> {
  return (await withChunks(sql, roomId, (get) => readTrie(snapshot, { members: true }, get))).entries;
}

/** Stores the state that differs from `base` by `changes`, of distinct places. The events are stored and of this room. */
export async function changePlaces(
  sql: Sql,
  roomId: RoomId,
  base: SnapshotId,
  changes: readonly TrieChange[],
): Promise<SnapshotId> {
  if (changes.length === 0) return base;
  return storeTrie(sql, roomId, await withChunks(sql, roomId, (get) => changeTrie(base, changes, get)));
}
