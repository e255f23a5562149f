/** Which servers are to be told of the devices of users of ours, and what they were told last. */
import { type RoomId, type ServerName, type UserId } from '../../matrix/identifiers.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type Sql, type Transaction } from '../open-store.ts';
import { textArray } from '../sql-values.ts';
import { fromStorable } from '../storable-text.ts';
import { type UntoldChange } from './device-changes.ts';

/** A room that a user of this server is joined to. */
export interface RoomOfUser {
  readonly userId: UserId;
  readonly roomId: RoomId;
  readonly state: SnapshotId;
  readonly partial: boolean;
  readonly epoch: number;
}

/** All rooms of the users. */
export function readRoomsOfUsers(sql: Sql, userIds: readonly UserId[]): Promise<RoomOfUser[]> {
  return sql.query<RoomOfUser>(
    `SELECT m.user_id AS "userId", r.room_id AS "roomId", encode(r.current_state, 'hex') AS state, r.partial, r.epoch
       FROM local_members m JOIN rooms r ON r.room_id = m.room_id AND r.current_state IS NOT NULL
      WHERE m.user_id = ANY ($1::text[]) AND m.membership = 'join' ORDER BY r.room_id`,
    [userIds],
  );
}

/** A server and a user of ours. */
export interface Told {
  readonly serverName: ServerName;
  readonly userId: UserId;
  readonly streamId: number;
}

/** What servers were told of users last; of whom they were told nothing is absent. */
export function readTold(sql: Sql, userIds: readonly UserId[], serverNames: readonly ServerName[]): Promise<Told[]> {
  return sql.query<Told>(
    `SELECT server_name AS "serverName", user_id AS "userId", stream_id AS "streamId" FROM told_device_lists
      WHERE user_id = ANY ($1::text[]) AND server_name = ANY ($2::text[])`,
    [userIds, serverNames],
  );
}

/** Notes what they are told from now on; each server and user is named once. */
export async function upsertTold(tx: Transaction, told: readonly Told[]): Promise<void> {
  await tx.query(
    `INSERT INTO told_device_lists AS t (server_name, user_id, stream_id)
     SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])
     ON CONFLICT (user_id, server_name) DO UPDATE SET stream_id = greatest(t.stream_id, excluded.stream_id)`,
    [
      textArray(told.map(({ serverName }) => serverName)),
      textArray(told.map(({ userId }) => userId)),
      told.map(({ streamId }) => streamId),
    ],
  );
}

/** Notes that who was in these partial rooms is to be told of changes of users from `since` on, once they are whole. */
export async function noteUntoldInRooms(
  tx: Transaction,
  rows: readonly { readonly roomId: RoomId; readonly userId: UserId; readonly since: number }[],
): Promise<void> {
  if (rows.length === 0) return;
  await tx.query(
    `INSERT INTO untold_in_partial_rooms (room_id, user_id, since)
     SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[]) ON CONFLICT DO NOTHING`,
    [rows.map(({ roomId }) => roomId), rows.map(({ userId }) => userId), rows.map(({ since }) => since)],
  );
}

/** A room that became whole, of which somebody may not have been told. */
export interface UntoldRoom extends RoomOfUser {
  readonly since: number;
}

/** Takes some of those whose room is whole; those of rooms that the user has left go without a word. Who has left is `partial`. */
export async function takeUntoldRooms(tx: Transaction, limit: number): Promise<UntoldRoom[]> {
  return tx.query<UntoldRoom>(
    `WITH due AS (
       SELECT u.room_id, u.user_id FROM untold_in_partial_rooms u LEFT JOIN rooms r ON r.room_id = u.room_id
        WHERE NOT coalesce(r.partial, false)
           OR NOT EXISTS (SELECT FROM local_members m
                           WHERE m.room_id = u.room_id AND m.user_id = u.user_id AND m.membership = 'join')
        LIMIT $1 FOR UPDATE OF u
     ), taken AS (
       DELETE FROM untold_in_partial_rooms u USING due d WHERE u.room_id = d.room_id AND u.user_id = d.user_id
       RETURNING u.room_id, u.user_id, u.since
     )
     SELECT t.user_id AS "userId", t.room_id AS "roomId", t.since, encode(r.current_state, 'hex') AS state, r.partial, r.epoch
       FROM taken t JOIN rooms r ON r.room_id = t.room_id AND r.current_state IS NOT NULL AND NOT r.partial
       JOIN local_members m ON m.room_id = t.room_id AND m.user_id = t.user_id AND m.membership = 'join'`,
    [limit],
  );
}

/** Servers of whose users memberships of a room were said after a position. */
export async function readServersMovedSince(sql: Sql, roomId: RoomId, after: number): Promise<ServerName[]> {
  const rows = await sql.query<{ server: ServerName }>(
    `SELECT DISTINCT substr(k.state_key, strpos(k.state_key, ':') + 1) AS server
       FROM event_states e JOIN pdus p ON p.nid = e.event_nid JOIN state_keys k ON k.nid = p.state_key_nid
      WHERE e.room_id = $1 AND e.position > $2 AND p.type = 'm.room.member'`,
    [roomId, after],
  );
  return rows.map(({ server }) => server);
}

/** The stay's first position: what was said since. */
export async function readStayBegun(sql: Sql, roomId: RoomId, epoch: number): Promise<number> {
  const [row] = await sql.query<{ position: number | null }>(
    `SELECT min(position) AS position FROM journal WHERE room_id = $1 AND stream = 'resync' AND epoch = $2`,
    [roomId, epoch],
  );
  return row?.position ?? 0;
}

/** Changes of users of this server from a position on, each with its user's. */
export async function readChangesSince(
  sql: Sql,
  users: readonly { readonly userId: UserId; readonly since: number }[],
): Promise<UntoldChange[]> {
  const rows = await sql.query<UntoldChange>(
    `SELECT d.user_id AS "userId", d.device_id AS "deviceId", d.position
       FROM unnest($1::text[], $2::bigint[]) AS u(user_id, since)
       JOIN device_changes d ON d.user_id = u.user_id AND d.position >= u.since ORDER BY d.position`,
    [users.map(({ userId }) => userId), users.map(({ since }) => since)],
  );
  return rows.map((row) => ({ ...row, deviceId: fromStorable(row.deviceId) }));
}
