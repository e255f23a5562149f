/** Events that the auth rules looked at lately, parsed: the power levels of a room are read for each of its events. */
import { LRUCache } from 'lru-cache';
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { type Pdu } from '../../matrix/pdu.ts';
import { type TrieKey } from '../snapshots/snapshot-trie.ts';

/** Some 10,000 memberships, or the power levels of a few hundred big rooms. */
const CACHE_BYTES_MAX = 16 * 1024 * 1024;

/** A stored event as auth rules and state resolution read it. Without a verdict: that may change. */
export interface AuthEvent {
  readonly nid: number;
  /** Its place in a state; `null`: it is no state event. */
  readonly key: TrieKey | null;
  readonly pdu: Pdu;
  /** What it takes in memory, about. */
  readonly bytes: number;
}

/** Rooms that were purged and joined again: whoever reads one's row says so anew. */
const PURGED_ROOMS_MAX = 10_000;

/** The most recently used of them. Found in the room they belong to only. */
export class AuthEventCache {
  readonly #nids = new Map<EventId, number>();
  readonly #begun = new LRUCache<RoomId, number>({ max: PURGED_ROOMS_MAX });
  readonly #events = new LRUCache<number, AuthEvent>({
    maxSize: CACHE_BYTES_MAX,
    sizeCalculation: ({ bytes }) => bytes,
    dispose: ({ nid, pdu }) => {
      if (this.#nids.get(pdu.eventId) === nid) this.#nids.delete(pdu.eventId);
    },
  });

  byNid(roomId: RoomId, nid: number): AuthEvent | undefined {
    const event = this.#events.get(nid);
    return event?.pdu.roomId === roomId ? event : undefined;
  }

  byId(roomId: RoomId, eventId: EventId): AuthEvent | undefined {
    const nid = this.#nids.get(eventId);
    return nid === undefined || nid <= (this.#begun.get(roomId) ?? 0) ? undefined : this.byNid(roomId, nid);
  }

  /** The room was purged: under an id there may be an event again, and then it has a number after `nid`. */
  begin(roomId: RoomId, nid: number): void {
    this.#begun.set(roomId, nid);
  }

  set(event: AuthEvent): void {
    if (this.#events.has(event.nid)) return;
    this.#events.set(event.nid, event);
    if (this.#events.has(event.nid)) this.#nids.set(event.pdu.eventId, event.nid);
  }

  /** Of an event that was deleted; under the same id it may have been stored again, with another number. */
  forget(nid: number): void {
    this.#events.delete(nid);
  }
}
