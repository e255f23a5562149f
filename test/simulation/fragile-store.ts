/**
 * A store of a process that is going to die: the n-th commit from now fails, before or after it took effect, and nothing that
 * is sent to the database afterwards gets there. It also knows whether anything is under way.
 */
import type pg from 'pg';
import { type Store, type StoreOptions, openStore, sqlStateOf } from '../../src/store/open-store.ts';
import { type Connections } from './connections.ts';

/** Work that is under way, so that a simulation can wait until there is none. */
export class Activity {
  readonly #running = new Set<{ readonly what: string }>();
  #waiting: (() => void)[] = [];

  async during<T>(what: string, work: () => Promise<T>): Promise<T> {
    const over = this.begin(what);
    try {
      return await work();
    } finally {
      over();
    }
  }

  /** Something has begun; gives what says that it is over. */
  begin(what: string): () => void {
    const work = { what };
    this.#running.add(work);
    return () => {
      if (this.#running.delete(work) && this.#running.size === 0) for (const wake of this.#waiting.splice(0)) wake();
    };
  }

  /** Resolves when nothing has been under way for some turns of the event loop. Rejects with what is, when that does not end. */
  async idle(): Promise<void> {
    for (let quiet = 0; quiet < QUIET_TURNS; quiet += 1) {
      if (this.#running.size > 0) {
        quiet = 0;
        await this.#over();
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  #over(): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(new Error(`this does not end: ${[...this.#running].map(({ what }) => what).join(', ')}`));
      }, UNDER_WAY_MS_MAX);
      this.#waiting.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }
}

/** What follows from an answer starts within a turn or two. */
const QUIET_TURNS = 6;
/** In real time, of whatever a run waits for, on a busy machine. */
const UNDER_WAY_MS_MAX = 3 * 60_000;

/** What is tried again, after a pause of the real clock (`withTransaction`): while that lasts nothing is at rest. */
const LOST_CONFLICT = /^(40001|40P01|55P03|25P03)$/;
const PAUSE_MS_MAX = 200;

export class Crash extends Error {
  override readonly name = 'Crash';
}

export interface FragileStore {
  readonly store: Store;
  /** The n-th commit from now on fails; `after` it took effect, or before. */
  arm(commits: number, when: 'before' | 'after'): void;
  /** Nothing fails any more; true if it had been armed and had not failed yet. */
  disarm(): boolean;
  isDead(): boolean;
}

/** What a client's `query` is given and gives, in its three forms. */
type Query = (...args: unknown[]) => unknown;
type Done = (error: Error | null, result?: unknown) => void;

/** A store that borrows its connections. */
export function openFragileStore(options: StoreOptions, activity: Activity, connections: Connections): FragileStore {
  const store = openStore(options);
  let commitsLeft: number | undefined;
  let when: 'before' | 'after' = 'before';
  let isDead = false;

  /** What becomes of a statement: it may be the one at which the process dies. */
  const fateOf = (isCommit: boolean): 'sent' | 'dead' | 'dies-after' => {
    if (isDead) return 'dead';
    if (!isCommit || commitsLeft === undefined) return 'sent';
    commitsLeft -= 1;
    if (commitsLeft > 0) return 'sent';
    commitsLeft = undefined;
    if (when === 'after') return 'dies-after';
    isDead = true;
    return 'dead';
  };

  const fragile = (client: pg.PoolClient): void => {
    const query = client.query.bind(client) as Query;
    const giveBack = client.release.bind(client);
    let isOpen = false;
    client.query = ((...args: unknown[]) => {
      const text = textOf(args[0]);
      const isCommit = text === 'COMMIT' || isSubmittable(args[0]) || (!isOpen && isWrite(text));
      if (text.startsWith('BEGIN')) isOpen = true;
      if (text === 'COMMIT' || text === 'ROLLBACK') isOpen = false;
      const fate = fateOf(isCommit);
      const over = activity.begin(text);
      const finish = (error: Error | null, done: Done, result?: unknown): void => {
        if (LOST_CONFLICT.test(sqlStateOf(error) ?? '')) setTimeout(activity.begin('another try'), PAUSE_MS_MAX);
        over();
        if (fate === 'dies-after') isDead = true;
        done(error ?? (isDead ? new Crash('the process has died') : null), result);
      };
      const send = (done: Done): void => {
        if (fate === 'dead') process.nextTick(finish, new Crash('the process has died'), done);
        else query(...argumentsWith(args, (error, result) => finish(error, done, result)));
      };
      if (isSubmittable(args[0])) {
        const submitted = args[0] as { callback: Done };
        const { callback } = submitted;
        if (fate === 'dead') {
          process.nextTick(finish, new Crash('the process has died'), callback);
          return submitted;
        }
        submitted.callback = (error, result) => finish(error, callback, result);
        return query(submitted);
      }
      const last = args.at(-1);
      if (typeof last === 'function') {
        send(last as Done);
        return;
      }
      return new Promise((resolve, reject) => {
        send((error, result) => (error === null ? resolve(result) : reject(error)));
      });
    }) as typeof client.query;
    client.release = (broken) => {
      if (!isDead) {
        giveBack(broken);
        return;
      }
      // What PostgreSQL does when the connection of a dead process ends.
      const over = activity.begin('ROLLBACK');
      query('ROLLBACK', (error: Error | null) => {
        giveBack(error ?? undefined);
        over();
      });
    };
  };
  connections.lendTo(store, fragile);
  return {
    store,
    arm: (commits, at) => {
      commitsLeft = commits;
      when = at;
    },
    disarm: () => {
      const wasArmed = commitsLeft !== undefined;
      commitsLeft = undefined;
      return wasArmed;
    },
    isDead: () => isDead,
  };
}

const WRITES = /^\s*(INSERT|UPDATE|DELETE|WITH[\s\S]*\b(INSERT INTO|UPDATE|DELETE FROM)\b)/i;

const writes = new Map<string, boolean>();

function isWrite(text: string): boolean {
  const known = writes.get(text) ?? WRITES.test(text);
  writes.set(text, known);
  return known;
}

function isSubmittable(config: unknown): boolean {
  return typeof config === 'object' && config !== null && 'submit' in config && 'callback' in config;
}

function textOf(config: unknown): string {
  if (typeof config === 'string') return config;
  if (typeof config === 'object' && config !== null && 'text' in config) return String(config.text);
  return '';
}

/** The arguments of a query with another callback. */
function argumentsWith(args: readonly unknown[], done: Done): unknown[] {
  const given = typeof args.at(-1) === 'function' ? args.slice(0, -1) : args;
  return [...given.filter((arg) => arg !== undefined), done];
}
