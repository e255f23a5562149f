/** What opens our door to users: access tokens with their refresh tokens, as SHA-256. */
import { type UserId } from '../../matrix/identifiers.ts';
import { type Sql, type Transaction } from '../open-store.ts';

export interface SessionRow {
  readonly accessHash: Buffer;
  /** Null: it cannot be refreshed. */
  readonly refreshHash: Buffer | null;
  readonly userId: UserId;
  readonly deviceId: string;
  readonly createdAt: number;
  /** Null: it lasts until somebody logs out. */
  readonly expiresAt: number | null;
  /** The session it was made of, as long as that opens the door too. */
  readonly follows: Buffer | null;
}

/** A session with what is to be known of its device at each request. */
export interface OpenSession extends SessionRow {
  readonly lastSeenAt: number;
}

const COLUMNS = `s.access_hash AS "accessHash", s.refresh_hash AS "refreshHash", s.user_id AS "userId",
                 s.device_id AS "deviceId", s.created_at AS "createdAt", s.expires_at AS "expiresAt", s.follows`;

/** Its device is locked. */
export async function insertSession(tx: Transaction, session: SessionRow): Promise<void> {
  const { accessHash, refreshHash, userId, deviceId, createdAt, expiresAt, follows } = session;
  await tx.query(
    `INSERT INTO sessions (access_hash, refresh_hash, user_id, device_id, created_at, expires_at, follows)
     VALUES ($1, $2, $3, $4, $5, $6, $7)`,
    [accessHash, refreshHash, userId, deviceId, createdAt, expiresAt, follows],
  );
}

/** The session of an access token, expired or not, as long as its device is logged in. */
export async function readSession(sql: Sql, accessHash: Buffer): Promise<OpenSession | undefined> {
  const [row] = await sql.query<OpenSession>(
    `SELECT ${COLUMNS}, d.last_seen_at AS "lastSeenAt"
       FROM sessions s JOIN devices d ON d.user_id = s.user_id AND d.device_id = s.device_id
      WHERE s.access_hash = $1`,
    [accessHash],
  );
  return row;
}

/** The session of a refresh token. */
export async function readRefreshable(sql: Sql, refreshHash: Buffer): Promise<SessionRow | undefined> {
  const [row] = await sql.query<SessionRow>(`SELECT ${COLUMNS} FROM sessions s WHERE s.refresh_hash = $1`, [
    refreshHash,
  ]);
  return row;
}

/** The same, locked: two who refresh with one token do so one after the other. */
export async function lockRefreshable(tx: Transaction, refreshHash: Buffer): Promise<SessionRow | undefined> {
  const text = `SELECT ${COLUMNS} FROM sessions s WHERE s.refresh_hash = $1 FOR UPDATE`;
  const [row] = await tx.query<SessionRow>(text, [refreshHash]);
  return row;
}

/** Ends sessions that were made of one and that nobody has used: whoever asked for them has not got them. */
export async function deleteFollowers(tx: Transaction, accessHash: Buffer): Promise<void> {
  await tx.query(`DELETE FROM sessions WHERE follows = $1`, [accessHash]);
}

/** Ends the session that this one was made of: it is used for the first time. */
export async function settleSession(
  sql: Sql,
  { accessHash, follows }: Pick<SessionRow, 'accessHash' | 'follows'>,
): Promise<void> {
  if (follows === null) return;
  await sql.query(
    `WITH ended AS (DELETE FROM sessions WHERE access_hash = $2)
     UPDATE sessions SET follows = NULL WHERE access_hash = $1`,
    [accessHash, follows],
  );
}

/** Ends all sessions of a device, which stays. */
export async function deleteSessions(tx: Transaction, userId: UserId, deviceId: string): Promise<void> {
  await tx.query(`DELETE FROM sessions WHERE user_id = $1 AND device_id = $2`, [userId, deviceId]);
}
