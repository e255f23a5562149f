/** Rows that stand for work: whoever takes one has it alone until its lease ends, and then whoever comes next. */
import { type Sql } from './open-store.ts';
import { NOW_MS } from './sql-values.ts';

export interface Lease {
  readonly limit: number;
  /** Milliseconds. */
  readonly leaseMs: number;
}

interface LeasedTable {
  /** Has a column `leased_until`, milliseconds since the Unix epoch by PostgreSQL's clock. */
  readonly name: string;
  /** Its primary key: one column, or several with commas. */
  readonly key: string;
  /** What is read of a row, as SQL's RETURNING takes it. */
  readonly returning: string;
}

/** Takes up to `limit` of those that nobody is at, for as long as `leaseMs`. */
export function leaseRows<Row extends object>(
  sql: Sql,
  { name, key, returning }: LeasedTable,
  { limit, leaseMs }: Lease,
): Promise<Row[]> {
  return sql.query<Row>(
    `UPDATE ${name} SET leased_until = ${NOW_MS} + $2
      WHERE (${key}) IN (SELECT ${key} FROM ${name} WHERE leased_until <= ${NOW_MS}
                          ORDER BY leased_until LIMIT $1 FOR UPDATE SKIP LOCKED)
     RETURNING ${returning}`,
    [limit, leaseMs],
  );
}
