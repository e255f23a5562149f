/**
 * What is unread by thread: what was read of each, and how events are counted by that. A receipt of a thread reads that alone, one of `main`
 * what is in none, and one without a thread all of the room; who speaks has read the thread that he speaks in, and who comes all.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#threaded-read-receipts and #receiving-notifications
 */
import { isJsonObject } from '../matrix/json/strict-json.ts';
import { type EventId, type RoomId, type UserId, parseEventId } from '../matrix/identifiers.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { type ShownPdu } from '../store/journal/seen-by-clients.ts';
import { type Sql } from '../store/open-store.ts';
import { readThreadsRead } from '../store/tables/receipts.ts';
import { type RoomUnread, type UnreadCounts } from './contract.ts';
import { type RoomSpan } from './read-spans.ts';

/** What a user has read of a room; positions from which on events are shown. */
export interface ReadInRoom {
  /** What is shown after it is looked through. */
  readonly from: number;
  /** Of what is in no thread; of everything where threads are not counted apart. */
  readonly main: number;
  /** Of threads, by their first events, where that is more than `from`; `null`: they are not counted apart. */
  readonly threads: ReadonlyMap<string, number> | null;
  /** The same in a text, to be compared. */
  readonly said: string;
}

/** What the user has read of each of the rooms. One statement where threads are counted apart, none otherwise. */
export async function readInRooms(
  sql: Sql,
  userId: UserId,
  rooms: readonly Pick<RoomSpan, 'roomId' | 'room'>[],
  byThread: boolean,
): Promise<(roomId: RoomId) => ReadInRoom> {
  const upTo = new Map(rooms.map(({ roomId, room }) => [roomId, room.readUpTo]));
  const ofRooms = new Map<RoomId, Map<string, number>>();
  if (byThread) {
    for (const { roomId, threadId, upTo: read } of await readThreadsRead(sql, userId, [...upTo.keys()])) {
      ofRooms.set(roomId, (ofRooms.get(roomId) ?? new Map<string, number>()).set(threadId, read));
    }
  }
  return (roomId) => {
    const main = upTo.get(roomId) ?? 0;
    if (!byThread) return { from: main, main, threads: null, said: '' };
    const threads = ofRooms.get(roomId) ?? new Map<string, number>();
    // Of what was read before it was kept by thread nothing else is known than how far.
    const from = threads.has('main') || threads.has('') ? Math.min(main, threads.get('') ?? 0) : main;
    return { from, main, threads, said: `${from} ${[...threads].flat().join(' ')}` };
  };
}

/** Counts the events of a room, the oldest first. */
export class UnreadTally {
  readonly #read: ReadInRoom;
  readonly #threads: Map<EventId, UnreadCounts>;
  #main: UnreadCounts;

  constructor(read: ReadInRoom, known: RoomUnread | undefined) {
    this.#read = read;
    this.#main = { notified: known?.notified ?? 0, highlighted: known?.highlighted ?? 0 };
    this.#threads = new Map(known?.threads);
  }

  /** The user has said something. */
  speak(event: JsonObject): void {
    const thread = this.#threadOf(event);
    if (thread !== null) {
      this.#threads.delete(thread);
      return;
    }
    this.#main = { notified: 0, highlighted: 0 };
    // It is he who comes.
    if (event['type'] === 'm.room.member' && event['state_key'] === event['sender']) this.#threads.clear();
  }

  /** Somebody has said something that he is notified of. */
  count({ shownAt }: ShownPdu, event: JsonObject, isHighlighted: boolean): void {
    const thread = this.#threadOf(event);
    const more = ({ notified, highlighted }: UnreadCounts): UnreadCounts => ({
      notified: notified + 1,
      highlighted: highlighted + (isHighlighted ? 1 : 0),
    });
    if (thread === null) {
      if (shownAt > this.#read.main) this.#main = more(this.#main);
    } else if (shownAt > (this.#read.threads?.get(thread) ?? 0)) {
      this.#threads.set(thread, more(this.#threads.get(thread) ?? { notified: 0, highlighted: 0 }));
    }
  }

  /** None more than `max`. */
  counts(max: number): RoomUnread {
    const cut = ({ notified, highlighted }: UnreadCounts): UnreadCounts => ({
      notified: Math.min(notified, max),
      highlighted: Math.min(highlighted, max),
    });
    const threads = new Map([...this.#threads].map(([thread, counts]) => [thread, cut(counts)]));
    return { ...cut(this.#main), threads: this.#read.threads === null ? null : threads };
  }

  #threadOf({ content }: JsonObject): EventId | null {
    const relation = this.#read.threads !== null && isJsonObject(content) ? content['m.relates_to'] : undefined;
    if (!isJsonObject(relation) || relation['rel_type'] !== 'm.thread') return null;
    return parseEventId(relation['event_id']) ?? null;
  }
}
