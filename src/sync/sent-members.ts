/**
 * Which memberships a device has been given, so that a lazy client is not given them again with each message. In memory and
 * bounded: what is forgotten is sent once more. A membership counts as had from the token on with which it was sent; so a client
 * that did not get a response, and asks once more from the token before it, is given it again.
 */
import { LRUCache } from 'lru-cache';
import { type RoomId } from '../matrix/identifiers.ts';
import { type TrieKey } from '../store/snapshots/snapshot-trie.ts';

/** Devices of one process, and memberships of one device: some 100 bytes each. */
const DEVICES_MAX = 1_000;
const MEMBERS_MAX = 2_000;

interface Sent {
  readonly nid: number;
  /** Of the token that came with it. */
  readonly position: number;
}

export class SentMembers {
  readonly #devices = new LRUCache<string, LRUCache<string, Sent>>({ max: DEVICES_MAX });

  /** Whether a client with a token of `since` has this membership. */
  has(device: string, roomId: RoomId, key: TrieKey, nid: number, since: number): boolean {
    const sent = this.#devices.get(device)?.get(`${key} ${roomId}`);
    return sent?.nid === nid && sent.position <= since;
  }

  add(device: string, roomId: RoomId, key: TrieKey, sent: Sent): void {
    const members = this.#devices.get(device) ?? new LRUCache<string, Sent>({ max: MEMBERS_MAX });
    this.#devices.set(device, members);
    const name = `${key} ${roomId}`;
    const known = members.get(name);
    if (known?.nid !== sent.nid || known.position > sent.position) members.set(name, sent);
  }

  /** A client that begins anew has nothing. */
  forget(device: string): void {
    this.#devices.delete(device);
  }
}
