/**
 * What servers of other users have said of their devices, of users who share a room with somebody here: they tell of every change then, so that
 * it holds until they do. A row is good while nothing was noted of its user since (device-changes.ts), and the membership by which he shares
 * a room is the one that it was, in the same stay of ours: who left and came back meanwhile may have changed what we were not told.
 */
import { type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type Sql, type Transaction } from '../open-store.ts';
import { int8Array, textArray } from '../sql-values.ts';

/** A membership by which a user shares a room with us. */
export interface Tracked {
  readonly userId: UserId;
  readonly roomId: RoomId;
  readonly epoch: number;
  readonly memberNid: number;
}

export interface CachedDevices extends Tracked {
  /** Of the newest change that is in it; null: his server has not said. */
  readonly streamId: number | null;
  /** `{devices, masterKey, selfSigningKey}` as his server said it. */
  readonly keys: JsonObject;
  /** The position of the change that is in it, 0: none. */
  readonly asOf: number;
}

const COLUMNS = `c.user_id AS "userId", c.room_id AS "roomId", c.epoch, c.member_nid AS "memberNid", c.stream_id AS "streamId",
  c.keys, c.as_of AS "asOf"`;
const CHANGED_AT = (user: string): string =>
  `coalesce((SELECT max(d.position) FROM device_changes d WHERE d.user_id = ${user}), 0)`;

/** Of the users what is cached and good, as far as the stay and the changes say it: memberships in `state` are for the caller to compare. */
export function readCachedDevices(
  sql: Sql,
  userIds: readonly UserId[],
): Promise<(CachedDevices & { readonly state: SnapshotId })[]> {
  return sql.query(
    `SELECT ${COLUMNS}, encode(r.current_state, 'hex') AS state
       FROM cached_devices c JOIN rooms r ON r.room_id = c.room_id AND r.epoch = c.epoch AND r.current_state IS NOT NULL
      WHERE c.user_id = ANY ($1::text[]) AND c.as_of = ${CHANGED_AT('c.user_id')}
        AND EXISTS (SELECT FROM local_members m WHERE m.room_id = c.room_id AND m.membership = 'join')`,
    [userIds],
  );
}

/** Those of the events, by number, that came to pass in the stay that their room is in now. */
export async function readSeenJoining(sql: Sql, nids: readonly number[]): Promise<ReadonlySet<number>> {
  if (nids.length === 0) return new Set();
  const rows = await sql.query<{ nid: number }>(
    `SELECT e.event_nid AS nid FROM event_states e JOIN rooms r ON r.room_id = e.room_id AND r.epoch = e.epoch
      WHERE e.event_nid = ANY ($1::bigint[])`,
    [int8Array(nids)],
  );
  return new Set(rows.map(({ nid }) => nid));
}

/** The position of the last change that was noted of each of the users, 0: none. To be read before their server is asked. */
export async function readChangedAt(sql: Sql, userIds: readonly UserId[]): Promise<ReadonlyMap<UserId, number>> {
  if (userIds.length === 0) return new Map();
  const rows = await sql.query<{ userId: UserId; position: number }>(
    `SELECT u.user_id AS "userId", ${CHANGED_AT('u.user_id')} AS position FROM unnest($1::text[]) AS u(user_id)`,
    [userIds],
  );
  return new Map(rows.map(({ userId, position }) => [userId, position]));
}

/** Keeps what servers have said of users, each named once. What is noted meanwhile makes it worth nothing: `asOf` was read before. */
export async function upsertCachedDevices(sql: Sql, rows: readonly CachedDevices[], at: number): Promise<void> {
  if (rows.length === 0) return;
  await sql.query(
    `INSERT INTO cached_devices AS c (user_id, room_id, epoch, member_nid, stream_id, keys, as_of, fetched_at)
     SELECT n.user_id, n.room_id, n.epoch, n.member_nid, n.stream_id, n.keys::json, n.as_of, $8::bigint
       FROM unnest($1::text[], $2::text[], $3::int[], $4::bigint[], $5::bigint[], $6::text[], $7::bigint[])
            AS n(user_id, room_id, epoch, member_nid, stream_id, keys, as_of)
       JOIN rooms r ON r.room_id = n.room_id AND r.epoch = n.epoch
      ORDER BY n.user_id
     ON CONFLICT (user_id) DO UPDATE
        SET (room_id, epoch, member_nid, stream_id, keys, as_of, fetched_at)
          = (excluded.room_id, excluded.epoch, excluded.member_nid, excluded.stream_id, excluded.keys, excluded.as_of, excluded.fetched_at)
      WHERE c.as_of <= excluded.as_of`,
    [
      textArray(rows.map(({ userId }) => userId)),
      textArray(rows.map(({ roomId }) => roomId)),
      int8Array(rows.map(({ epoch }) => epoch)),
      int8Array(rows.map(({ memberNid }) => memberNid)),
      int8Array(rows.map(({ streamId }) => streamId)),
      textArray(rows.map(({ keys }) => JSON.stringify(keys))),
      int8Array(rows.map(({ asOf }) => asOf)),
      at,
    ],
  );
}

/** What is cached of users and holds up to now, which nobody else changes until the transaction ends. */
export function lockCachedDevices(tx: Transaction, userIds: readonly UserId[]): Promise<CachedDevices[]> {
  return tx.query<CachedDevices>(
    `SELECT ${COLUMNS} FROM cached_devices c
      WHERE c.user_id = ANY ($1::text[]) AND c.as_of = ${CHANGED_AT('c.user_id')} ORDER BY c.user_id FOR UPDATE OF c`,
    [userIds],
  );
}

/** Writes what is in locked rows now. They hold again when `asOf` is the position of their change, which the note of it sets (device-changes.ts). */
export async function updateCachedDevices(
  tx: Transaction,
  rows: readonly Pick<CachedDevices, 'userId' | 'streamId' | 'keys'>[],
): Promise<void> {
  if (rows.length === 0) return;
  await tx.query(
    `UPDATE cached_devices c SET (stream_id, keys) = (n.stream_id, n.keys::json)
       FROM unnest($1::text[], $2::bigint[], $3::text[]) AS n(user_id, stream_id, keys) WHERE c.user_id = n.user_id`,
    [
      textArray(rows.map(({ userId }) => userId)),
      int8Array(rows.map(({ streamId }) => streamId)),
      textArray(rows.map(({ keys }) => JSON.stringify(keys))),
    ],
  );
}

/** Forgets at most `limit` users who were asked for before `before`, or by a room that we are not in any more; gives how many. */
export async function forgetCachedDevices(sql: Sql, before: number, limit: number): Promise<number> {
  const gone = await sql.query(
    `DELETE FROM cached_devices WHERE user_id = ANY (ARRAY(
       SELECT c.user_id FROM cached_devices c
        WHERE c.fetched_at < $1
           OR NOT EXISTS (SELECT FROM local_members m JOIN rooms r ON r.room_id = m.room_id AND r.epoch = c.epoch
                           WHERE m.room_id = c.room_id AND m.membership = 'join')
        LIMIT $2)) RETURNING 1`,
    [before, limit],
  );
  return gone.length;
}
