/**
 * The connection pool and the transactions over it. `Sql` is what every function of this folder takes: a `Store`, which
 * uses any free connection for each statement, or a `Transaction`, which keeps to one.
 */
import { type NodePgDatabase, drizzle } from 'drizzle-orm/node-postgres';
import pg from 'pg';
import { type RoomId, type ServerName } from '../matrix/identifiers.ts';
import { invariant } from '../invariant.ts';
import { type Journalled } from '../resync/events.ts';
import { type ResyncState } from '../resync/state.ts';
import { CONNECTION_LIMITS, type ConnectionLimits, limitedConnection } from './connection-limits.ts';
import { type Stay, beginTransaction, isToBeFenced } from './fence.ts';
import { HotStatements } from './hot-statements.ts';
import { type Statement, type TextRow, sendLast } from './last-message.ts';
import { type Caches, createCaches } from './caches.ts';

/** What both a store and a transaction offer. */
export interface Sql {
  readonly serverName: ServerName;
  /** What is written by it belongs to this stay, and is refused when that is over; absent: to none. */
  readonly stay?: Stay;
  /** Ordinary reads and writes. */
  readonly db: NodePgDatabase;
  /** Shared by everything over one pool. */
  readonly caches: Caches;
  /** What runs often is parsed once a connection (hot-statements.ts), so no value is to be written into the text. */
  query<Row extends object>(text: string, values?: readonly unknown[]): Promise<Row[]>;
  /** Runs `work` in a transaction: the one that is open, or a new one. */
  inTransaction<Result>(work: (tx: Transaction) => Promise<Result>): Promise<Result>;
  /**
   * Tells the store's observer that something in the room is to be corrected which no entry says, as what was written before this
   * call noted: once that is durable, and never when it rolls back.
   */
  readonly tellOfCorrection: (roomId: RoomId) => void;
}

/** One open transaction, READ COMMITTED: each statement sees what was committed before it. */
export interface Transaction extends Sql {
  /** For COPY and row counts. Not to be touched between `queryLast` and the next `query`. */
  readonly client: pg.PoolClient;
  /**
   * Sends a statement that nothing may have to follow: in one message with COMMIT when nothing does, before the next
   * statement otherwise. So it may fail late, by the next statement or by the transaction's end.
   */
  queryLast(last: LastStatement): void;
  /** Tells the store's observer of an append, once the transaction is durable; never when it rolls back. */
  readonly tell: (appended: Appended) => void;
}

/** See `Transaction.queryLast`. */
export interface LastStatement {
  readonly statement: Statement;
  /** In PostgreSQL's text form. */
  readonly values: readonly (string | null)[];
  /** Given the rows once they are there. */
  readonly onRows: (rows: readonly TextRow[]) => void;
  /** Makes of PostgreSQL's error the one that callers meet. */
  readonly translate: (error: unknown) => unknown;
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
  readonly hot: HotStatements;
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
  /** `CONNECTION_LIMITS` when absent. */
  readonly limits?: ConnectionLimits;
  /** Told of every append of this process, each once. What it throws is logged. */
  readonly onAppended?: (appended: Appended) => void;
  /** Told of each room in which something is to be corrected that no entry says. What it throws is logged. */
  readonly onCorrectionDue?: (roomId: RoomId) => void;
}

/** How long a statement waits for a free connection before it fails with a clear error. */
const CONNECTION_WAIT_MS_MAX = 30_000;

/** A transaction that lost a conflict is run again this often; more means that the load does not fit, which a caller should see. */
const ATTEMPTS_MAX = 5;
const RETRY_PAUSE_MS = 10;

/**
 * serialization_failure, deadlock_detected, lock_not_available, idle_in_transaction_session_timeout: nothing happened, since
 * the transaction is gone as a whole, and running again helps. Not query_canceled: a statement that ran into its time limit
 * will do so again.
 */
const RETRYABLE = new Set(['40001', '40P01', '55P03', '25P03']);

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
    ...limitedConnection(options.limits ?? CONNECTION_LIMITS),
  };
  const pool = new pg.Pool({
    ...connection,
    max: options.poolSizeMax,
    connectionTimeoutMillis: CONNECTION_WAIT_MS_MAX,
  });
  // Without a listener an idle connection that breaks, as at a restart of PostgreSQL, ends the process.
  pool.on('error', (error) => options.logger?.warn({ err: error }, 'an idle database connection broke'));
  // So does one that breaks between the pool's hands and ours, and all that is said of it after the first; whoever uses it next is told.
  pool.on('connect', (client) => client.on('error', () => undefined));
  const hot = new HotStatements();
  // What is committed has happened: whoever did it must not hear of a failure.
  const observed = <Told>(observer: ((told: Told) => void) | undefined) => {
    return (told: Told): void => {
      try {
        observer?.(told);
      } catch (error) {
        options.logger?.warn({ err: error }, 'an observer of the store failed');
      }
    };
  };
  const store: Store = {
    serverName: options.serverName,
    db: drizzle(pool, { casing: 'snake_case' }),
    caches: createCaches(),
    pool,
    connection,
    query: async <Row extends object>(text: string, values?: readonly unknown[]) =>
      (await pool.query<Row & pg.QueryResultRow>(queryOf(hot, text, values))).rows,
    hot,
    inTransaction: (work) => withTransaction(store, work),
    onAppended: observed(options.onAppended),
    tellOfCorrection: observed(options.onCorrectionDue),
    close: () => pool.end(),
  };
  return store;
}

/**
 * The same store for work that belongs to one stay in a room: what it would write when the stay is over throws `StayOverError` (fence.ts).
 * It reads on.
 */
export function fencedStore(store: Store, stay: Stay): Store {
  const fenced: Store = {
    ...store,
    stay,
    query: <Row extends object>(text: string, values?: readonly unknown[]) =>
      isToBeFenced(text)
        ? withTransaction(fenced, (tx) => tx.query<Row>(text, values))
        : store.query<Row>(text, values),
    inTransaction: (work) => withTransaction(fenced, work),
  };
  return fenced;
}

function queryOf(hot: HotStatements, text: string, values: readonly unknown[] = []): pg.QueryConfig {
  const name = values.length > 0 ? hot.nameOf(text) : undefined;
  return { text, values: values as unknown[], ...(name === undefined ? {} : { name }) };
}

/** A transaction's statement that waits for COMMIT or for the next statement. */
class PendingLast {
  readonly #client: pg.PoolClient;
  #last: LastStatement | undefined;

  constructor(client: pg.PoolClient) {
    this.#client = client;
  }

  set(last: LastStatement): void {
    invariant(this.#last === undefined, 'one last statement waits at a time');
    this.#last = last;
  }

  get isWaiting(): boolean {
    return this.#last !== undefined;
  }

  /** Sends it, with COMMIT where `commits`; nothing when none waits. What the caller sends next comes behind it. */
  async send(commits: boolean): Promise<void> {
    const last = this.#last;
    if (last === undefined) return;
    this.#last = undefined;
    const { statement, values, onRows, translate } = last;
    const rows = await sendLast(this.#client, statement, values, commits).catch((error: unknown) => {
      throw translate(error);
    });
    onRows(rows);
  }
}

function transactionOver(
  store: Store,
  client: pg.PoolClient,
  pending: PendingLast,
  told: Pick<Transaction, 'tell' | 'tellOfCorrection'>,
): Transaction {
  let db: NodePgDatabase | undefined;
  /** What drizzle uses of a client. */
  const ordered: Pick<pg.PoolClient, 'query'> = {
    query: (async (config: pg.QueryConfig, values?: unknown[]): Promise<pg.QueryResult> => {
      await pending.send(false);
      return client.query(config, values);
    }) as never,
  };
  const tx: Transaction = {
    serverName: store.serverName,
    // Most transactions have no use for it, and it is slow to make.
    get db() {
      return (db ??= drizzle(ordered as pg.PoolClient, { casing: 'snake_case' }));
    },
    caches: store.caches,
    get client() {
      invariant(!pending.isWaiting, 'the last statement of a transaction waits to be sent');
      return client;
    },
    queryLast: (last) => {
      pending.set(last);
    },
    ...told,
    query: async <Row extends object>(text: string, values?: readonly unknown[]) => {
      await pending.send(false);
      return (await client.query<Row & pg.QueryResultRow>(queryOf(store.hot, text, values))).rows;
    },
    inTransaction: (work) => work(tx),
  };
  return tx;
}

/** The database's own error; drizzle wraps it as a cause. */
function databaseError(error: unknown): pg.DatabaseError | undefined {
  if (error instanceof pg.DatabaseError) return error;
  return error instanceof Error && error.cause !== undefined ? databaseError(error.cause) : undefined;
}

/** PostgreSQL's code for an error, such as 55P03; `undefined` for errors of other origin. */
export function sqlStateOf(error: unknown): string | undefined {
  return databaseError(error)?.code;
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
      if (attempt === ATTEMPTS_MAX || !RETRYABLE.has(sqlStateOf(error) ?? '')) throw error;
      await new Promise((resolve) => setTimeout(resolve, RETRY_PAUSE_MS * 2 ** attempt));
    }
  }
}

async function runTransaction<Result>(store: Store, work: (tx: Transaction) => Promise<Result>): Promise<Result> {
  const client = await store.pool.connect();
  // A connection that breaks between two statements reports it as an event; the next statement fails without the cause.
  let broken: Error | undefined;
  const onError = (error: Error) => (broken ??= error);
  client.on('error', onError);
  try {
    await beginTransaction(client, store.stay);
    const appended: Appended[] = [];
    const corrected = new Set<RoomId>();
    const pending = new PendingLast(client);
    const told: Parameters<typeof transactionOver>[3] = {
      tell: (what) => appended.push(what),
      tellOfCorrection: (roomId) => corrected.add(roomId),
    };
    const result = await work(transactionOver(store, client, pending, told));
    if (pending.isWaiting) await pending.send(true);
    else await commit(client);
    appended.forEach(store.onAppended);
    corrected.forEach(store.tellOfCorrection);
    return result;
  } catch (error) {
    const cause = broken ?? error;
    // A failed rollback means that the connection is unusable, and with it the transaction is gone.
    if (broken === undefined) await client.query('ROLLBACK').catch(onError);
    throw cause;
  } finally {
    client.off('error', onError);
    client.release(broken);
  }
}

async function commit(client: pg.PoolClient): Promise<void> {
  const { command } = await client.query('COMMIT');
  // So PostgreSQL answers when a statement failed before and the error was kept from us.
  if (command !== 'COMMIT') throw new Error(`COMMIT was answered with ${command}`);
}
