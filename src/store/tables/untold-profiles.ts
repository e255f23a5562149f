/** Users of whose profiles their rooms are still to be told. A row stays until they were: also when a process ends meanwhile. */
import { type UserId } from '../../matrix/identifiers.ts';
import { type Lease, leaseRows } from '../leased-rows.ts';
import { type Sql } from '../open-store.ts';
import { NOW_MS } from '../sql-values.ts';

export interface UntoldProfile {
  readonly userId: UserId;
  /** Another one with each change, also where it was told of the one before. */
  readonly version: number;
}

/** Notes that a profile has changed; in the transaction of the change. */
export async function noteUntoldProfile(sql: Sql, userId: UserId): Promise<void> {
  await sql.query(
    `INSERT INTO untold_profiles (user_id, version) VALUES ($1, ${NOW_MS})
     ON CONFLICT (user_id) DO UPDATE SET version = greatest(untold_profiles.version + 1, excluded.version)`,
    [userId],
  );
}

/** Takes those that nobody is at. */
export function leaseUntoldProfiles(sql: Sql, lease: Lease): Promise<UntoldProfile[]> {
  const returning = 'user_id AS "userId", version';
  return leaseRows(sql, { name: 'untold_profiles', key: 'user_id', returning }, lease);
}

/** Keeps it for `leaseMs` more; 0 leaves it to the next. */
export async function prolongUntoldProfile(sql: Sql, userId: UserId, leaseMs: number): Promise<void> {
  await sql.query(`UPDATE untold_profiles SET leased_until = ${NOW_MS} + $2 WHERE user_id = $1`, [userId, leaseMs]);
}

/** Whether the rooms were told of the newest; else it stays, to be told. */
export async function settleUntoldProfile(sql: Sql, { userId, version }: UntoldProfile): Promise<boolean> {
  const rows = await sql.query(`DELETE FROM untold_profiles WHERE user_id = $1 AND version = $2 RETURNING 1 AS gone`, [
    userId,
    version,
  ]);
  return rows.length > 0;
}
