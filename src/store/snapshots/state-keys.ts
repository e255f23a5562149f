/**
 * The numbers of places in the state: each (type, state key) that any event ever had is interned once, for all rooms, and never
 * forgotten. A process that knows a number would look in vain for a place that got another one, and states and chunks that wait to be
 * collected hold numbers without saying whose. At one row for an event at the most they are little beside the events themselves.
 */
import { type StateKey } from '../../matrix/pdu.ts';
import { stateMapKey } from '../../matrix/state-map.ts';
import { type Sql, type Store } from '../open-store.ts';
import { int8Array, textArray } from '../sql-values.ts';
import { fromStorable, storable } from '../storable-text.ts';
import { type TrieKey, stateKeyNidOf, trieKey } from './snapshot-trie.ts';

const MEMBER = 'm.room.member';

/** The interned keys of places, by `stateMapKey`; those never used by any event are absent. */
export async function readStateKeys(sql: Sql, places: readonly StateKey[]): Promise<Map<string, TrieKey>> {
  const found = new Map<string, TrieKey>();
  const unknown = new Map<string, StateKey>();
  for (const place of places) {
    const name = stateMapKey(place.type, place.stateKey);
    const key = sql.caches.stateKeys.get(name);
    if (key === undefined) unknown.set(name, place);
    else found.set(name, key);
  }
  if (unknown.size === 0) return found;
  const rows = await sql.query<{ nid: number; type: string; stateKey: string }>(
    `SELECT k.nid, k.type, k.state_key AS "stateKey"
       FROM unnest($1::text[], $2::text[]) AS wanted(type, state_key) JOIN state_keys k USING (type, state_key)`,
    [
      textArray(Array.from(unknown.values(), ({ type }) => storable(type))),
      textArray(Array.from(unknown.values(), ({ stateKey }) => storable(stateKey))),
    ],
  );
  for (const { nid, type, stateKey } of rows) {
    const name = stateMapKey(fromStorable(type), fromStorable(stateKey));
    const key = trieKey(nid, type === MEMBER);
    found.set(name, key);
    // Never the absence of a key: any process may intern it at any time.
    sql.caches.stateKeys.set(name, key);
  }
  return found;
}

/** The places of interned keys, by key. */
export async function readPlaces(sql: Sql, keys: Iterable<TrieKey>): Promise<ReadonlyMap<TrieKey, StateKey>> {
  const wanted = new Set(Array.from(keys, stateKeyNidOf));
  if (wanted.size === 0) return new Map();
  const rows = await sql.query<{ nid: number; type: string; stateKey: string }>(
    `SELECT nid, type, state_key AS "stateKey" FROM state_keys WHERE nid = ANY ($1::bigint[])`,
    [int8Array([...wanted])],
  );
  return new Map(
    rows.map(({ nid, type, stateKey }) => [
      trieKey(nid, type === MEMBER),
      { type: fromStorable(type), stateKey: fromStorable(stateKey) },
    ]),
  );
}

/**
 * Sees to it that places have their numbers, for whoever may read them in a transaction that may be rolled back: what is remembered
 * of places must be so for ever. Not to be called in one.
 */
export async function internStateKeys(store: Store, places: readonly StateKey[]): Promise<void> {
  const known = await readStateKeys(store, places);
  const unknown = places.filter(({ type, stateKey }) => !known.has(stateMapKey(type, stateKey)));
  if (unknown.length === 0) return;
  await store.query(
    `INSERT INTO state_keys (type, state_key) SELECT DISTINCT * FROM unnest($1::text[], $2::text[]) ON CONFLICT DO NOTHING`,
    [
      textArray(unknown.map(({ type }) => storable(type))),
      textArray(unknown.map(({ stateKey }) => storable(stateKey))),
    ],
  );
}
