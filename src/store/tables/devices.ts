/** Where users are logged in. A device is deleted before its sessions are: whoever makes a session holds its device's row. */
import { type UserId } from '../../matrix/identifiers.ts';
import { type Sql, type Transaction } from '../open-store.ts';
import { fromStorable, storable } from '../storable-text.ts';
import { noteOwnDeviceChanges } from './device-changes.ts';

export interface DeviceRow {
  readonly userId: UserId;
  readonly deviceId: string;
  readonly displayName: string | null;
  readonly createdAt: number;
  /** Milliseconds since the Unix epoch, to the minute. */
  readonly lastSeenAt: number;
  readonly lastSeenAddress: string | null;
}

const COLUMNS = `user_id AS "userId", device_id AS "deviceId", display_name AS "displayName", created_at AS "createdAt",
                 last_seen_at AS "lastSeenAt", last_seen_address AS "lastSeenAddress"`;

function deviceOf(row: DeviceRow): DeviceRow {
  return { ...row, displayName: row.displayName && fromStorable(row.displayName) };
}

/** Makes a device, or locks the one that is there, whose name stays; gives whether it is new. Until the transaction ends it cannot be deleted. */
export async function upsertDevice(
  tx: Transaction,
  device: Pick<DeviceRow, 'userId' | 'deviceId' | 'displayName' | 'createdAt' | 'lastSeenAddress'>,
): Promise<boolean> {
  const { userId, deviceId, displayName, createdAt, lastSeenAddress } = device;
  const [row] = await tx.query<{ isNew: boolean }>(
    `INSERT INTO devices (user_id, device_id, display_name, created_at, last_seen_at, last_seen_address)
     VALUES ($1, $2, $3, $4, $4, $5)
     ON CONFLICT (user_id, device_id) DO UPDATE
        SET (last_seen_at, last_seen_address) = (excluded.last_seen_at, excluded.last_seen_address)
     RETURNING xmax = 0 AS "isNew"`,
    [userId, deviceId, displayName && storable(displayName), createdAt, lastSeenAddress],
  );
  return row?.isNew === true;
}

/** Whether it is there; it cannot be deleted until the transaction ends. */
export async function lockDevice(tx: Transaction, userId: UserId, deviceId: string): Promise<boolean> {
  const rows = await tx.query(`SELECT FROM devices WHERE user_id = $1 AND device_id = $2 FOR SHARE`, [
    userId,
    deviceId,
  ]);
  return rows.length > 0;
}

/** How many a user has, counted up to `countMax`. */
export async function countDevices(sql: Sql, userId: UserId, countMax: number): Promise<number> {
  const [row] = await sql.query<{ count: number }>(
    `SELECT count(*) AS count FROM (SELECT FROM devices WHERE user_id = $1 LIMIT $2) AS counted`,
    [userId, countMax],
  );
  return row?.count ?? 0;
}

/** In the order in which they were made. */
export async function readDevices(sql: Sql, userId: UserId): Promise<DeviceRow[]> {
  const text = `SELECT ${COLUMNS} FROM devices WHERE user_id = $1 ORDER BY created_at, device_id`;
  return (await sql.query<DeviceRow>(text, [userId])).map(deviceOf);
}

/** One device; `undefined`: the user has none of that id. */
export async function readDevice(sql: Sql, userId: UserId, deviceId: string): Promise<DeviceRow | undefined> {
  const text = `SELECT ${COLUMNS} FROM devices WHERE user_id = $1 AND device_id = $2`;
  const [row] = await sql.query<DeviceRow>(text, [userId, deviceId]);
  return row && deviceOf(row);
}

/** Whether there is such a device. */
export async function renameDevice(sql: Sql, userId: UserId, deviceId: string, name: string): Promise<boolean> {
  const rows = await sql.query(
    `UPDATE devices SET display_name = $3 WHERE user_id = $1 AND device_id = $2 RETURNING 1 AS renamed`,
    [userId, deviceId, storable(name)],
  );
  return rows.length > 0;
}

/** Notes that a device was used. */
export async function touchDevice(
  sql: Sql,
  { userId, deviceId, lastSeenAt, lastSeenAddress }: Omit<DeviceRow, 'displayName' | 'createdAt'>,
): Promise<void> {
  await sql.query(
    `UPDATE devices SET (last_seen_at, last_seen_address) = ($3, $4) WHERE user_id = $1 AND device_id = $2`,
    [userId, deviceId, lastSeenAt, lastSeenAddress],
  );
}

/**
 * Logs devices out, those of the list, or all but it; what they published goes with them, and what they were to be told. Of those whose keys
 * others know it is noted, last in the transaction.
 */
export async function deleteDevices(
  tx: Transaction,
  userId: UserId,
  which: { readonly these: readonly string[] } | { readonly allBut: readonly string[] },
): Promise<void> {
  const isThese = 'these' in which;
  const ids = isThese ? which.these : which.allBut;
  const matches = isThese ? 'device_id = ANY ($2::text[])' : 'NOT device_id = ANY ($2::text[])';
  await tx.query(`DELETE FROM devices WHERE user_id = $1 AND ${matches}`, [userId, ids]);
  for (const table of ['sessions', 'one_time_keys', 'fallback_keys', 'to_device_messages']) {
    await tx.query(`DELETE FROM ${table} WHERE user_id = $1 AND ${matches}`, [userId, ids]);
  }
  const gone = await tx.query<{ deviceId: string }>(
    `DELETE FROM device_keys WHERE user_id = $1 AND ${matches} RETURNING device_id AS "deviceId"`,
    [userId, ids],
  );
  await noteOwnDeviceChanges(
    tx,
    userId,
    gone.map(({ deviceId }) => deviceId),
  );
}
