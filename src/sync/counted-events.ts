/**
 * What has been counted of a user's unread events, so that the next sync looks only at what came since. In memory and bounded: what is
 * forgotten is counted once more.
 */
import { LRUCache } from 'lru-cache';
import { type EventId, type RoomId, type UserId } from '../matrix/identifiers.ts';
import { type PushRules } from '../matrix/client/default-push-rules.ts';
import { type UnreadCounts } from './contract.ts';

/** Rooms of users, some 200 bytes each, and as much a thread; and users, whose rules are some kilobytes each. */
const ROOMS_MAX = 50_000;
const USERS_MAX = 2_000;

export interface Counted extends UnreadCounts {
  /** What is shown after one position and up to the other is counted. */
  readonly from: number;
  readonly upTo: number;
  /** Of threads, where they are counted apart, and what was read of each as that was counted. */
  readonly threads: ReadonlyMap<EventId, UnreadCounts> | null;
  readonly threadsRead: string;
  /** A room that has become whole is counted anew: events may have come and gone. */
  readonly partial: boolean;
}

export class CountedEvents {
  readonly #rooms = new LRUCache<string, Counted>({ max: ROOMS_MAX });
  readonly #users = new LRUCache<UserId, { readonly said: string; readonly number: number }>({ max: USERS_MAX });
  #numbers = 0;

  /** Under which number a user is known while he has these rules and ignores these. */
  numberOf(userId: UserId, rules: PushRules, ignored: readonly UserId[]): number {
    const said = JSON.stringify([rules, ignored]);
    const known = this.#users.get(userId);
    if (known?.said === said) return known.number;
    this.#users.set(userId, { said, number: (this.#numbers += 1) });
    return this.#numbers;
  }

  /** `byThread`: threads apart. */
  get(user: number, roomId: RoomId, byThread: boolean): Counted | undefined {
    return this.#rooms.get(placeOf(user, roomId, byThread));
  }

  set(user: number, roomId: RoomId, counted: Counted): void {
    this.#rooms.set(placeOf(user, roomId, counted.threads !== null), counted);
  }
}

function placeOf(user: number, roomId: RoomId, byThread: boolean): string {
  return `${user} ${byThread ? 'threads' : 'all'} ${roomId}`;
}
