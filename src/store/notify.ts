/**
 * Hears of what is written through one LISTEN connection a process, and lets callers wait for what the database says next. The
 * notification carries no truth: a waiter registers, then looks, then sleeps, and looks again now and then, so that a lost
 * notification costs a poll and never a hang. While the connection is up such polls are rare and spread out; waiters of one
 * thing share their looks (watch.ts). 5,000 waiters that each looked once a second took four fifths of a processor.
 */
import pg from 'pg';
import { type Cancellation, errorOf } from '../cancellation.ts';
import { NOTIFY_CHANNEL, type Topic } from './journal/positions.ts';
import { NOTE_RECOVERY } from './journal/recoveries.ts';
import { type Store, type StoreLogger } from './open-store.ts';
import { Watch } from './watch.ts';

export interface Notification {
  readonly topic: Topic;
  /** The last one of what was written. */
  readonly position: number;
}

/** What a wait is for; `null`: an append to any room. */
export type Awaited = Topic | null;

export interface WaitOptions {
  /** Aborting ends the wait at once; it rejects with the signal's reason. */
  readonly signal: Cancellation;
  /** The longest wait. */
  readonly timeoutMs: number;
  /** The longest pause between two looks while nothing can be heard; half a minute to a minute otherwise. */
  readonly pollMs: number;
}

export interface Notifier {
  /**
   * Waits until `look` gives something other than `undefined`, and gives that; `undefined` after `timeoutMs`. It looks at
   * once, whenever something was written about the topic and now and then, never twice at a time; errors reject the wait.
   * Waiters for a topic with the same function share its looks, and its first waiter's `pollMs`.
   */
  waitFor<Of extends Awaited, Result>(
    topic: Of,
    look: (topic: Of) => Promise<Result | undefined>,
    options: WaitOptions,
  ): Promise<Result | undefined>;
  /** As `waitFor`, for any of several topics, each named once. These looks are shared with nobody. */
  waitForAny<Result>(
    topics: readonly Awaited[],
    look: () => Promise<Result | undefined>,
    options: WaitOptions,
  ): Promise<Result | undefined>;
  /** Calls `listener` for everything that is told; `null` when some may have been missed. Gives the function that ends it. */
  subscribe(listener: (notification: Notification | null) => void): () => void;
  /** Callers that wait now. */
  readonly waiting: number;
  /** Ends the connection. Waits go on by polling. */
  close(): Promise<void>;
}

const FIRST_RECONNECT_MS = 50;
const LONGEST_RECONNECT_MS = 5_000;

/** Polls of one watch while the connection is up: this long, and up to as long again by its turn, so that they are spread. */
const SAFETY_POLL_MS = 30_000;
const SAFETY_POLL_STEPS = 30;

/** When the connection is lost, and when it is back, everybody looks once, spread over a second. */
const WAKE_STEP_MS = 50;
const WAKE_STEPS = 20;

type Look = (topic: never) => Promise<unknown>;

/** Connects in the background; until that succeeds, and while the connection is lost, waits go on by polling. */
export function createNotifier(store: Store, logger?: StoreLogger): Notifier {
  const watches = new Set<Watch<unknown>>();
  const byTopic = new Map<Awaited, Set<Watch<unknown>>>();
  const shared = new Map<Awaited, Map<Look, Watch<unknown>>>();
  const listeners = new Set<(notification: Notification | null) => void>();
  let made = 0;

  /** Not all in the same moment. */
  const wakeAll = (): void => {
    let i = 0;
    for (const watch of [...watches]) watch.wakeIn((i++ % WAKE_STEPS) * WAKE_STEP_MS);
  };
  const hear = (notification: Notification | null): void => {
    for (const listener of [...listeners]) listener(notification);
    if (notification === null) {
      wakeAll();
    } else {
      const { topic } = notification;
      for (const about of topic.startsWith('!') ? [topic, null] : [topic]) {
        for (const watch of byTopic.get(about) ?? []) watch.wake();
      }
    }
  };
  const listening = new ListenConnection(store, hear, wakeAll, logger);

  const makeWatch = (
    topics: readonly Awaited[],
    look: () => Promise<unknown>,
    pollMs: number,
    onIdle?: () => void,
  ): Watch<unknown> => {
    const turn = made++ % SAFETY_POLL_STEPS;
    const safetyMs = SAFETY_POLL_MS * (1 + turn / SAFETY_POLL_STEPS);
    const watch = new Watch<unknown>({
      look,
      pauseMs: () => (listening.isUp ? safetyMs : pollMs),
      onIdle: () => {
        watches.delete(watch);
        for (const topic of topics) removeFrom(byTopic, topic, watch);
        onIdle?.();
      },
    });
    watches.add(watch);
    for (const topic of topics) {
      const ofTopic = byTopic.get(topic) ?? new Set();
      byTopic.set(topic, ofTopic.add(watch));
    }
    return watch;
  };
  const sharedWatch = (topic: Awaited, look: Look, pollMs: number): Watch<unknown> => {
    const ofTopic = shared.get(topic) ?? new Map<Look, Watch<unknown>>();
    shared.set(topic, ofTopic);
    const known = ofTopic.get(look);
    if (known !== undefined) return known;
    // A watch calls `look` with the topic it was made for.
    const watch = makeWatch(
      [topic],
      () => look(topic as never),
      pollMs,
      () => {
        ofTopic.delete(look);
        if (ofTopic.size === 0 && shared.get(topic) === ofTopic) shared.delete(topic);
      },
    );
    ofTopic.set(look, watch);
    return watch;
  };

  return {
    // What waits is the promise of the watch alone: thousands of requests may be held by it.
    waitFor: <Of extends Awaited, Result>(
      topic: Of,
      look: (topic: Of) => Promise<Result | undefined>,
      { signal, timeoutMs, pollMs }: WaitOptions,
    ) => {
      if (signal.aborted) return Promise.reject(errorOf(signal.reason));
      return sharedWatch(topic, look, pollMs).wait(signal, timeoutMs) as Promise<Result | undefined>;
    },
    waitForAny: async <Result>(
      topics: readonly Awaited[],
      look: () => Promise<Result | undefined>,
      { signal, timeoutMs, pollMs }: WaitOptions,
    ) => {
      if (signal.aborted) throw errorOf(signal.reason);
      return (await makeWatch(topics, look, pollMs).wait(signal, timeoutMs)) as Result | undefined;
    },
    subscribe: (listener) => {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    get waiting() {
      return [...watches].reduce((sum, watch) => sum + watch.waiting, 0);
    },
    close: () => listening.close(),
  };
}

/** Owns the connection: connects, listens, and starts over whenever it breaks. */
class ListenConnection {
  readonly #store: Store;
  readonly #wake: (notification: Notification | null) => void;
  readonly #onLost: () => void;
  readonly #logger: StoreLogger | undefined;
  #client: pg.Client | undefined;
  #retry: NodeJS.Timeout | undefined;
  #pauseMs = FIRST_RECONNECT_MS;
  #closed = false;

  /** Whether appends are heard of. */
  isUp = false;

  constructor(
    store: Store,
    wake: (notification: Notification | null) => void,
    onLost: () => void,
    logger: StoreLogger | undefined,
  ) {
    this.#store = store;
    this.#wake = wake;
    this.#onLost = onLost;
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
      // PostgreSQL may have crashed: then this connection was lost, too.
      await client.query(`LISTEN ${NOTIFY_CHANNEL}; ${NOTE_RECOVERY}`);
      this.#pauseMs = FIRST_RECONNECT_MS;
      this.isUp = true;
      // What was sent before LISTEN took effect is not delivered: everybody looks once.
      this.#wake(null);
    } catch (error) {
      this.#lost(client, error);
    }
  }

  #lost(client: pg.Client, error: unknown): void {
    if (this.#client !== client || this.#closed) return;
    this.#client = undefined;
    this.#goDown();
    client.end().catch(() => undefined);
    this.#logger?.warn({ err: error, retryInMs: this.#pauseMs }, 'the database connection that listens was lost');
    this.#retry = setTimeout(() => void this.#connect(), this.#pauseMs);
    this.#pauseMs = Math.min(this.#pauseMs * 2, LONGEST_RECONNECT_MS);
  }

  #goDown(): void {
    if (!this.isUp) return;
    this.isUp = false;
    this.#onLost();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#goDown();
    clearTimeout(this.#retry);
    // It may be broken or not connected yet; either way it is gone afterwards.
    await this.#client?.end().catch(() => undefined);
  }
}

function removeFrom<Key, Item>(sets: Map<Key, Set<Item>>, key: Key, item: Item): void {
  const set = sets.get(key);
  if (set?.delete(item) === true && set.size === 0) sets.delete(key);
}

function parse(payload: string | undefined): Notification | undefined {
  // A room id may hold spaces, and any other character.
  const space = payload?.indexOf(' ') ?? -1;
  if (payload === undefined || space < 0) return undefined;
  return { position: Number(payload.slice(0, space)), topic: payload.slice(space + 1) as Topic };
}
