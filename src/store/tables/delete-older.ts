/** Deleting what is old from plain tables, some at a time. */
import { type Sql } from '../open-store.ts';

/** Of a table, in SQL; `time`: its column in milliseconds since the Unix epoch. */
export interface AgingTable {
  readonly table: string;
  readonly time: string;
}

/** Deletes at most `limit` rows from before `before`; gives how many. */
export async function deleteOlder(
  sql: Sql,
  { table, time }: AgingTable,
  before: number,
  limit: number,
): Promise<number> {
  const gone = await sql.query(
    `DELETE FROM ${table} WHERE ctid = ANY (ARRAY(SELECT ctid FROM ${table} WHERE ${time} < $1 LIMIT $2)) RETURNING 1`,
    [before, limit],
  );
  return gone.length;
}
