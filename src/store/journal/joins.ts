/** Joins of ours, as the journal tells of them and as they are judged now. */
import { type EventId, type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type Sql } from '../open-store.ts';

/** A join whose verdict is another than the journal says. */
export interface TurnedJoin {
  readonly joinEventId: EventId;
  readonly userId: UserId;
  /** `null`: it was told as rejected, and is accepted. */
  readonly refusal: { readonly rule: string; readonly reason: string } | null;
}

/** Entries that tell that a user of ours has joined; with those that tell of its turns they are in an index of their own. */
const JOINED = `'PartialStateJoined', 'FullStateJoined', 'ResidentsLearned', 'ParentsLearned'`;

/**
 * Those of one stay, found by an index that holds what is told of joins and nothing else of the stay: a stay has as many of these
 * entries as users of ours joined in it, and as often as their joins turned.
 */
export async function readTurnedJoins(sql: Sql, roomId: RoomId, epoch: number): Promise<TurnedJoin[]> {
  const rows = await sql.query<{
    joinEventId: EventId;
    userId: UserId;
    verdict: 'accepted' | 'rejected';
    rule: string | null;
    reason: string | null;
  }>(
    `SELECT told.join_event_id AS "joinEventId", told.user_id AS "userId", e.verdict, e.rule, e.reason
       FROM (SELECT DISTINCT ON (data ->> 'joinEventId')
                    data ->> 'joinEventId' AS join_event_id, data ->> 'userId' AS user_id, type, position
               FROM journal
              WHERE room_id = $1 AND epoch = $2
                AND type IN (${JOINED}, 'JoinRejected', 'JoinRestored')
              ORDER BY data ->> 'joinEventId', position DESC) AS told
       JOIN event_states e ON e.event_id = told.join_event_id AND e.room_id = $1
      WHERE (e.verdict = 'rejected') <> (told.type = 'JoinRejected')
      ORDER BY told.position`,
    [roomId, epoch],
  );
  return rows.map(({ joinEventId, userId, verdict, rule, reason }) => ({
    ...{ joinEventId, userId },
    refusal: verdict === 'accepted' ? null : { rule: rule ?? '', reason: reason ?? '' },
  }));
}

/** Whether a user of ours has joined the room in one stay. */
export async function hasJoinedIn(sql: Sql, roomId: RoomId, epoch: number, userId: UserId): Promise<boolean> {
  const rows = await sql.query(
    `SELECT FROM journal
      WHERE room_id = $1 AND epoch = $2 AND data ->> 'userId' = $3 AND type IN (${JOINED}) LIMIT 1`,
    [roomId, epoch, userId],
  );
  return rows.length > 0;
}

/**
 * Whether a room that one of us is in bans a user of ours, for all we know. While it is partial a ban counts that came in this stay:
 * one of before may have been taken back when none of us was there.
 */
export async function isKnownBanned(sql: Sql, roomId: RoomId, userId: UserId): Promise<boolean> {
  const rows = await sql.query(
    `SELECT FROM local_members m JOIN rooms r USING (room_id)
      WHERE m.room_id = $1 AND m.user_id = $2 AND m.membership = 'ban'
        AND EXISTS (SELECT FROM local_members o WHERE o.room_id = $1 AND o.membership = 'join')
        AND (NOT r.partial OR EXISTS (
              SELECT FROM journal j
               WHERE j.room_id = $1 AND j.epoch = r.epoch AND j.event_id = m.event_id
                 AND j.type IN ('PduAccepted', 'PduRejected')))`,
    [roomId, userId],
  );
  return rows.length > 0;
}
