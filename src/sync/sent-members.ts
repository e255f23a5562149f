/**
 * Which memberships a device has been given, so that a lazy client is not given them again with each message. In memory and
 * bounded: what is forgotten is sent once more. A membership counts as had once the client asks from the token that came with it;
 * a client that asks from another one did not get that response, or got one of another process since, and is given it again.
 */
import { LRUCache } from 'lru-cache';
import { type RoomId } from '../matrix/identifiers.ts';
import { type TrieKey } from '../store/snapshots/snapshot-trie.ts';

/** Devices of one process, and memberships of one device: some 100 bytes each. */
const DEVICES_MAX = 1_000;
const MEMBERS_MAX = 2_000;

/** The number of no event. */
const NOTHING = -1;

interface Sent {
  readonly nid: number;
  /** Of the token that came with it. */
  readonly position: number;
}

interface Device {
  /** What it has, by place and room. */
  readonly had: LRUCache<string, Sent>;
  /** What came with its last response, of which nobody knows whether it got there. */
  underWay: Map<string, Sent>;
}

export class SentMembers {
  readonly #devices = new LRUCache<string, Device>({ max: DEVICES_MAX });

  /** A client asks from its token; `null`: it begins anew, and has nothing. */
  begin(device: string, since: number | null): void {
    if (since === null) this.#devices.delete(device);
    const known = this.#devices.get(device);
    if (known === undefined) return;
    for (const [name, sent] of known.underWay) if (sent.position === since) known.had.set(name, sent);
    known.underWay = new Map();
  }

  /** Whether a client has this membership. What it was sent before the position `from` it may have forgotten. */
  has(device: string, roomId: RoomId, key: TrieKey, nid: number, from: number): boolean {
    const sent = this.#devices.get(device)?.had.get(`${key} ${roomId}`);
    return sent?.nid === nid && sent.position >= from;
  }

  add(device: string, roomId: RoomId, key: TrieKey, sent: Sent): void {
    const known = this.#devices.get(device) ?? { had: new LRUCache({ max: MEMBERS_MAX }), underWay: new Map() };
    this.#devices.set(device, known);
    if (known.underWay.size < MEMBERS_MAX) known.underWay.set(`${key} ${roomId}`, sent);
  }

  /** It is told, with the token of `position`, that there is nothing in this place. */
  addEmpty(device: string, roomId: RoomId, key: TrieKey, position: number): void {
    this.add(device, roomId, key, { nid: NOTHING, position });
  }

  /** A client that leaves a room, or joins it anew, has nothing of it. */
  forgetRoom(device: string, roomId: RoomId): void {
    const had = this.#devices.get(device)?.had;
    for (const name of had?.keys() ?? []) if (name.endsWith(` ${roomId}`)) had?.delete(name);
  }
}
