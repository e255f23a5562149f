/** Which join of ours cites an event that nobody knows: the state before it is the nearest that can be had. */
import { type EventId, type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type Sql } from '../../store/open-store.ts';
import { readSnapshot } from '../../store/snapshots/snapshots.ts';
import { type JoinThatCites } from './state-at.ts';

/**
 * The join of this stay that wanted the state at `eventId`. What an earlier stay left partial is wanted by the first join: the
 * state before it is later than that event, and the nearest that anybody has.
 */
export async function findJoinThatCites(
  sql: Sql,
  roomId: RoomId,
  epoch: number,
  eventId: EventId,
): Promise<JoinThatCites | undefined> {
  const [join] = await sql.query<{ joinEventId: EventId; userId: UserId; stateBefore: SnapshotId | null }>(
    `SELECT j.data ->> 'joinEventId' AS "joinEventId", j.data ->> 'userId' AS "userId",
            j.data ->> 'stateBefore' AS "stateBefore"
       FROM journal j
      WHERE j.room_id = $1 AND j.epoch = $2 AND j.type IN ('PartialStateJoined', 'ResidentsLearned')
      ORDER BY $3 IN (SELECT json_array_elements_text(j.data -> 'fetchAt')) DESC, j.position LIMIT 1`,
    [roomId, epoch, eventId],
  );
  if (join === undefined) return undefined;
  const { joinEventId, userId, stateBefore } = join;
  // Joins of an earlier version did not journal it.
  if (stateBefore === null) return { joinEventId, membershipBefore: undefined };
  const keys = [{ type: 'm.room.member', stateKey: userId }];
  const [earlier] = await readSnapshot(sql, roomId, stateBefore, { keys });
  return { joinEventId, membershipBefore: earlier?.eventId };
}
