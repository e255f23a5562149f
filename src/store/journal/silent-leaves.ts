/**
 * Users of ours who have left a partial room here, and whose leave is made when its resync is done: until then the room has them as joined, and
 * other servers see no difference. A fold of `LeftSilently` and `SilentLeaveSettled`; a row stays when it is settled, for a client's token
 * may stand before that.
 */
import { type JournalEvent } from '../../resync/entries.ts';
import { type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type Sql, type Transaction } from '../open-store.ts';

/** Whether who is in the row `m` of `local_members` has left silently. */
export const IS_SILENT = `EXISTS (
  SELECT FROM silent_leaves silent WHERE silent.room_id = m.room_id AND silent.user_id = m.user_id AND silent.settled_at IS NULL)`;

/** What the row `m` of `local_members` is to the user himself, and to his clients: one who left silently has left. */
export const OWN_MEMBERSHIP = `CASE WHEN m.membership = 'join' AND ${IS_SILENT} THEN 'leave' ELSE m.membership END`;

/** Entries that change who has left silently; those that open or end a stay settle all. */
const MOVES: ReadonlySet<JournalEvent['type']> = new Set<JournalEvent['type']>([
  'LeftSilently',
  'SilentLeaveSettled',
  'StayEnded',
  'PartialStateJoined',
  'FullStateJoined',
]);

/** Whether an entry is one of them. */
export function movesSilentLeaves({ type }: JournalEvent): boolean {
  return MOVES.has(type);
}

/** Folds such entries, in their order. */
export async function foldSilentLeaves(
  tx: Transaction,
  roomId: RoomId,
  entries: readonly { readonly position: number; readonly event: JournalEvent }[],
): Promise<void> {
  for (const { position, event } of entries) {
    if (event.type === 'LeftSilently') {
      await tx.query(
        `INSERT INTO silent_leaves (room_id, user_id, left_at, settled_at) VALUES ($1, $2, $3, NULL)
         ON CONFLICT (room_id, user_id) DO UPDATE SET (left_at, settled_at) = (excluded.left_at, NULL)`,
        [roomId, event.userId, position],
      );
    } else if (movesSilentLeaves(event)) {
      await tx.query(
        `UPDATE silent_leaves SET settled_at = $2
          WHERE room_id = $1 AND settled_at IS NULL AND ($3::text IS NULL OR user_id = $3)`,
        [roomId, position, event.type === 'SilentLeaveSettled' ? event.userId : null],
      );
    }
  }
}

/** Users who have left a room silently, those among `users` where given. */
export async function readSilentLeaves(sql: Sql, roomId: RoomId, users?: readonly UserId[]): Promise<UserId[]> {
  const rows = await sql.query<{ userId: UserId }>(
    `SELECT user_id AS "userId" FROM silent_leaves
      WHERE room_id = $1 AND settled_at IS NULL AND ($2::text[] IS NULL OR user_id = ANY ($2::text[])) ORDER BY user_id`,
    [roomId, users ?? null],
  );
  return rows.map(({ userId }) => userId);
}
