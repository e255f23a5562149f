/** Whether users are there, as they or their servers said last. */
import { type ServerName, type UserId, domainOf } from '../../matrix/identifiers.ts';
import { takePositions } from '../journal/positions.ts';
import { type Sql, type Transaction } from '../open-store.ts';
import { booleanArray, int8Array, textArray } from '../sql-values.ts';
import { fromStorable, storable } from '../storable-text.ts';
import { deleteOlder } from './delete-older.ts';

export type PresenceState = 'online' | 'offline' | 'unavailable';

export interface Presence {
  readonly userId: UserId;
  readonly presence: PresenceState;
  readonly statusMsg: string | null;
  /** Milliseconds since the Unix epoch; null: not known. */
  readonly lastActiveAt: number | null;
  readonly isCurrentlyActive: boolean;
}

/**
 * Writes what was said of users, each named once, as the last statement of the transaction. They share a position, and wake nobody: a client
 * is told with what it is told next. `at`: milliseconds since the Unix epoch.
 */
export async function upsertPresence(tx: Transaction, said: readonly Presence[], at: number): Promise<void> {
  await tx.query('SET LOCAL synchronous_commit = off');
  takePositions(tx, {
    name: 'upsert_presence',
    text: `INSERT INTO presence AS p (user_id, server_name, presence, status_msg, last_active_at, currently_active, said_at, position)
           SELECT s.user_id, s.server_name, s.presence, s.status_msg, s.last_active_at, s.currently_active, $9::bigint, head.base + 1
             FROM head, unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::boolean[])
                        AS s(user_id, server_name, presence, status_msg, last_active_at, currently_active)
           ON CONFLICT (user_id) DO UPDATE
              SET (presence, status_msg, last_active_at, currently_active, said_at)
                = (excluded.presence, excluded.status_msg, excluded.last_active_at, excluded.currently_active, excluded.said_at),
                  position = CASE WHEN (p.presence, p.status_msg, p.currently_active)
                                       IS DISTINCT FROM (excluded.presence, excluded.status_msg, excluded.currently_active)
                                  THEN excluded.position ELSE p.position END`,
    values: [
      textArray(said.map(({ userId }) => userId)),
      textArray(said.map(({ userId }) => domainOf(userId))),
      textArray(said.map(({ presence }) => presence)),
      textArray(said.map(({ statusMsg }) => statusMsg && storable(statusMsg))),
      int8Array(said.map(({ lastActiveAt }) => lastActiveAt)),
      booleanArray(said.map(({ isCurrentlyActive }) => isCurrentlyActive)),
      String(at),
    ],
    count: 1,
    topics: [],
  });
}

/** Where a user says the same as before: notes that he is active, and takes no position. Gives whether he does. */
export async function renewPresence(tx: Transaction, said: Presence, at: number): Promise<boolean> {
  const { userId, presence, statusMsg, lastActiveAt, isCurrentlyActive } = said;
  await tx.query('SET LOCAL synchronous_commit = off');
  const same = await tx.query(
    `UPDATE presence SET (last_active_at, said_at) = ($5::bigint, $6::bigint)
      WHERE user_id = $1 AND (presence, status_msg, currently_active) IS NOT DISTINCT FROM ($2::text, $3::text, $4::boolean)
     RETURNING 1`,
    [userId, presence, statusMsg && storable(statusMsg), isCurrentlyActive, lastActiveAt, at],
  );
  return same.length > 0;
}

const COLUMNS = `user_id AS "userId", presence, status_msg AS "statusMsg", last_active_at AS "lastActiveAt",
  currently_active AS "isCurrentlyActive"`;

function rowOf(row: Presence): Presence {
  return { ...row, statusMsg: row.statusMsg === null ? null : fromStorable(row.statusMsg) };
}

/** Of whom something else was said since, up to a position: the newest first, `limit` at the most. Since 0: of whoever is there. */
export async function readPresenceSince(
  sql: Sql,
  { since, upTo }: { readonly since: number; readonly upTo: number },
  limit: number,
): Promise<Presence[]> {
  const rows = await sql.query<Presence>(
    `SELECT ${COLUMNS} FROM presence WHERE position > $1 AND position <= $2 AND ($1 > 0 OR presence <> 'offline')
      ORDER BY position DESC LIMIT $3`,
    [since, upTo, limit],
  );
  return rows.map(rowOf);
}

/** What was said of a user last. */
export async function readPresence(sql: Sql, userId: UserId): Promise<Presence | undefined> {
  const [row] = await sql.query<Presence>(`SELECT ${COLUMNS} FROM presence WHERE user_id = $1`, [userId]);
  return row && rowOf(row);
}

/** Of how many users of a server something is kept, counted up to `countMax`. */
export async function countPresence(sql: Sql, serverName: ServerName, countMax: number): Promise<number> {
  const [row] = await sql.query<{ count: number }>(
    `SELECT count(*) AS count FROM (SELECT FROM presence WHERE server_name = $1 LIMIT $2) AS counted`,
    [serverName, countMax],
  );
  return row?.count ?? 0;
}

/** Forgets at most `limit` users of whom nothing was said since `before`; gives how many. */
export function forgetPresence(sql: Sql, before: number, limit: number): Promise<number> {
  return deleteOlder(sql, { table: 'presence', time: 'said_at' }, before, limit);
}
