/**
 * Room states in the database: tries of chunks (snapshot-trie.ts), written once and shared by all states that contain
 * them. A write is idempotent, so that a retry costs nothing; a chunk is never changed.
 */
import { invariant } from '../../invariant.ts';
import { type EventId, type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type StateKey } from '../../matrix/pdu.ts';
import { stateMapKey } from '../../matrix/state-map.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type Sql } from '../open-store.ts';
import { inPages } from '../pages.ts';
import { int8Array } from '../sql-values.ts';
import { fromStorable } from '../storable-text.ts';
import { storeChunks, storeState, storeTrie, withChunks } from './chunks.ts';
import { type TrieDifference, diffPairs, partsOf } from './compare-tries.ts';
import {
  type ChunkHash,
  type GetNode,
  type Missing,
  type TrieChange,
  type TrieColumns,
  type TrieKey,
  type TrieNode,
  type TrieSelection,
  changeTrie,
  columnsOf,
  decodeChunk,
  readTrie,
  stateKeyNidOf,
  trieKey,
} from './snapshot-trie.ts';
import { readStateKeys } from './state-keys.ts';

const MEMBER = 'm.room.member';
/** Events looked up at a time. */
const PLACES_READ = 10_000;

/** Places of two states together that are compared at a time, about: a child of the root is not divided. */
const COMPARED_AT_A_TIME = 50_000;

/** One place of a room state. */
export interface StateEntry extends StateKey {
  readonly eventId: EventId;
  /** Of an m.room.member event whose `content.membership` is a string. */
  readonly membership: string | null;
}

/**
 * What to read; without a filter, or with `members: true`, everything. The other parts add up: `members: false` all but
 * memberships, `keys` these places, `userIds` the memberships of these users.
 */
export interface SnapshotFilter {
  readonly members?: boolean;
  readonly keys?: readonly StateKey[];
  readonly userIds?: readonly UserId[];
}

/** Puts an event, which is stored, into its place, or empties a place. */
export type SnapshotChange = { readonly eventId: EventId } | StateKey;

/** A place that differs; `null`: empty on that side. */
export interface SnapshotDifference extends StateKey {
  readonly before: EventId | null;
  readonly after: EventId | null;
}

/** A stored state event by the numbers of it and of its (type, state_key). */
export interface NumberedEvent {
  readonly nid: number;
  readonly stateKeyNid: number;
}

/** Stores the state that consists of these events and gives its id. All are stored state events of this room, one a place. */
export async function createSnapshot(sql: Sql, roomId: RoomId, eventIds: readonly EventId[]): Promise<SnapshotId> {
  const entries: Place[] = [];
  for (const page of inPages(eventIds, PLACES_READ)) {
    for (const place of (await placesOf(sql, roomId, page)).values()) entries.push(place);
  }
  return createSnapshotOf(sql, roomId, columnsOf(entries));
}

/** As `createSnapshot`, of events whose numbers are known. */
export async function createSnapshotOf(sql: Sql, roomId: RoomId, places: TrieColumns): Promise<SnapshotId> {
  const keys = places.keys.slice().sort();
  const isDistinct = keys.every((key, i) => i === 0 || key !== keys[i - 1]);
  invariant(isDistinct, `two of the events for a snapshot of ${roomId} have the same place`);
  return storeState(sql, roomId, places);
}

/** The numbers of stored state events; throws for an event that is none of this room. */
export async function readNumbers(
  sql: Sql,
  roomId: RoomId,
  eventIds: readonly EventId[],
): Promise<ReadonlyMap<EventId, NumberedEvent>> {
  const places = await placesOf(sql, roomId, eventIds);
  return new Map(
    Array.from(places, ([eventId, { key, value }]) => [eventId, { nid: value, stateKeyNid: stateKeyNidOf(key) }]),
  );
}

/** Stores the state that differs from `base` by `changes`; of two changes to one place the later one counts. */
export async function changeSnapshot(
  sql: Sql,
  roomId: RoomId,
  base: SnapshotId,
  changes: readonly SnapshotChange[],
): Promise<SnapshotId> {
  if (changes.length === 0) return base;
  const eventIds = changes.flatMap((change) => ('eventId' in change ? [change.eventId] : []));
  const emptied = changes.flatMap((change) => ('eventId' in change ? [] : [change]));
  const places = await placesOf(sql, roomId, eventIds);
  const keys = await readStateKeys(sql, emptied);
  const byKey = new Map<TrieKey, TrieChange>();
  for (const change of changes) {
    if ('eventId' in change) {
      const place = places.get(change.eventId);
      invariant(place, `placesOf gave no place for ${change.eventId}`);
      byKey.set(place.key, place);
    } else {
      const key = keys.get(stateMapKey(change.type, change.stateKey));
      // A place without an interned key is empty in every state.
      if (key !== undefined) byKey.set(key, { key, value: null });
    }
  }
  const trie = await withChunks(sql, roomId, (get) => changeTrie(base, [...byKey.values()], get));
  return storeTrie(sql, roomId, trie);
}

/** One event put into a state: a stored one, or what came of the step with this index. */
export interface SnapshotStep {
  readonly base: SnapshotId | number;
  readonly eventId: EventId;
}

/** As `changeSnapshot` for many states, which may build on each other, in the same few statements; gives them in order. */
export async function changeSnapshots(sql: Sql, roomId: RoomId, steps: readonly SnapshotStep[]): Promise<SnapshotId[]> {
  if (steps.length === 0) return [];
  const places = await placesOf(
    sql,
    roomId,
    steps.map(({ eventId }) => eventId),
  );
  const keys = new Set([...places.values()].map(({ key }) => key));
  const stored = new Set(steps.flatMap(({ base }) => (typeof base === 'string' ? [base] : [])));
  const { roots, chunks } = await withChunks(sql, roomId, (get) => {
    // All paths at once, so that a chunk that is missing costs a round for all steps and not for each.
    const missing = [...stored].flatMap((base) => readTrie(base, { keys }, get).missing ?? []);
    if (missing.length > 0) return { missing: [...new Set(missing)] };
    return takeSteps(steps, places, get);
  });
  await storeChunks(sql, roomId, chunks);
  return roots as SnapshotId[];
}

interface StepsTaken {
  readonly roots: readonly ChunkHash[];
  readonly chunks: ReadonlyMap<ChunkHash, Uint8Array>;
  readonly missing?: undefined;
}

function takeSteps(
  steps: readonly SnapshotStep[],
  places: ReadonlyMap<EventId, Place>,
  get: GetNode,
): Missing | StepsTaken {
  const roots: ChunkHash[] = [];
  const chunks = new Map<ChunkHash, Uint8Array>();
  const nodes = new Map<ChunkHash, TrieNode>();
  for (const { base, eventId } of steps) {
    const place = places.get(eventId);
    const root = typeof base === 'number' ? roots[base] : base;
    invariant(place && root !== undefined, `the step to ${eventId} has a place and a base`);
    const changed = changeTrie(root, [place], (hash) => nodes.get(hash) ?? get(hash));
    if (changed.missing !== undefined) return changed;
    roots.push(changed.root);
    for (const [hash, body] of changed.chunks) {
      chunks.set(hash, body);
      nodes.set(hash, decodeChunk(body));
    }
  }
  return { roots, chunks };
}

/** Reads the places that `filter` selects, in no particular order. */
export async function readSnapshot(
  sql: Sql,
  roomId: RoomId,
  id: SnapshotId,
  filter: SnapshotFilter = { members: true },
): Promise<StateEntry[]> {
  const nids = new Set<number>();
  for (const selection of await selectionsOf(sql, filter)) {
    const { entries } = await withChunks(sql, roomId, (get) => readTrie(id, selection, get));
    for (const { value } of entries) nids.add(value);
  }
  if (nids.size === 0) return [];
  const rows = await sql.query<{ type: string; stateKey: string; eventId: EventId; membership: string | null }>(
    `SELECT k.type, k.state_key AS "stateKey", p.event_id AS "eventId", p.membership
       FROM unnest($1::bigint[]) AS wanted(nid)
       JOIN pdus p ON p.nid = wanted.nid AND p.room_id = $2
       JOIN state_keys k ON k.nid = p.state_key_nid`,
    [int8Array([...nids]), roomId],
  );
  invariant(rows.length === nids.size, `events of a snapshot of ${roomId} are not stored`);
  for (const row of rows) {
    row.type = fromStorable(row.type);
    row.stateKey = fromStorable(row.stateKey);
    if (row.membership !== null) row.membership = fromStorable(row.membership);
  }
  return rows;
}

/** The places in which two states differ; costs what differs, not what the states hold. */
export async function diffSnapshots(
  sql: Sql,
  roomId: RoomId,
  before: SnapshotId,
  after: SnapshotId,
): Promise<SnapshotDifference[]> {
  const differences = await diffSnapshotTries(sql, roomId, before, after);
  if (differences.length === 0) return [];
  const rows = await sql.query<{ type: string; stateKey: string; before: EventId | null; after: EventId | null }>(
    `SELECT k.type, k.state_key AS "stateKey", b.event_id AS before, a.event_id AS after
       FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS d(key, before, after)
       JOIN state_keys k ON k.nid = d.key
       LEFT JOIN pdus b ON b.nid = d.before AND b.room_id = $4
       LEFT JOIN pdus a ON a.nid = d.after AND a.room_id = $4`,
    [
      int8Array(differences.map(({ key }) => stateKeyNidOf(key))),
      differences.map((difference) => difference.before),
      differences.map((difference) => difference.after),
      roomId,
    ],
  );
  return rows.map((row) => ({ ...row, type: fromStorable(row.type), stateKey: fromStorable(row.stateKey) }));
}

/** As `diffSnapshots`, in nids. `before` may be absent: then everything of `after` differs. */
export async function diffSnapshotTries(
  sql: Sql,
  roomId: RoomId,
  before: SnapshotId | null,
  after: SnapshotId,
): Promise<readonly TrieDifference[]> {
  const differences: TrieDifference[] = [];
  for await (const part of streamDifferences(sql, roomId, before, after)) {
    for (const difference of part) differences.push(difference);
  }
  return differences;
}

/** As `diffSnapshotTries`, some `COMPARED_AT_A_TIME` places at a time: a state may have a million. */
export async function* streamDifferences(
  sql: Sql,
  roomId: RoomId,
  before: SnapshotId | null,
  after: SnapshotId,
): AsyncGenerator<readonly TrieDifference[], void, undefined> {
  const roots = { before: before ?? undefined, after };
  const { parts, leaves } = await withChunks(sql, roomId, (get) => partsOf(roots, COMPARED_AT_A_TIME, get));
  for (const part of parts) {
    const get = (stored: GetNode): GetNode => (leaves.size === 0 ? stored : (hash) => leaves.get(hash) ?? stored(hash));
    const { differences } = await withChunks(sql, roomId, (stored) => diffPairs(part, get(stored)));
    if (differences.length > 0) yield differences;
  }
}

/** How many members are joined in a state. */
export async function countMembers(sql: Sql, roomId: RoomId, id: SnapshotId): Promise<number> {
  let joined = 0;
  for await (const part of streamDifferences(sql, roomId, null, id)) {
    const members = part.filter(({ key }) => key === trieKey(stateKeyNidOf(key), true));
    const [row] = await sql.query<{ joined: number }>(
      `SELECT count(*) AS joined FROM unnest($1::bigint[]) AS member(nid) JOIN pdus p ON p.nid = member.nid
        WHERE p.membership = 'join' AND p.room_id = $2`,
      [int8Array(members.map((member) => member.after)), roomId],
    );
    joined += row?.joined ?? 0;
  }
  return joined;
}

interface Place {
  readonly key: TrieKey;
  readonly value: number;
}

/** Where stored state events belong. Throws for an event that is not stored, not a state event, or of another room. */
async function placesOf(sql: Sql, roomId: RoomId, eventIds: readonly EventId[]): Promise<Map<EventId, Place>> {
  const wanted = new Set(eventIds);
  if (wanted.size === 0) return new Map();
  const rows = await sql.query<{ eventId: EventId; nid: number; stateKeyNid: number; member: boolean }>(
    `SELECT p.event_id AS "eventId", p.nid, p.state_key_nid AS "stateKeyNid", p.type = '${MEMBER}' AS member
       FROM unnest($2::text[]) AS wanted(event_id)
       JOIN pdus p ON p.event_id = wanted.event_id
      WHERE p.room_id = $1 AND p.state_key_nid IS NOT NULL`,
    [roomId, [...wanted]],
  );
  const places = new Map(
    rows.map((row) => [row.eventId, { key: trieKey(row.stateKeyNid, row.member), value: row.nid }]),
  );
  if (places.size < wanted.size) {
    const absent = [...wanted].find((eventId) => !places.has(eventId));
    throw new Error(`${absent ?? '?'} is not a stored state event of ${roomId}`);
  }
  return places;
}

async function selectionsOf(sql: Sql, filter: SnapshotFilter): Promise<TrieSelection[]> {
  const { members, keys, userIds } = filter;
  if (members === true || (members === undefined && keys === undefined && userIds === undefined)) {
    return [{ members: true }];
  }
  const places = [...(keys ?? []), ...(userIds ?? []).map((userId) => ({ type: MEMBER, stateKey: userId }))];
  const selections: TrieSelection[] = members === false ? [{ members: false }] : [];
  if (places.length > 0) selections.push({ keys: new Set((await readStateKeys(sql, places)).values()) });
  return selections;
}
