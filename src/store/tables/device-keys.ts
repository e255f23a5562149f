/** Keys that clients publish of their devices. They go with their device, whose row whoever writes them has locked. */
import { type UserId } from '../../matrix/identifiers.ts';
import { type Json, type JsonObject } from '../../matrix/pdu.ts';
import { type Sql, type Transaction } from '../open-store.ts';
import { fromStorable, storable } from '../storable-text.ts';

interface OfDevice {
  readonly userId: UserId;
  readonly deviceId: string;
}

/** A key that is given out, by what it is called in the form `algorithm:keyId`. */
export interface GivenKey {
  readonly algorithm: string;
  readonly keyId: string;
  /** Canonical JSON. */
  readonly key: string;
}

/** `keys`: canonical JSON; those of before are replaced. */
export async function upsertDeviceKeys(tx: Transaction, { userId, deviceId }: OfDevice, keys: string): Promise<void> {
  await tx.query(
    `INSERT INTO device_keys (user_id, device_id, keys) VALUES ($1, $2, $3::json)
     ON CONFLICT (user_id, device_id) DO UPDATE SET keys = excluded.keys`,
    [userId, deviceId, keys],
  );
}

/**
 * Adds one-time keys; one that is there with the same content stays as it is. Gives the first that is there with another content,
 * in the form `algorithm:keyId`.
 */
export async function insertOneTimeKeys(
  tx: Transaction,
  { userId, deviceId }: OfDevice,
  keys: readonly GivenKey[],
  uploadedAt: number,
): Promise<string | undefined> {
  const columns = [
    keys.map(({ algorithm }) => storable(algorithm)),
    keys.map(({ keyId }) => storable(keyId)),
    keys.map(({ key }) => key),
  ];
  await tx.query(
    `INSERT INTO one_time_keys (user_id, device_id, algorithm, key_id, key, uploaded_at)
     SELECT $1, $2, k.algorithm, k.key_id, k.key::json, $6
       FROM unnest($3::text[], $4::text[], $5::text[]) AS k(algorithm, key_id, key)
     ON CONFLICT DO NOTHING`,
    [userId, deviceId, ...columns, uploadedAt],
  );
  const [other] = await tx.query<{ algorithm: string; keyId: string }>(
    `SELECT o.algorithm, o.key_id AS "keyId"
       FROM unnest($3::text[], $4::text[], $5::text[]) AS k(algorithm, key_id, key)
       JOIN one_time_keys o ON o.user_id = $1 AND o.device_id = $2 AND o.algorithm = k.algorithm AND o.key_id = k.key_id
      WHERE o.key::text <> k.key LIMIT 1`,
    [userId, deviceId, ...columns],
  );
  return other && `${fromStorable(other.algorithm)}:${fromStorable(other.keyId)}`;
}

/** Replaces the fallback keys of these algorithms. One that is uploaded again stays used, if it was. */
export async function upsertFallbackKeys(
  tx: Transaction,
  { userId, deviceId }: OfDevice,
  keys: readonly GivenKey[],
): Promise<void> {
  await tx.query(
    `INSERT INTO fallback_keys AS f (user_id, device_id, algorithm, key_id, key)
     SELECT $1, $2, k.algorithm, k.key_id, k.key::json
       FROM unnest($3::text[], $4::text[], $5::text[]) AS k(algorithm, key_id, key)
     ON CONFLICT (user_id, device_id, algorithm) DO UPDATE
        SET (key_id, key, used) = (excluded.key_id, excluded.key, f.used AND f.key::text = excluded.key::text)`,
    [
      userId,
      deviceId,
      keys.map(({ algorithm }) => storable(algorithm)),
      keys.map(({ keyId }) => storable(keyId)),
      keys.map(({ key }) => key),
    ],
  );
}

/** What a client is told of its keys: how many one-time keys are left, and for which algorithms a fallback key is unused. */
export interface KeyCounts {
  /** By algorithm. */
  readonly oneTimeKeys: Readonly<Record<string, number>>;
  readonly unusedFallbackKeys: readonly string[];
}

/** Of a device; in one statement. */
export async function readKeyCounts(sql: Sql, { userId, deviceId }: OfDevice): Promise<KeyCounts> {
  const rows = await sql.query<{ algorithm: string; keys: number | null }>(
    `SELECT algorithm, count(*) AS keys FROM one_time_keys WHERE user_id = $1 AND device_id = $2 GROUP BY algorithm
      UNION ALL
     SELECT algorithm, NULL FROM fallback_keys WHERE user_id = $1 AND device_id = $2 AND NOT used
      ORDER BY algorithm`,
    [userId, deviceId],
  );
  const counted = rows.flatMap(({ algorithm, keys }) =>
    keys === null ? [] : [[fromStorable(algorithm), keys] as const],
  );
  return {
    oneTimeKeys: Object.fromEntries(counted),
    unusedFallbackKeys: rows.flatMap(({ algorithm, keys }) => (keys === null ? [fromStorable(algorithm)] : [])),
  };
}

/** What a device has published, and how its user calls it. */
export interface PublishedDevice {
  readonly userId: UserId;
  readonly deviceId: string;
  readonly keys: JsonObject;
  readonly displayName: string | null;
}

/** Of users, all their devices that have published keys, in the order of their ids. */
export async function readPublishedDevices(sql: Sql, userIds: readonly UserId[]): Promise<PublishedDevice[]> {
  if (userIds.length === 0) return [];
  const rows = await sql.query<PublishedDevice>(
    `SELECT k.user_id AS "userId", k.device_id AS "deviceId", k.keys, d.display_name AS "displayName"
       FROM device_keys k JOIN devices d ON d.user_id = k.user_id AND d.device_id = k.device_id
      WHERE k.user_id = ANY ($1::text[]) ORDER BY k.user_id, k.device_id`,
    [userIds],
  );
  return rows.map((row) => ({ ...row, displayName: row.displayName && fromStorable(row.displayName) }));
}

/** Whether a device has published keys other than these, or none. `keys`: canonical JSON. */
export async function publishesOther(sql: Sql, { userId, deviceId }: OfDevice, keys: string): Promise<boolean> {
  const rows = await sql.query(`SELECT FROM device_keys WHERE user_id = $1 AND device_id = $2 AND keys::text = $3`, [
    userId,
    deviceId,
    keys,
  ]);
  return rows.length === 0;
}

/** One key is wanted of a device, of an algorithm. */
export interface KeyClaim extends OfDevice {
  readonly algorithm: string;
}

export interface ClaimedKey extends KeyClaim {
  readonly keyId: string;
  readonly key: Json;
}

/**
 * Takes a one-time key of each device, the oldest, which nobody else gets; where none is left its fallback key, which may be given out
 * again. Each claim is named once. What a device has neither of is absent.
 */
export async function claimKeys(tx: Transaction, claims: readonly KeyClaim[]): Promise<ClaimedKey[]> {
  if (claims.length === 0) return [];
  const rows = await tx.query<ClaimedKey>(
    `WITH wanted AS MATERIALIZED (
       SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) AS w(user_id, device_id, algorithm)
     ), taken AS (
       DELETE FROM one_time_keys o USING wanted w
        WHERE o.user_id = w.user_id AND o.device_id = w.device_id AND o.algorithm = w.algorithm
          AND o.key_id = (SELECT key_id FROM one_time_keys f
                           WHERE f.user_id = w.user_id AND f.device_id = w.device_id AND f.algorithm = w.algorithm
                           ORDER BY uploaded_at, key_id LIMIT 1 FOR UPDATE SKIP LOCKED)
       RETURNING o.user_id, o.device_id, o.algorithm, o.key_id, o.key
     ), fallen AS (
       UPDATE fallback_keys f SET used = true FROM wanted w
        WHERE f.user_id = w.user_id AND f.device_id = w.device_id AND f.algorithm = w.algorithm
          AND NOT EXISTS (SELECT FROM taken t
                           WHERE t.user_id = w.user_id AND t.device_id = w.device_id AND t.algorithm = w.algorithm)
       RETURNING f.user_id, f.device_id, f.algorithm, f.key_id, f.key
     )
     SELECT user_id AS "userId", device_id AS "deviceId", algorithm, key_id AS "keyId", key FROM taken
      UNION ALL SELECT user_id, device_id, algorithm, key_id, key FROM fallen`,
    [
      claims.map(({ userId }) => userId),
      claims.map(({ deviceId }) => deviceId),
      claims.map(({ algorithm }) => storable(algorithm)),
    ],
  );
  return rows.map((row) => ({ ...row, algorithm: fromStorable(row.algorithm), keyId: fromStorable(row.keyId) }));
}
