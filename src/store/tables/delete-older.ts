/** Deleting what is old from plain tables, some at a time. */
import { type Sql } from '../open-store.ts';

/** Of a table, in SQL. */
export interface AgingTable {
  readonly table: string;
  /** Its column in milliseconds since the Unix epoch. */
  readonly time: string;
  /** What else has to hold of a row; `$1` is the time before which it has to be. */
  readonly also?: string;
}

/**
 * Deletes at most `limit` rows from before `before`; gives how many. One that is renewed at that moment stays: its age is looked at once
 * more when it is locked.
 */
export async function deleteOlder(
  sql: Sql,
  { table, time, also = 'true' }: AgingTable,
  before: number,
  limit: number,
): Promise<number> {
  const isOld = `${time} < $1 AND (${also})`;
  const gone = await sql.query(
    `DELETE FROM ${table} WHERE ctid = ANY (ARRAY(SELECT ctid FROM ${table} WHERE ${isOld} LIMIT $2)) AND ${isOld} RETURNING 1`,
    [before, limit],
  );
  return gone.length;
}
