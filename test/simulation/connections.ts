/**
 * Connections to a database that outlive the processes of a simulation, which would each authenticate, parse and plan anew: more
 * work than all the rest of a run. Every statement is prepared under a name of its own, whichever process sends it.
 */
import type pg from 'pg';
import { type Store, openStore } from '../../src/store/open-store.ts';
import { type ServerName } from '../../src/matrix/identifiers.ts';

type Lent = (error: Error | undefined, client: pg.PoolClient | undefined, release: pg.PoolClient['release']) => void;

export interface Connections {
  /**
   * Lets a store that has made no connection yet take these, and never make one. `onLent` may put something of its own into the
   * place of a client's `query` and `release`; what it puts there is called for this loan only.
   */
  lendTo(store: Store, onLent?: (client: pg.PoolClient) => void): void;
  close(): Promise<void>;
}

export function openConnections(databaseUrl: string, poolSizeMax: number): Connections {
  const options = { databaseUrl, poolSizeMax, applicationName: 'rejoinder simulation' };
  const { pool } = openStore({ ...options, serverName: 'nobody.sim' as ServerName });
  // Nothing that is lent for a moment is worth closing.
  pool.options.idleTimeoutMillis = 0;
  const names = new Map<string, string>();
  const named = (config: unknown): unknown => {
    if (typeof config !== 'object' || config === null || !('text' in config) || 'submit' in config) return config;
    const text = String(config.text);
    const name = names.get(text) ?? `simulated_${names.size + 1}`;
    names.set(text, name);
    return { ...config, name };
  };
  const prepare = (client: pg.PoolClient): void => {
    const query = client.query.bind(client) as (...args: unknown[]) => unknown;
    const release = client.release.bind(client);
    client.query = ((config: unknown, ...rest: unknown[]) => query(named(config), ...rest)) as typeof client.query;
    client.release = (broken) => {
      delete (client as Partial<pg.PoolClient>).query;
      release(broken);
    };
  };
  return {
    lendTo: (store, onLent = () => undefined) => {
      const lend = (done: Lent): void => {
        pool.connect((error, client) => {
          if (client === undefined) {
            done(error, client, () => undefined);
            return;
          }
          prepare(client);
          onLent(client);
          done(error, client, (broken) => client.release(broken));
        });
      };
      store.pool.connect = ((given?: Lent) => {
        if (given === undefined) {
          return new Promise((resolve, reject) => {
            lend((error, client) => (client === undefined ? reject(error ?? new Error('no client')) : resolve(client)));
          });
        }
        lend(given);
        return undefined;
      }) as typeof store.pool.connect;
    },
    close: () => pool.end(),
  };
}
