/** Users of this server who have an account. */
import { type UserId } from '../../matrix/identifiers.ts';
import { type Sql, type Transaction } from '../open-store.ts';
import { fromStorable, storable } from '../storable-text.ts';
import { noteUntoldProfile } from './untold-profiles.ts';

export interface UserRow {
  readonly userId: UserId;
  readonly passwordHash: string | null;
  readonly isAdmin: boolean;
  readonly createdAt: number;
  readonly deactivatedAt: number | null;
  readonly displayName: string | null;
  readonly avatarUrl: string | null;
}

const COLUMNS = `user_id AS "userId", password_hash AS "passwordHash", is_admin AS "isAdmin", created_at AS "createdAt",
                 deactivated_at AS "deactivatedAt", display_name AS "displayName", avatar_url AS "avatarUrl"`;

function userOf(row: UserRow): UserRow {
  const { displayName, avatarUrl } = row;
  return {
    ...row,
    displayName: displayName && fromStorable(displayName),
    avatarUrl: avatarUrl && fromStorable(avatarUrl),
  };
}

/** Whether the user is new; nothing is changed otherwise. */
export async function insertUser(
  sql: Sql,
  user: Pick<UserRow, 'userId' | 'passwordHash' | 'isAdmin' | 'createdAt'>,
): Promise<boolean> {
  const rows = await sql.query(
    `INSERT INTO users (user_id, password_hash, is_admin, created_at) VALUES ($1, $2, $3, $4)
     ON CONFLICT DO NOTHING RETURNING 1 AS made`,
    [user.userId, user.passwordHash, user.isAdmin, user.createdAt],
  );
  return rows.length > 0;
}

/** Deactivated ones too. */
export async function readUser(sql: Sql, userId: UserId): Promise<UserRow | undefined> {
  const [row] = await sql.query<UserRow>(`SELECT ${COLUMNS} FROM users WHERE user_id = $1`, [userId]);
  return row && userOf(row);
}

/**
 * A user who is not deactivated, locked until the transaction ends: against deactivation, a new password and logging out
 * everywhere by `share`, against new sessions as well by `all`.
 */
export async function lockUser(tx: Transaction, userId: UserId, how: 'share' | 'all'): Promise<UserRow | undefined> {
  const [row] = await tx.query<UserRow>(
    `SELECT ${COLUMNS} FROM users WHERE user_id = $1 AND deactivated_at IS NULL
       ${how === 'share' ? 'FOR SHARE' : 'FOR UPDATE'}`,
    [userId],
  );
  return row && userOf(row);
}

/** Users after one, in the order of their ids. */
export async function readUsers(sql: Sql, after: string, limit: number): Promise<UserRow[]> {
  const rows = await sql.query<UserRow>(
    `SELECT ${COLUMNS} FROM users WHERE user_id COLLATE "C" > $1 ORDER BY user_id COLLATE "C" LIMIT $2`,
    [after, limit],
  );
  return rows.map(userOf);
}

export interface UsersQuery {
  readonly offset: number;
  readonly limit: number;
  /** In the user id or the display name, in whatever case; `null`: all. */
  readonly name: string | null;
  readonly isAlsoDeactivated: boolean;
}

/** Part of the users that are looked for, in the order of their ids, and how many these are in all. */
export async function readUsersPage(
  sql: Sql,
  { offset, limit, name, isAlsoDeactivated }: UsersQuery,
): Promise<{ readonly users: readonly UserRow[]; readonly total: number }> {
  const found = `FROM users WHERE ($1::text IS NULL OR strpos(lower(user_id), lower($1)) > 0 OR strpos(lower(display_name), lower($1)) > 0)
                    AND ($2 OR deactivated_at IS NULL)`;
  const wanted = [name === null ? null : storable(name), isAlsoDeactivated];
  const rows = await sql.query<UserRow>(`SELECT ${COLUMNS} ${found} ORDER BY user_id COLLATE "C" OFFSET $3 LIMIT $4`, [
    ...wanted,
    offset,
    limit,
  ]);
  const [count] = await sql.query<{ users: number }>(`SELECT count(*) AS users ${found}`, wanted);
  return { users: rows.map(userOf), total: count?.users ?? 0 };
}

/** Gives a user another password. */
export async function setPasswordHash(sql: Sql, userId: UserId, passwordHash: string): Promise<void> {
  await sql.query(`UPDATE users SET password_hash = $2 WHERE user_id = $1`, [userId, passwordHash]);
}

/** The name stays taken; what the user called himself is forgotten. */
export async function markDeactivated(sql: Sql, userId: UserId, at: number): Promise<void> {
  await sql.query(
    `UPDATE users SET deactivated_at = $2, password_hash = NULL, display_name = NULL, avatar_url = NULL WHERE user_id = $1`,
    [userId, at],
  );
}

/** `null`: none from now on. What is another now is to be told to the rooms of the user. */
export async function setProfile(
  tx: Transaction,
  userId: UserId,
  field: 'displayName' | 'avatarUrl',
  value: string | null,
): Promise<void> {
  const column = { displayName: 'display_name', avatarUrl: 'avatar_url' }[field];
  const changed = await tx.query(
    `UPDATE users SET ${column} = $2 WHERE user_id = $1 AND ${column} IS DISTINCT FROM $2 RETURNING 1 AS changed`,
    [userId, value && storable(value)],
  );
  if (changed.length > 0) await noteUntoldProfile(tx, userId);
}

/** Whether a user of ours has a membership in a room that is held here, with or without an account. */
export async function hasMemberships(sql: Sql, userId: UserId): Promise<boolean> {
  const rows = await sql.query(`SELECT FROM local_members WHERE user_id = $1 LIMIT 1`, [userId]);
  return rows.length > 0;
}
