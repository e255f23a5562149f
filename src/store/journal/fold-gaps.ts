/** The fold of control events about gaps: a row for each missing event at which the state is still looked for. */
import { type ResyncEvent } from '../../resync/events.ts';
import { type Transaction } from '../open-store.ts';
import { displayable } from '../storable-text.ts';
import { type LockedRoom } from './rooms.ts';

/** A gap that is open already stays as it is; one that was given up is opened anew. */
export async function foldGaps(
  tx: Transaction,
  { roomId, epoch }: LockedRoom,
  events: readonly ResyncEvent[],
): Promise<void> {
  for (const event of events) {
    if (event.type === 'GapOpened') {
      await tx.query(
        `INSERT INTO gaps AS g (room_id, event_id, epoch, origin, opened_at, wake_at)
         SELECT $1, event_id, $2, $5, $4::bigint, $4::bigint FROM unnest($3::text[]) AS i(event_id)
         ON CONFLICT (room_id, event_id) DO UPDATE SET wake_at = excluded.wake_at, attempts = 0, begins = 0, begun_until = 0
          WHERE g.wake_at IS NULL`,
        [roomId, epoch, event.eventIds, event.at, event.origin],
      );
    } else if (event.type === 'GapClosed' || event.type === 'GapFilled') {
      await tx.query(`DELETE FROM gaps WHERE room_id = $1 AND event_id = $2`, [roomId, event.eventId]);
    } else if (event.type === 'GapGivenUp') {
      const reason = displayable(event.reason);
      await tx.query(`UPDATE gaps SET wake_at = NULL, last_reason = $3 WHERE room_id = $1 AND event_id = $2`, [
        roomId,
        event.eventId,
        reason,
      ]);
    }
  }
}
