/** What a run wrote into PostgreSQL, as PostgreSQL counts it. */
import pg from 'pg';

export interface TableWrites {
  readonly table: string;
  readonly inserted: number;
  readonly updated: number;
  readonly deleted: number;
}

export interface DatabaseWrites {
  /** Our tables with any write, the most written first. Rows of rolled-back transactions count too. */
  readonly tables: readonly TableWrites[];
  /** Rows inserted anywhere, temporary tables (staging) and the system's catalogue among them. */
  readonly insertedAnywhere: number;
  /** Of the whole database with its indexes. */
  readonly sizeBytes: number;
}

/** One connection of the bench's own; errors on it are thrown by the next query. */
export async function connectDatabase(databaseUrl: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: databaseUrl, application_name: 'bench' });
  client.on('error', () => undefined);
  await client.connect();
  return client;
}

/** Begins to count anew. The few rows that an idle system writes besides are counted with the run. */
export async function resetWrites(client: pg.Client): Promise<void> {
  await client.query('SELECT pg_stat_reset()');
}

/**
 * Connections report what they have written up to ten seconds late, and at their end: call this after whoever wrote has
 * disconnected.
 */
export async function readWrites(client: pg.Client): Promise<DatabaseWrites> {
  const { rows: tables } = await client.query<Record<keyof TableWrites, string>>(
    `SELECT CASE schemaname WHEN 'public' THEN '' ELSE schemaname || '.' END || relname AS table,
            n_tup_ins AS inserted, n_tup_upd AS updated, n_tup_del AS deleted
       FROM pg_stat_user_tables
      WHERE n_tup_ins + n_tup_upd + n_tup_del > 0
      ORDER BY n_tup_ins + n_tup_upd + n_tup_del DESC, relname`,
  );
  const { rows } = await client.query<{ inserted: string; size: string }>(
    `SELECT tup_inserted AS inserted, pg_database_size(datname) AS size
       FROM pg_stat_database WHERE datname = current_database()`,
  );
  return {
    tables: tables.map(({ table, inserted, updated, deleted }) => ({
      table,
      inserted: Number(inserted),
      updated: Number(updated),
      deleted: Number(deleted),
    })),
    insertedAnywhere: Number(rows[0]?.inserted),
    sizeBytes: Number(rows[0]?.size),
  };
}

/** Bytes of write-ahead log since the cluster was made. */
export async function walBytes(client: pg.Client): Promise<number> {
  const { rows } = await client.query<{ bytes: string }>(`SELECT pg_current_wal_insert_lsn() - '0/0' AS bytes`);
  return Number(rows[0]?.bytes);
}

export interface StatementUse {
  /** Its text in one line, constants as $1, cut. */
  readonly text: string;
  readonly calls: number;
  readonly rows: number;
  /** Inside PostgreSQL, waiting for locks and disks included. */
  readonly seconds: number;
}

/** Columns of a line in a terminal, less those of the numbers. */
const STATEMENT_CHARACTERS = 200;

/** Whether the server was started with pg_stat_statements; makes its view here and starts its counts anew. */
export async function watchStatements(client: pg.Client): Promise<boolean> {
  const { rows } = await client.query<{ shared_preload_libraries: string }>('SHOW shared_preload_libraries');
  if (rows[0]?.shared_preload_libraries.includes('pg_stat_statements') !== true) return false;
  await client.query('CREATE EXTENSION IF NOT EXISTS pg_stat_statements');
  await client.query('SELECT pg_stat_statements_reset()');
  return true;
}

/** Statements of this database by the time they took, the longest first, and the time of all. */
export async function readStatements(
  client: pg.Client,
  limit: number,
): Promise<{ readonly allSeconds: number; readonly statements: readonly StatementUse[] }> {
  const { rows } = await client.query<Record<keyof StatementUse, string>>(
    `SELECT query AS text, sum(calls) AS calls, sum(s.rows) AS rows, sum(total_exec_time) / 1000 AS seconds
       FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
      WHERE d.datname = current_database() AND query NOT LIKE '%pg_stat_%'
      GROUP BY query ORDER BY 4 DESC`,
  );
  const all = rows.map(({ text, calls, rows: affected, seconds }) => ({
    text: text.replace(/\s+/g, ' ').trim().slice(0, STATEMENT_CHARACTERS),
    calls: Number(calls),
    rows: Number(affected),
    seconds: Number(seconds),
  }));
  return { allSeconds: all.reduce((sum, { seconds }) => sum + seconds, 0), statements: all.slice(0, limit) };
}
