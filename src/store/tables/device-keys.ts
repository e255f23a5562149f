/** Keys that clients publish of their devices. They go with their device, whose row whoever writes them has locked. */
import { type UserId } from '../../matrix/identifiers.ts';
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
