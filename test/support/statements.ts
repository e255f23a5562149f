/** What a piece of work sends to PostgreSQL, for tests that hold the number of statements. */
import { AsyncLocalStorage, AsyncResource } from 'node:async_hooks';
import pg from 'pg';

/** Set in whatever a timer that ticks again and again has begun: loops look for work whether somebody waits for it or not. */
const ticking = new AsyncLocalStorage<true>();

const setAnyInterval = globalThis.setInterval as (work: (...given: unknown[]) => unknown, ...rest: never[]) => unknown;
globalThis.setInterval = ((work: (...given: unknown[]) => unknown, ...rest: never[]) =>
  setAnyInterval((...given) => ticking.run(true, work, ...given), ...rest)) as typeof setInterval;

// Whoever waits for a connection is called by who gives it back.
const pools = pg.Pool.prototype as unknown as { connect: (onFree?: (...given: unknown[]) => void) => unknown };
const connectAny = pools.connect;
pools.connect = function (this: pg.Pool, onFree) {
  return connectAny.call(this, onFree && AsyncResource.bind(onFree));
};

/**
 * The texts of the statements that every client of this process sent while `work` ran, in order: but for what loops send that were
 * started before it, and for the connections that listen.
 */
export async function statementsOf(work: () => Promise<unknown>): Promise<string[]> {
  const texts: string[] = [];
  const prototype = pg.Client.prototype as unknown as { query: (...args: unknown[]) => unknown };
  const original = prototype.query;
  prototype.query = function (this: pg.Client, ...args: unknown[]) {
    const [query] = args;
    const text = typeof query === 'string' ? query : ((query as { text?: string } | null)?.text ?? '?');
    if (ticking.getStore() === undefined && !text.startsWith('LISTEN ')) texts.push(text);
    return original.apply(this, args);
  };
  try {
    await work();
  } finally {
    prototype.query = original;
  }
  return texts;
}
