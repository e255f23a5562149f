/**
 * The connection pool and the transactions over it. `Sql` is what every function of this folder takes: a `Store`, which
 * uses any free connection for each statement, or a `Transaction`, which keeps to one.
 */
import { type NodePgDatabase, drizzle } from 'drizzle-orm/node-postgres';
import pg from 'pg';
import { type ServerName } from '../matrix/identifiers.ts';
import { invariant } from '../invariant.ts';
import { type Journalled } from '../resync/events.ts';
import { type ResyncState } from '../resync/state.ts';
import { ChunkCache } from './snapshots/chunk-cache.ts';

/** What both a store and a transaction offer. */
export interface Sql {
  readonly serverName: ServerName;
  /** Ordinary reads and writes. */
  readonly db: NodePgDatabase;
  /** Decoded snapshot chunks, shared by everything over one pool. */
  readonly chunkCache: ChunkCache;
  query<Row extends object>(text: string, values?: readonly unknown[]): Promise<Row[]>;
  /** Runs `work` in a transaction: the one that is open, or a new one. */
  inTransaction<Result>(work: (tx: Transaction) => Promise<Result>): Promise<Result>;
}

/** One open transaction, READ COMMITTED: each statement sees what was committed before it. */
export interface Transaction extends Sql {
  readonly client: pg.PoolClient;
  /** Tells the store's observer of an append, once the transaction is durable; never when it rolls back. */
  readonly tell: (appended: Appended) => void;
}

/** What one append wrote. */
export interface Appended {
  readonly entries: readonly Journalled[];
  /** The resync of the room's epoch after the entries; `null` when none of them is a control event. */
  readonly resync: ResyncState | null;
}

/** The database as one process uses it. */
export interface Store extends Sql {
  readonly pool: pg.Pool;
  /** For connections outside the pool, such as the one that listens. */
  readonly connection: pg.ClientConfig;
  /** Told of what was appended, once it is durable. Never throws. */
  readonly onAppended: (appended: Appended) => void;
  /** Waits for running statements and closes all connections. */
  close(): Promise<void>;
}

export interface StoreLogger {
  warn(fields: object, message: string): void;
}

export interface StoreOptions {
  readonly databaseUrl: string;
  readonly serverName: ServerName;
  readonly poolSizeMax: number;
  /** Shown in pg_stat_activity. */
  readonly applicationName: string;
  readonly logger?: StoreLogger;
  /** Told of every append of this process, each once. What it throws is logged. */
  readonly onAppended?: (appended: Appended) => void;
}

/** How long a statement waits for a free connection before it fails with a clear error. */
const CONNECTION_WAIT_MS_MAX = 30_000;

/** A transaction that lost a conflict is run again this often; more means that the load does not fit, which a caller should see. */
const ATTEMPTS_MAX = 5;
const RETRY_PAUSE_MS = 10;

/** serialization_failure and deadlock_detected: nothing happened, and running again helps. */
const RETRYABLE = new Set(['40001', '40P01']);

const INT8_OID = 20;

/** The driver's own; its type for object ids is an enum of the built-in ones, and ids of extensions are numbers too. */
const driverParser = pg.types.getTypeParser as (oid: number, format?: 'text' | 'binary') => unknown;

function exactNumber(digits: string): number {
  const value = Number(digits);
  invariant(Number.isSafeInteger(value), `the integer ${digits} of the database is not exact in JavaScript`);
  return value;
}

/** Reads bigints as numbers. */
const types: pg.CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: 'text' | 'binary'): unknown =>
    oid === INT8_OID && format !== 'binary'
      ? exactNumber
      : driverParser(oid, format)) as pg.CustomTypesConfig['getTypeParser'],
};

/** Opens a pool. No connection is made before the first statement. */
export function openStore(options: StoreOptions): Store {
  const connection: pg.ClientConfig = {
    connectionString: options.databaseUrl,
    application_name: options.applicationName,
    types,
    keepAlive: true,
  };
  const pool = new pg.Pool({
    ...connection,
    max: options.poolSizeMax,
    connectionTimeoutMillis: CONNECTION_WAIT_MS_MAX,
  });
  // Without a listener an idle connection that breaks, as at a restart of PostgreSQL, ends the process.
  pool.on('error', (error) => options.logger?.warn({ err: error }, 'an idle database connection broke'));
  const store: Store = {
    serverName: options.serverName,
    db: drizzle(pool, { casing: 'snake_case' }),
    chunkCache: new ChunkCache(),
    pool,
    connection,
    query: async <Row extends object>(text: string, values?: readonly unknown[]) =>
      (await pool.query<Row & pg.QueryResultRow>(text, values as unknown[] | undefined)).rows,
    inTransaction: (work) => withTransaction(store, work),
    onAppended: (appended) => {
      try {
        options.onAppended?.(appended);
      } catch (error) {
        // What is committed has happened: whoever did it must not hear of a failure.
        options.logger?.warn({ err: error }, 'the observer of the journal failed');
      }
    },
    close: () => pool.end(),
  };
  return store;
}

function transactionOver(store: Store, client: pg.PoolClient, tell: Transaction['tell']): Transaction {
  let db: NodePgDatabase | undefined;
  const tx: Transaction = {
    serverName: store.serverName,
    // Most transactions have no use for it, and it is slow to make.
    get db() {
      return (db ??= drizzle(client, { casing: 'snake_case' }));
    },
    chunkCache: store.chunkCache,
    client,
    tell,
    query: async <Row extends object>(text: string, values?: readonly unknown[]) =>
      (await client.query<Row & pg.QueryResultRow>(text, values as unknown[] | undefined)).rows,
    inTransaction: (work) => work(tx),
  };
  return tx;
}

/** The database's own error; drizzle wraps it as a cause. */
function databaseError(error: unknown): pg.DatabaseError | undefined {
  if (error instanceof pg.DatabaseError) return error;
  return error instanceof Error && error.cause !== undefined ? databaseError(error.cause) : undefined;
}

/** The constraint that a statement ran against; `undefined` for other errors. */
export function constraintOf(error: unknown): string | undefined {
  return databaseError(error)?.constraint;
}

/**
 * Runs `work` between BEGIN and COMMIT and gives its result once that is durable. Any error rolls back. A lost conflict
 * runs `work` again from the start, at most four times: it must not keep results of an earlier run outside.
 */
export async function withTransaction<Result>(
  store: Store,
  work: (tx: Transaction) => Promise<Result>,
): Promise<Result> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await runTransaction(store, work);
    } catch (error) {
      if (attempt === ATTEMPTS_MAX || !RETRYABLE.has(databaseError(error)?.code ?? '')) throw error;
      await new Promise((resolve) => setTimeout(resolve, RETRY_PAUSE_MS * 2 ** attempt));
    }
  }
}

async function runTransaction<Result>(store: Store, work: (tx: Transaction) => Promise<Result>): Promise<Result> {
  const client = await store.pool.connect();
  // A connection that breaks between two statements reports it as an event; the next statement fails with the cause.
  let broken: Error | undefined;
  const onError = (error: Error) => (broken = error);
  client.on('error', onError);
  try {
    await client.query('BEGIN');
    const appended: Appended[] = [];
    const result = await work(transactionOver(store, client, (what) => appended.push(what)));
    await client.query('COMMIT');
    appended.forEach(store.onAppended);
    return result;
  } catch (error) {
    // A failed rollback means that the connection is unusable, and with it the transaction is gone.
    await client.query('ROLLBACK').catch((failure: unknown) => (broken = failure as Error));
    throw error;
  } finally {
    client.off('error', onError);
    client.release(broken);
  }
}
