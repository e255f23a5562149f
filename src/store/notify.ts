/**
 * Hears of appends through one LISTEN connection a process, and lets callers wait for what the database says next. The
 * notification carries no truth: a waiter registers, then looks, then sleeps, and looks again at least every `pollMs`, so
 * that a lost notification costs a poll and never a hang.
 */
import pg from 'pg';
import { type RoomId } from '../matrix/identifiers.ts';
import { NOTIFY_CHANNEL } from './journal/journal.ts';
import { type Store, type StoreLogger } from './open-store.ts';

export interface Notification {
  readonly roomId: RoomId;
  /** Of the last entry of one append. */
  readonly position: number;
}

export interface WaitOptions {
  /** Aborting ends the wait at once; it rejects with the signal's reason. */
  readonly signal: AbortSignal;
  /** The longest wait. */
  readonly timeoutMs: number;
  /** The longest pause between two looks. */
  readonly pollMs: number;
}

export interface Notifier {
  /**
   * Waits until `check` gives something other than `undefined`, and gives that; `undefined` after `timeoutMs`. `check` runs
   * at once, after each append to the room and every `pollMs`, never twice at a time; its errors reject the wait.
   */
  waitFor<Result>(
    roomId: RoomId,
    check: () => Promise<Result | undefined>,
    options: WaitOptions,
  ): Promise<Result | undefined>;
  /** Calls `listener` for every append; `null` when some may have been missed. Gives the function that ends it. */
  subscribe(listener: (notification: Notification | null) => void): () => void;
  /** Callers that wait now. */
  readonly waiting: number;
  /** Ends the connection. Waits go on by polling. */
  close(): Promise<void>;
}

const FIRST_RECONNECT_MS = 50;
const LONGEST_RECONNECT_MS = 5_000;

/** Connects in the background; until that succeeds, and while the connection is lost, waits go on by polling. */
export function createNotifier(store: Store, logger?: StoreLogger): Notifier {
  const wakers = new Map<RoomId, Set<() => void>>();
  const listeners = new Set<(notification: Notification | null) => void>();
  const wake = (notification: Notification | null): void => {
    const rooms = notification === null ? [...wakers.values()] : [wakers.get(notification.roomId) ?? []];
    for (const room of rooms) for (const waker of [...room]) waker();
    for (const listener of [...listeners]) listener(notification);
  };
  const listening = new ListenConnection(store, wake, logger);
  return {
    waitFor: (roomId, check, options) => waitFor(wakers, roomId, check, options),
    subscribe: (listener) => {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    get waiting() {
      return [...wakers.values()].reduce((sum, room) => sum + room.size, 0);
    },
    close: () => listening.close(),
  };
}

async function waitFor<Result>(
  wakers: Map<RoomId, Set<() => void>>,
  roomId: RoomId,
  check: () => Promise<Result | undefined>,
  { signal, timeoutMs, pollMs }: WaitOptions,
): Promise<Result | undefined> {
  signal.throwIfAborted();
  const alarm = new Alarm();
  const room = wakers.get(roomId) ?? new Set();
  wakers.set(roomId, room.add(alarm.ring));
  signal.addEventListener('abort', alarm.ring);
  const deadline = setTimeout(alarm.end, timeoutMs);
  try {
    for (;;) {
      const result = await check();
      signal.throwIfAborted();
      if (result !== undefined || alarm.ended) return result;
      await alarm.sleep(pollMs);
      signal.throwIfAborted();
    }
  } finally {
    clearTimeout(deadline);
    signal.removeEventListener('abort', alarm.ring);
    room.delete(alarm.ring);
    if (room.size === 0 && wakers.get(roomId) === room) wakers.delete(roomId);
  }
}

/** Wakes one sleeper; a ring while nobody sleeps makes the next sleep end at once. */
class Alarm {
  ended = false;
  #rung = false;
  #wake = (): void => undefined;

  readonly ring = (): void => {
    this.#rung = true;
    this.#wake();
  };

  readonly end = (): void => {
    this.ended = true;
    this.ring();
  };

  async sleep(atMostMs: number): Promise<void> {
    if (!this.#rung) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, atMostMs);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    this.#rung = false;
  }
}

/** Owns the connection: connects, listens, and starts over whenever it breaks. */
class ListenConnection {
  readonly #store: Store;
  readonly #wake: (notification: Notification | null) => void;
  readonly #logger: StoreLogger | undefined;
  #client: pg.Client | undefined;
  #retry: NodeJS.Timeout | undefined;
  #pauseMs = FIRST_RECONNECT_MS;
  #closed = false;

  constructor(store: Store, wake: (notification: Notification | null) => void, logger: StoreLogger | undefined) {
    this.#store = store;
    this.#wake = wake;
    this.#logger = logger;
    void this.#connect();
  }

  async #connect(): Promise<void> {
    const client = new pg.Client(this.#store.connection);
    this.#client = client;
    client.on('error', (error) => this.#lost(client, error));
    client.on('end', () => this.#lost(client, undefined));
    client.on('notification', ({ payload }) => {
      const notification = parse(payload);
      if (notification !== undefined) this.#wake(notification);
    });
    try {
      await client.connect();
      await client.query(`LISTEN ${NOTIFY_CHANNEL}`);
      this.#pauseMs = FIRST_RECONNECT_MS;
      // What was sent before LISTEN took effect is not delivered: everybody looks once.
      this.#wake(null);
    } catch (error) {
      this.#lost(client, error);
    }
  }

  #lost(client: pg.Client, error: unknown): void {
    if (this.#client !== client || this.#closed) return;
    this.#client = undefined;
    client.end().catch(() => undefined);
    this.#logger?.warn({ err: error, retryInMs: this.#pauseMs }, 'the database connection that listens was lost');
    this.#retry = setTimeout(() => void this.#connect(), this.#pauseMs);
    this.#pauseMs = Math.min(this.#pauseMs * 2, LONGEST_RECONNECT_MS);
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#retry);
    // It may be broken or not connected yet; either way it is gone afterwards.
    await this.#client?.end().catch(() => undefined);
  }
}

function parse(payload: string | undefined): Notification | undefined {
  const [position, roomId] = payload?.split(' ', 2) ?? [];
  return roomId === undefined ? undefined : { position: Number(position), roomId: roomId as RoomId };
}
