/**
 * Users who share a room with users of ours, as they are looked for: a row a user and room, with what he calls himself there, so that nobody finds
 * him by a name that only others are told, and no two rooms write the same row. A room is followed from the state that was written down last to its
 * current one; what is partial is left as it is until it is whole.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#user-directory
 */
import { type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type Sql, type Transaction } from '../open-store.ts';
import { type TrieDifference } from '../snapshots/compare-tries.ts';
import { stateKeyNidOf } from '../snapshots/snapshot-trie.ts';
import { int8Array, textArray } from '../sql-values.ts';
import { fromStorable, storable } from '../storable-text.ts';

/** A room whose members are written down otherwise than they are. */
export interface StaleRoom {
  readonly roomId: RoomId;
  /** What is written down; `null`: nothing. */
  readonly from: SnapshotId | null;
  /** What is to be; `null`: nothing, since nobody of ours is in. */
  readonly to: SnapshotId | null;
}

const STALE = `
  SELECT r.room_id AS "roomId", encode(d.named_state, 'hex') AS "from", encode(w.state, 'hex') AS "to"
    FROM rooms r LEFT JOIN directory_rooms d ON d.room_id = r.room_id
   CROSS JOIN LATERAL (SELECT CASE WHEN EXISTS (SELECT FROM local_members m WHERE m.room_id = r.room_id AND m.membership = 'join')
                                   THEN r.current_state END AS state) AS w
   WHERE w.state IS DISTINCT FROM d.named_state AND (w.state IS NULL OR NOT r.partial)`;

/** Some such rooms behind another, of `roomIds` where given; else all are gone through. */
export async function readStaleRooms(
  sql: Sql,
  roomIds: readonly RoomId[] | null,
  { after, limit }: { readonly after: RoomId | ''; readonly limit: number },
): Promise<RoomId[]> {
  const among = roomIds === null ? '' : 'AND r.room_id = ANY ($3::text[])';
  const rows = await sql.query<StaleRoom>(`${STALE} AND r.room_id > $2 ${among} ORDER BY r.room_id LIMIT $1`, [
    limit,
    after,
    ...(roomIds === null ? [] : [textArray(roomIds)]),
  ]);
  return rows.map(({ roomId }) => roomId);
}

/** Rooms in which something was decided between two positions. */
export async function readRoomsMoved(sql: Sql, after: number, upTo: number): Promise<RoomId[]> {
  const rows = await sql.query<{ roomId: RoomId }>(
    `SELECT DISTINCT room_id AS "roomId" FROM journal WHERE position > $1 AND position <= $2`,
    [after, upTo],
  );
  return rows.map(({ roomId }) => roomId);
}

/** Holds a room until the transaction ends; `undefined`: somebody else is at it, or it is as it should be by now. */
export async function lockStaleRoom(tx: Transaction, roomId: RoomId): Promise<StaleRoom | undefined> {
  // Held against a purge, and against nobody who appends.
  await tx.query(
    `INSERT INTO directory_rooms (room_id) SELECT room_id FROM rooms WHERE room_id = $1 FOR KEY SHARE ON CONFLICT DO NOTHING`,
    [roomId],
  );
  const held = await tx.query(`SELECT FROM directory_rooms WHERE room_id = $1 FOR UPDATE SKIP LOCKED`, [roomId]);
  if (held.length === 0) return undefined;
  const [room] = await tx.query<StaleRoom>(`${STALE} AND r.room_id = $1`, [roomId]);
  return room;
}

/** A membership that differs between two states. */
export interface MovedMember {
  readonly userId: string;
  readonly membership: string | null;
  /** Of its event; `null`: there is none. */
  readonly json: string | null;
}

/** Memberships among some differences. */
export async function readMovedMembers(sql: Sql, differences: readonly TrieDifference[]): Promise<MovedMember[]> {
  const rows = await sql.query<MovedMember>(
    `SELECT k.state_key AS "userId", p.membership, CASE WHEN p.membership = 'join' THEN p.json::text END AS json
       FROM unnest($1::bigint[], $2::bigint[]) AS d(key, after)
       JOIN state_keys k ON k.nid = d.key AND k.type = 'm.room.member'
       LEFT JOIN pdus p ON p.nid = d.after`,
    [int8Array(differences.map(({ key }) => stateKeyNidOf(key))), int8Array(differences.map(({ after }) => after))],
  );
  return rows.map((row) => ({ ...row, userId: fromStorable(row.userId) }));
}

/** A user as he is found. */
export interface ListedUser {
  readonly userId: UserId;
  readonly displayName: string | null;
  readonly avatarUrl: string | null;
}

/** As the users of ours among some call themselves everywhere. */
export async function readOwnNames(sql: Sql, userIds: readonly UserId[]): Promise<ReadonlyMap<UserId, ListedUser>> {
  const rows = await sql.query<ListedUser>(
    `SELECT user_id AS "userId", display_name AS "displayName", avatar_url AS "avatarUrl" FROM users WHERE user_id = ANY ($1::text[])`,
    [textArray(userIds)],
  );
  return new Map(rows.map((row) => [row.userId, asListed(row)]));
}

/** `words`: by the beginnings of which he is found. */
export async function upsertDirectoryMembers(
  tx: Transaction,
  roomId: RoomId,
  users: readonly (ListedUser & { readonly words: readonly string[] })[],
): Promise<void> {
  if (users.length === 0) return;
  const inOrder = users.toSorted((a, b) => (a.userId < b.userId ? -1 : 1));
  const text = (value: string | null): string | null => (value === null ? null : storable(value));
  await tx.query(
    `INSERT INTO directory_members (user_id, room_id, display_name, avatar_url, words)
     SELECT user_id, $1, display_name, avatar_url, array_to_tsvector(string_to_array(words, ' '))
       FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS u(user_id, display_name, avatar_url, words) ORDER BY user_id
     ON CONFLICT (user_id, room_id) DO UPDATE
        SET (display_name, avatar_url, words) = (excluded.display_name, excluded.avatar_url, excluded.words)`,
    [
      roomId,
      textArray(inOrder.map(({ userId }) => userId)),
      textArray(inOrder.map(({ displayName }) => text(displayName))),
      textArray(inOrder.map(({ avatarUrl }) => text(avatarUrl))),
      textArray(inOrder.map(({ words }) => words.join(' '))),
    ],
  );
}

/** Users who are not in the room any more. `userIds`: `null`: all of the room. */
export async function deleteDirectoryMembers(
  tx: Transaction,
  roomId: RoomId,
  userIds: readonly string[] | null,
): Promise<void> {
  if (userIds?.length === 0) return;
  await tx.query(
    `DELETE FROM directory_members WHERE room_id = $1 AND ($2::text[] IS NULL OR user_id = ANY ($2::text[]))`,
    [roomId, userIds === null ? null : textArray(userIds)],
  );
}

/** What is written down is the state. `isPublic`: anybody may find who is in the room. */
export async function settleDirectoryRoom(
  tx: Transaction,
  roomId: RoomId,
  state: SnapshotId | null,
  isPublic: boolean,
): Promise<void> {
  await tx.query(`UPDATE directory_rooms SET named_state = decode($2, 'hex'), is_public = $3 WHERE room_id = $1`, [
    roomId,
    state,
    isPublic,
  ]);
}

/** Memberships of those whose words begin so, in rooms that the user is in, and in public ones; of more only some are looked at. */
const LOOKED_AT_MAX = 10_000;
const NAMED_SO = `
          FROM directory_members m JOIN directory_rooms r ON r.room_id = m.room_id
         WHERE m.words @@ $1::tsquery AND starts_with(substr(m.user_id, strpos(m.user_id, ':') + 1), $4)`;

/**
 * Those whom a user may find: who are in a room with him, or in one that anybody may find, by what they are called there; who is found by both, and
 * users of ours, as everybody may know them. Those who are in a room with him come first. `beginnings`: of all of which he has a word, in lower case. `server`: how the name of his begins.
 */
export async function searchDirectory(
  sql: Sql,
  userId: UserId,
  { beginnings, server }: { readonly beginnings: readonly string[]; readonly server: string },
  limit: number,
): Promise<ListedUser[]> {
  const rows = await sql.query<ListedUser>(
    `WITH shared AS MATERIALIZED (SELECT room_id FROM local_members WHERE user_id = $2 AND membership = 'join'),
     near AS MATERIALIZED (
       SELECT m.user_id, m.display_name, m.avatar_url, r.is_public, m.room_id ${NAMED_SO}
           AND m.room_id IN (SELECT room_id FROM shared) LIMIT ${LOOKED_AT_MAX}
     ),
     found AS (
       SELECT DISTINCT ON (m.user_id) m.* FROM (
         SELECT * FROM near
         UNION ALL
         (SELECT m.user_id, m.display_name, m.avatar_url, true, m.room_id ${NAMED_SO} AND r.is_public LIMIT ${LOOKED_AT_MAX})
       ) AS m
        ORDER BY m.user_id, m.is_public DESC, m.room_id
     )
     SELECT f.user_id AS "userId",
            CASE WHEN u.user_id IS NULL THEN f.display_name ELSE u.display_name END AS "displayName",
            CASE WHEN u.user_id IS NULL THEN f.avatar_url ELSE u.avatar_url END AS "avatarUrl"
       FROM found f LEFT JOIN users u ON u.user_id = f.user_id
      ORDER BY f.user_id NOT IN (SELECT user_id FROM near),
               CASE WHEN u.user_id IS NULL THEN f.display_name ELSE u.display_name END IS NULL, f.user_id
      LIMIT $3`,
    [beginnings.map((word) => `'${word}':*`).join(' & '), userId, limit, storable(server)],
  );
  return rows.map(asListed);
}

function asListed({ userId, displayName, avatarUrl }: ListedUser): ListedUser {
  return {
    userId,
    displayName: displayName && fromStorable(displayName),
    avatarUrl: avatarUrl && fromStorable(avatarUrl),
  };
}

/** Rooms that users are in, as far as they are whole: `limit` of each at the most. */
export async function readListedRooms(
  sql: Sql,
  userIds: readonly UserId[],
  limit: number,
): Promise<{ readonly userId: UserId; readonly roomId: RoomId }[]> {
  if (userIds.length === 0) return [];
  return sql.query(
    `SELECT u.user_id AS "userId", m.room_id AS "roomId" FROM unnest($1::text[]) AS u(user_id)
      CROSS JOIN LATERAL (SELECT room_id FROM directory_members d WHERE d.user_id = u.user_id LIMIT $2) AS m`,
    [textArray(userIds), limit],
  );
}
