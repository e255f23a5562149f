/**
 * How long anything may take on a connection to PostgreSQL. Without these a process that is stopped but not dead (SIGSTOP,
 * a paused virtual machine, a network cut in two) keeps its row locks, and whoever waits for them waits for hours: TCP's own
 * keepalive is two hours. With them PostgreSQL ends such a session, and the transaction of another process goes on.
 *
 * They are sent as parameters at the start of a connection, which costs no round trip. A pooler in between (PgBouncer) must
 * be told to ignore them (`ignore_startup_parameters = statement_timeout, lock_timeout,
 * idle_in_transaction_session_timeout, options`); give them to the role then (`ALTER ROLE ... SET ...`). So with `jit = off`.
 */
import type pg from 'pg';

/** Milliseconds each. */
export interface ConnectionLimits {
  /** Of a transaction between two statements: longer than any pause of our event loop, shorter than people wait. */
  readonly idleInTransactionMs: number;
  /** For one lock. More than the longest that a lock is rightly held: by whoever was just ended for being idle. */
  readonly lockWaitMs: number;
  /** Of one statement. Nothing we send comes near it but COPY, which has its own. */
  readonly statementMs: number;
}

export const CONNECTION_LIMITS: ConnectionLimits = {
  idleInTransactionMs: 10_000,
  lockWaitMs: 15_000,
  statementMs: 60_000,
};

/** Of one COPY: a batch is some MB, and the disk of PostgreSQL may be at a checkpoint. */
export const COPY_MS_MAX = 600_000;

/** How much longer than PostgreSQL this end waits for an answer, before it takes the server for gone. */
const ANSWER_MARGIN_MS = 30_000;

const SESSION_OPTIONS = {
  // The server's end of a connection that says nothing: asked after 10 s, each 5 s, given up after three.
  tcp_keepalives_idle: '10s',
  tcp_keepalives_interval: '5s',
  tcp_keepalives_count: '3',
  tcp_user_timeout: '20s',
  // No statement of ours runs long enough for compiling it to pay: in a resync of 100,000 members that took between 11 and 34 % of
  // the time of each statement that was compiled.
  jit: 'off',
};

const KEEPALIVE_DELAY_MS = 10_000;

/** What a connection is opened with. An `options` in the database's URL replaces ours, which then are the operator's. */
export function limitedConnection({
  idleInTransactionMs,
  lockWaitMs,
  statementMs,
}: ConnectionLimits): Pick<
  pg.ClientConfig,
  | 'idle_in_transaction_session_timeout'
  | 'lock_timeout'
  | 'statement_timeout'
  | 'query_timeout'
  | 'options'
  | 'keepAlive'
  | 'keepAliveInitialDelayMillis'
> {
  return {
    idle_in_transaction_session_timeout: idleInTransactionMs,
    lock_timeout: lockWaitMs,
    statement_timeout: statementMs,
    query_timeout: statementMs + ANSWER_MARGIN_MS,
    options: Object.entries(SESSION_OPTIONS)
      .map(([name, value]) => `-c ${name}=${value}`)
      .join(' '),
    keepAlive: true,
    keepAliveInitialDelayMillis: KEEPALIVE_DELAY_MS,
  };
}

/** For a COPY: the driver's own timer must not end it sooner than PostgreSQL does. */
export const COPY_ANSWER_MS_MAX = COPY_MS_MAX + ANSWER_MARGIN_MS;
