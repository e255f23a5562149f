/** How a room stands to one of our users who wants to read it. */
import { type EventId, type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type Sql } from '../open-store.ts';
import { textArray } from '../sql-values.ts';

export interface RoomView {
  /** 0: no stay was ever opened. */
  readonly epoch: number;
  readonly currentState: SnapshotId | null;
  /** Of the user, in the current state; `null`: none. */
  readonly membership: string | null;
  readonly membershipEventId: EventId | null;
  /** By which he was last joined no more, in this stay or an earlier one. */
  readonly leftBy: EventId | null;
  /** Whether any user of ours is joined. */
  readonly isAnybodyIn: boolean;
}

/** A user of ours who wants to read a room. */
export interface WantsToRead {
  readonly roomId: RoomId;
  readonly userId: UserId;
}

/** One look for all of them, in their order; `undefined`: the room is not known here. */
export async function readRoomViews(sql: Sql, asked: readonly WantsToRead[]): Promise<(RoomView | undefined)[]> {
  const rows = await sql.query<RoomView & { readonly nth: number }>(
    `SELECT a.nth, r.epoch, encode(r.current_state, 'hex') AS "currentState", m.membership,
            m.event_id AS "membershipEventId", f.left_by AS "leftBy",
            EXISTS (SELECT FROM local_members o WHERE o.room_id = r.room_id AND o.membership = 'join') AS "isAnybodyIn"
       FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS a(room_id, user_id, nth)
       JOIN rooms r ON r.room_id = a.room_id
       LEFT JOIN local_members m ON m.room_id = r.room_id AND m.user_id = a.user_id
       LEFT JOIN former_members f ON f.room_id = r.room_id AND f.user_id = a.user_id`,
    [textArray(asked.map(({ roomId }) => roomId)), textArray(asked.map(({ userId }) => userId))],
  );
  const views: (RoomView | undefined)[] = asked.map(() => undefined);
  for (const { nth, ...view } of rows) views[nth - 1] = view;
  return views;
}

/** An event that is held in a room, and what was judged of it. */
export interface HeldEvent {
  readonly json: string;
  readonly type: string;
  /** As `storable` writes it; `null`: no state event. */
  readonly stateKey: string | null;
  /** Rejected and soft-failed ones are shown to nobody; `null`: not judged. */
  readonly isShown: boolean | null;
  /** `null`: it is not in the timeline. */
  readonly position: number | null;
  readonly partial: boolean;
  readonly stateBefore: SnapshotId | null;
  readonly stateAfter: SnapshotId | null;
}

/** One event of the room; `undefined`: it is not held, or of another room. */
export async function readHeldEvent(sql: Sql, roomId: RoomId, eventId: EventId): Promise<HeldEvent | undefined> {
  const [row] = await sql.query<HeldEvent>(
    `SELECT p.json::text AS json, p.type, k.state_key AS "stateKey", e.position, coalesce(e.partial, false) AS partial,
            encode(e.state_before, 'hex') AS "stateBefore", encode(e.state_after, 'hex') AS "stateAfter",
            coalesce(e.verdict = 'accepted' AND NOT e.soft_failed, o.verdict = 'accepted') AS "isShown"
       FROM pdus p
       LEFT JOIN state_keys k ON k.nid = p.state_key_nid
       LEFT JOIN event_states e ON e.event_nid = p.nid
       LEFT JOIN outlier_verdicts o ON o.event_nid = p.nid
      WHERE p.event_id = $2 AND p.room_id = $1`,
    [roomId, eventId],
  );
  return row;
}

/**
 * The current state at a position; where the room was partial then, the one that it was made whole with. `undefined`: it is not
 * whole yet, or nothing is known of the room at all.
 */
export async function readWholeStateAt(sql: Sql, roomId: RoomId, position: number): Promise<SnapshotId | undefined> {
  const [row] = await sql.query<{ state: SnapshotId }>(
    `SELECT encode(state, 'hex') AS state FROM current_states
      WHERE room_id = $1 AND NOT partial
        AND position >= coalesce((SELECT max(position) FROM current_states WHERE room_id = $1 AND position <= $2), 0)
      ORDER BY position LIMIT 1`,
    [roomId, position],
  );
  return row?.state;
}
