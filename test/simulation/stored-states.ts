/** The states that are stored of a room, all read at once: a comparison looks at most of them, and they share what they are made of. */
import { type EventId, type RoomId } from '../../src/matrix/identifiers.ts';
import { type StateMap, stateMapKey } from '../../src/matrix/state-map.ts';
import { type SnapshotId } from '../../src/resync/events.ts';
import { type Store } from '../../src/store/open-store.ts';
import {
  type ChunkHash,
  type TrieNode,
  decodeChunk,
  readTrie,
  stateKeyNidOf,
} from '../../src/store/snapshots/snapshot-trie.ts';
import { fromStorable } from '../../src/store/storable-text.ts';

interface StateEvent {
  readonly eventId: EventId;
  readonly keyNid: number;
  readonly place: string;
}

export class StoredStates {
  readonly #nodes: ReadonlyMap<ChunkHash, TrieNode>;
  /** By nid. */
  readonly #events: ReadonlyMap<number, StateEvent>;
  readonly #states = new Map<SnapshotId, StateMap>();

  private constructor(nodes: ReadonlyMap<ChunkHash, TrieNode>, events: ReadonlyMap<number, StateEvent>) {
    this.#nodes = nodes;
    this.#events = events;
  }

  /** As they are now: what is deleted later is read here for good. */
  static async read(store: Store, roomId: RoomId): Promise<StoredStates> {
    const chunks = await store.query<{ hash: ChunkHash; body: Buffer }>(
      `SELECT encode(hash, 'hex') AS hash, body FROM snapshot_chunks WHERE room_id = $1`,
      [roomId],
    );
    const events = await store.query<{ nid: number; eventId: EventId; keyNid: number; type: string; key: string }>(
      `SELECT p.nid, p.event_id AS "eventId", k.nid AS "keyNid", k.type, k.state_key AS key
         FROM pdus p JOIN state_keys k ON k.nid = p.state_key_nid WHERE p.room_id = $1`,
      [roomId],
    );
    return new StoredStates(
      new Map(chunks.map(({ hash, body }) => [hash, decodeChunk(body)])),
      new Map(
        events.map(({ nid, eventId, keyNid, type, key }) => {
          return [nid, { eventId, keyNid, place: stateMapKey(fromStorable(type), fromStorable(key)) }];
        }),
      ),
    );
  }

  /** @throws where anything of it is not stored */
  stateOf(id: SnapshotId): StateMap {
    const known = this.#states.get(id);
    if (known !== undefined) return known;
    const read = readTrie(id, { members: true }, (hash) => this.#nodes.get(hash));
    if (read.missing !== undefined) throw new Error(`of the state ${id} ${read.missing.join()} is not stored`);
    const state = new Map<string, EventId>();
    for (const { key, value } of read.entries) {
      const event = this.#events.get(value);
      if (event?.keyNid !== stateKeyNidOf(key)) throw new Error(`the state ${id} names an event that is not stored`);
      state.set(event.place, event.eventId);
    }
    this.#states.set(id, state);
    return state;
  }
}
