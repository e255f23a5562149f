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

function columnsOf(said: readonly Presence[]): string[] {
  return [
    textArray(said.map(({ userId }) => userId)),
    textArray(said.map(({ presence }) => presence)),
    textArray(said.map(({ statusMsg }) => statusMsg && storable(statusMsg))),
    int8Array(said.map(({ lastActiveAt }) => lastActiveAt)),
    booleanArray(said.map(({ isCurrentlyActive }) => isCurrentlyActive)),
  ];
}

/**
 * Writes what was said of users, each named once, as the last statement of the transaction; they share a position. Of whom the same was said
 * before it is noted when, and nothing else. Gives whom something else was said of. `at`: milliseconds since the Unix epoch.
 */
export async function upsertPresence(tx: Transaction, said: readonly Presence[], at: number): Promise<UserId[]> {
  await tx.query('SET LOCAL synchronous_commit = off');
  const same = await tx.query<{ userId: UserId }>(
    `UPDATE presence p SET (last_active_at, said_at) = (s.last_active_at, $6::bigint)
       FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::boolean[])
            AS s(user_id, presence, status_msg, last_active_at, currently_active)
      WHERE p.user_id = s.user_id
        AND (p.presence, p.status_msg, p.currently_active) IS NOT DISTINCT FROM (s.presence, s.status_msg, s.currently_active)
     RETURNING p.user_id AS "userId"`,
    [...columnsOf(said), at],
  );
  const known = new Set(same.map(({ userId }) => userId));
  const others = said.filter(({ userId }) => !known.has(userId));
  if (others.length === 0) return [];
  takePositions(tx, {
    name: 'upsert_presence',
    text: `INSERT INTO presence (user_id, server_name, presence, status_msg, last_active_at, currently_active, said_at, position)
           SELECT s.user_id, s.server_name, s.presence, s.status_msg, s.last_active_at, s.currently_active, $9::bigint, head.base + 1
             FROM head, unnest($3::text[], $4::text[], $5::text[], $6::bigint[], $7::boolean[], $8::text[])
                        AS s(user_id, presence, status_msg, last_active_at, currently_active, server_name)
           ON CONFLICT (user_id) DO UPDATE
              SET (presence, status_msg, last_active_at, currently_active, said_at, position)
                = (excluded.presence, excluded.status_msg, excluded.last_active_at, excluded.currently_active, excluded.said_at,
                   excluded.position)`,
    values: [...columnsOf(others), textArray(others.map(({ userId }) => domainOf(userId))), String(at)],
    count: 1,
    topics: [],
  });
  return others.map(({ userId }) => userId);
}

const COLUMNS = `user_id AS "userId", presence, status_msg AS "statusMsg", last_active_at AS "lastActiveAt",
  currently_active AS "isCurrentlyActive"`;

function rowOf(row: Presence): Presence {
  return { ...row, statusMsg: row.statusMsg === null ? null : fromStorable(row.statusMsg) };
}

/** What was said of a user, and where that stands. */
export interface SaidPresence {
  readonly position: number;
  readonly presence: Presence;
}

/**
 * Of whom something else was said since, up to a position: the newest first, `limit` at the most, those after one of them. Since 0: of whoever
 * is there.
 */
export async function readPresenceSince(
  sql: Sql,
  { since, upTo }: { readonly since: number; readonly upTo: number },
  limit: number,
  after: SaidPresence | null = null,
): Promise<SaidPresence[]> {
  const rows = await sql.query<Presence & { readonly position: number }>(
    `SELECT ${COLUMNS}, position FROM presence
      WHERE position > $1 AND position <= $2 AND ($1 > 0 OR presence <> 'offline')
        AND ($4::bigint IS NULL OR (position, user_id) < ($4::bigint, $5::text))
      ORDER BY position DESC, user_id DESC LIMIT $3`,
    [since, after?.position ?? upTo, limit, after?.position ?? null, after?.presence.userId ?? null],
  );
  return rows.map(({ position, ...row }) => ({ position, presence: rowOf(row) }));
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
