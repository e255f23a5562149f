/**
 * Users of other servers whom a new room begins with, until they are invited. A row is written with the room, and goes with the answer of the
 * user's server: also when a process ends meanwhile.
 */
import { type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type Lease, leaseRows } from '../leased-rows.ts';
import { type Sql, type Transaction } from '../open-store.ts';
import { NOW_MS, textArray } from '../sql-values.ts';

export interface FirstInvite {
  readonly roomId: RoomId;
  readonly userId: UserId;
  readonly sender: UserId;
  readonly isDirect: boolean;
}

/** Nobody else is at them for `leaseMs`. */
export async function insertFirstInvites(
  tx: Transaction,
  { roomId, sender, isDirect }: Omit<FirstInvite, 'userId'>,
  userIds: readonly UserId[],
  leaseMs: number,
): Promise<void> {
  if (userIds.length === 0) return;
  await tx.query(
    `INSERT INTO first_invites (room_id, user_id, sender, is_direct, leased_until)
     SELECT $1, user_id, $3, $4, ${NOW_MS} + $5 FROM unnest($2::text[]) AS u(user_id) ON CONFLICT DO NOTHING`,
    [roomId, textArray(userIds), sender, isDirect, leaseMs],
  );
}

/** Takes those that nobody is at. */
export function leaseFirstInvites(sql: Sql, lease: Lease): Promise<FirstInvite[]> {
  const returning = `room_id AS "roomId", user_id AS "userId", sender, is_direct AS "isDirect"`;
  return leaseRows(sql, { name: 'first_invites', key: 'room_id, user_id', returning }, lease);
}

/** He was invited, or cannot be. */
export async function deleteFirstInvite(sql: Sql, { roomId, userId }: FirstInvite): Promise<void> {
  await sql.query(`DELETE FROM first_invites WHERE room_id = $1 AND user_id = $2`, [roomId, userId]);
}
