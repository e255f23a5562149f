/** What clients say they want of a sync. */
import { type UserId } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type Sql } from '../open-store.ts';

/**
 * Keeps a filter, canonical JSON, unless it is kept already. Whether it is there then: not where the user has `filtersMax` others.
 */
export async function insertFilter(
  sql: Sql,
  { userId, filterId, filter }: { readonly userId: UserId; readonly filterId: string; readonly filter: string },
  createdAt: number,
  filtersMax: number,
): Promise<boolean> {
  const rows = await sql.query(
    `WITH made AS (
       INSERT INTO filters (user_id, filter_id, filter, created_at)
       SELECT $1, $2, $3::json, $4 WHERE (SELECT count(*) FROM filters WHERE user_id = $1) < $5
       ON CONFLICT DO NOTHING RETURNING 1
     )
     SELECT FROM made UNION ALL SELECT FROM filters WHERE user_id = $1 AND filter_id = $2`,
    [userId, filterId, filter, createdAt, filtersMax],
  );
  return rows.length > 0;
}

/** A filter of a user; `undefined`: there is none of that id. */
export async function readFilter(sql: Sql, userId: UserId, filterId: string): Promise<JsonObject | undefined> {
  const [row] = await sql.query<{ filter: JsonObject }>(
    `SELECT filter FROM filters WHERE user_id = $1 AND filter_id = $2`,
    [userId, filterId],
  );
  return row?.filter;
}
