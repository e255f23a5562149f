/** Tokens by which a user who is logged in logs another device in. */
import { type UserId } from '../../matrix/identifiers.ts';
import { type Sql, type Transaction } from '../open-store.ts';

export interface LoginTokenRow {
  readonly tokenHash: Buffer;
  readonly userId: UserId;
  /** Milliseconds since the Unix epoch. */
  readonly expiresAt: number;
}

/** Keeps a token, and forgets those of the user that are over by `now`. */
export async function insertLoginToken(
  sql: Sql,
  { tokenHash, userId, expiresAt }: LoginTokenRow,
  now: number,
): Promise<void> {
  await sql.query(
    `WITH over AS (DELETE FROM login_tokens WHERE user_id = $2 AND expires_at <= $4)
     INSERT INTO login_tokens (token_hash, user_id, expires_at) VALUES ($1, $2, $3)`,
    [tokenHash, userId, expiresAt, now],
  );
}

/** Takes a token away, so that nobody else gets it; `undefined`: it is not there. */
export async function takeLoginToken(sql: Sql, tokenHash: Buffer): Promise<LoginTokenRow | undefined> {
  const [row] = await sql.query<LoginTokenRow>(
    `DELETE FROM login_tokens WHERE token_hash = $1
     RETURNING token_hash AS "tokenHash", user_id AS "userId", expires_at AS "expiresAt"`,
    [tokenHash],
  );
  return row;
}

/** Of a user whose account is closed, or whose password is another. */
export async function deleteLoginTokens(tx: Transaction, userId: UserId): Promise<void> {
  await tx.query(`DELETE FROM login_tokens WHERE user_id = $1`, [userId]);
}
