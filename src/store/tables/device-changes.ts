/** Whose keys are others since when. The position of a change is the stream id by which other servers know it. */
import { type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type Topic, takePositions } from '../journal/positions.ts';
import { type Sql, type Transaction } from '../open-store.ts';
import { textArray } from '../sql-values.ts';
import { fromStorable, storable } from '../storable-text.ts';

/** The keys by which a user vouches for his devices, in the place of a device. */
export const CROSS_SIGNING = '';

/** A user, and which of his devices; `CROSS_SIGNING`, or of a user of another server anything: no certain one. */
export interface DeviceChange {
  readonly userId: UserId;
  readonly deviceId: string;
}

const RENEW_CACHED = `
  UPDATE cached_devices d SET as_of = head.base + c.nth
    FROM head, unnest($3::text[]) WITH ORDINALITY AS c(user_id, nth)
   WHERE d.user_id = c.user_id AND c.user_id = ANY ($6::text[])`;

/** How changes are noted. */
export interface NoteOptions {
  readonly topics: readonly Topic[];
  /** Of users of this server, so that others are to be told. */
  readonly isOurs: boolean;
  /** Of whom what is cached has the change in it already (cached-devices.ts). */
  readonly applied?: readonly UserId[];
}

/** Notes changes, as the last statement of the transaction, each with a position of its own; `topics` are told. */
export function noteDeviceChanges(
  tx: Transaction,
  changes: readonly DeviceChange[],
  { topics, isOurs, applied = [] }: NoteOptions,
): void {
  const isApplied = applied.length > 0;
  takePositions(tx, {
    name: isApplied ? 'note_applied_device_changes' : 'note_device_changes',
    text: `INSERT INTO device_changes (user_id, device_id, position, is_untold)
           SELECT c.user_id, c.device_id, head.base + c.nth, $5::boolean
             FROM head, unnest($3::text[], $4::text[]) WITH ORDINALITY AS c(user_id, device_id, nth)
           ON CONFLICT (user_id, device_id) DO UPDATE SET (position, is_untold) = (excluded.position, excluded.is_untold)`,
    values: [
      textArray(changes.map(({ userId }) => userId)),
      textArray(changes.map(({ deviceId }) => storable(deviceId))),
      String(isOurs),
      ...(isApplied ? [textArray(applied)] : []),
    ],
    ...(isApplied ? { besides: RENEW_CACHED } : {}),
    count: changes.length,
    topics,
  });
}

/** The same for devices of one user of this server, whose rooms are told. */
export async function noteOwnDeviceChanges(
  tx: Transaction,
  userId: UserId,
  deviceIds: readonly string[],
): Promise<void> {
  if (deviceIds.length === 0) return;
  const rooms = await tx.query<{ roomId: RoomId }>(
    `SELECT room_id AS "roomId" FROM local_members WHERE user_id = $1 AND membership = 'join'`,
    [userId],
  );
  const changes = deviceIds.map((deviceId) => ({ userId, deviceId }));
  noteDeviceChanges(tx, changes, { topics: [userId, ...rooms.map(({ roomId }) => roomId)], isOurs: true });
}

/** Of whom something is another since a position after `since`: of at most so many changes, the oldest first; a user may be named more than once. */
export async function readChangedUsers(
  sql: Sql,
  { since, upTo }: { readonly since: number; readonly upTo: number },
  limit: number,
): Promise<UserId[]> {
  const rows = await sql.query<{ userId: UserId }>(
    `SELECT user_id AS "userId" FROM device_changes WHERE position > $1 AND position <= $2 ORDER BY position LIMIT $3`,
    [since, upTo, limit],
  );
  return rows.map(({ userId }) => userId);
}

/** By user, the position of the last change of any of his devices; who never had one is absent. */
export async function readStreamIds(sql: Sql, userIds: readonly UserId[]): Promise<ReadonlyMap<UserId, number>> {
  if (userIds.length === 0) return new Map();
  const rows = await sql.query<{ userId: UserId; position: number }>(
    `SELECT user_id AS "userId", max(position) AS position FROM device_changes WHERE user_id = ANY ($1::text[]) GROUP BY user_id`,
    [userIds],
  );
  return new Map(rows.map(({ userId, position }) => [userId, position]));
}

/** A change that other servers are still to be told of. */
export interface UntoldChange extends DeviceChange {
  readonly position: number;
}

/**
 * Until the transaction ends nobody else tells servers of changes. Of a user they are told in the order of their positions, and a server is
 * held to know all up to the last one that it was told: of two who tell at once, one would pass over what the other is still at.
 */
export async function lockTelling(tx: Transaction): Promise<void> {
  await tx.query(`SELECT pg_advisory_xact_lock(hashtextextended('telling of devices', 0))`);
}

/** The oldest of them. */
export async function readUntoldChanges(tx: Transaction, limit: number): Promise<UntoldChange[]> {
  const rows = await tx.query<UntoldChange>(
    `SELECT user_id AS "userId", device_id AS "deviceId", position FROM device_changes
      WHERE is_untold ORDER BY position LIMIT $1`,
    [limit],
  );
  return rows.map((row) => ({ ...row, deviceId: fromStorable(row.deviceId) }));
}

/** They are told; one that changed since is not. */
export async function settleUntoldChanges(tx: Transaction, changes: readonly UntoldChange[]): Promise<void> {
  await tx.query(
    `UPDATE device_changes d SET is_untold = false
       FROM unnest($1::text[], $2::text[], $3::bigint[]) AS c(user_id, device_id, position)
      WHERE d.user_id = c.user_id AND d.device_id = c.device_id AND d.position = c.position`,
    [
      changes.map(({ userId }) => userId),
      changes.map(({ deviceId }) => storable(deviceId)),
      changes.map(({ position }) => position),
    ],
  );
}
