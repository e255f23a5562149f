/** How a room stands to one of our users who wants to read it. */
import { type EventId, type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type Sql } from '../open-store.ts';
import { int8Array, textArray } from '../sql-values.ts';
import { isForgotten } from '../tables/forgotten-rooms.ts';
import { byNumber } from './seen-by-clients.ts';
import { OWN_MEMBERSHIP } from './silent-leaves.ts';

export interface RoomView {
  /** 0: no stay was ever opened. */
  readonly epoch: number;
  readonly currentState: SnapshotId | null;
  /** Of the user, in the current state; `null`: none. */
  readonly membership: string | null;
  readonly membershipEventId: EventId | null;
  /** By which he was last joined no more, in this stay or an earlier one. */
  readonly leftBy: EventId | null;
  /** He was in it once. */
  readonly isFormer: boolean;
  /** He is out, and wants to see no more of it. */
  readonly isForgotten: boolean;
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
    `SELECT a.nth, r.epoch, encode(r.current_state, 'hex') AS "currentState", ${OWN_MEMBERSHIP} AS membership,
            m.event_id AS "membershipEventId", f.left_by AS "leftBy", f.user_id IS NOT NULL AS "isFormer",
            ${isForgotten('a.user_id', 'a.room_id', 'm.event_id', 'f.left_by')} AS "isForgotten",
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

/** An event that is to be one of the room. */
export interface InRoom {
  readonly roomId: RoomId;
  readonly eventId: EventId;
}

/** Events in their order; `undefined`: it is not held, or of another room. */
export async function readHeldEvents(sql: Sql, wanted: readonly InRoom[]): Promise<(HeldEvent | undefined)[]> {
  const rows = await sql.query<HeldEvent & { readonly nth: number }>(
    `SELECT w.nth, p.json::text AS json, p.type, k.state_key AS "stateKey", e.position,
            coalesce(e.partial, false) AS partial,
            encode(e.state_before, 'hex') AS "stateBefore", encode(e.state_after, 'hex') AS "stateAfter",
            coalesce(e.verdict = 'accepted' AND NOT e.soft_failed, o.verdict = 'accepted') AS "isShown"
       FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS w(room_id, event_id, nth)
       JOIN pdus p ON p.event_id = w.event_id AND p.room_id = w.room_id
       LEFT JOIN state_keys k ON k.nid = p.state_key_nid
       LEFT JOIN event_states e ON e.event_nid = p.nid
       LEFT JOIN outlier_verdicts o ON o.event_nid = p.nid`,
    [textArray(wanted.map(({ roomId }) => roomId)), textArray(wanted.map(({ eventId }) => eventId))],
  );
  const held: (HeldEvent | undefined)[] = wanted.map(() => undefined);
  for (const { nth, ...event } of rows) held[nth - 1] = event;
  return held;
}

/** A stored event of a state, and the membership that it says. */
export interface NumberedMember {
  readonly nid: number;
  readonly eventId: EventId;
  readonly membership: string | null;
}

/** Events by number, without their bodies. */
export async function readMembershipsOf(
  sql: Sql,
  nids: Iterable<number>,
): Promise<ReadonlyMap<number, NumberedMember>> {
  const wanted = [...new Set(nids)];
  if (wanted.length === 0) return new Map();
  const rows = await sql.query<NumberedMember>(
    `SELECT nid, event_id AS "eventId", membership FROM pdus WHERE nid = ANY ($1::bigint[])`,
    [int8Array(wanted)],
  );
  return byNumber(rows);
}

/**
 * The current states of rooms at positions, in their order; where a room was partial then, the one that it was made whole with.
 * `undefined`: it is not whole yet, or nothing is known of the room at all.
 */
export async function readWholeStatesAt(
  sql: Sql,
  wanted: readonly { readonly roomId: RoomId; readonly position: number }[],
): Promise<(SnapshotId | undefined)[]> {
  const rows = await sql.query<{ nth: number; state: SnapshotId }>(
    `SELECT w.nth, encode(s.state, 'hex') AS state
       FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS w(room_id, position, nth)
      CROSS JOIN LATERAL (
        SELECT state FROM current_states
         WHERE room_id = w.room_id AND NOT partial
           AND position >= coalesce((SELECT max(c.position) FROM current_states c
                                      WHERE c.room_id = w.room_id AND c.position <= w.position), 0)
         ORDER BY position LIMIT 1) AS s`,
    [textArray(wanted.map(({ roomId }) => roomId)), int8Array(wanted.map(({ position }) => position))],
  );
  const states: (SnapshotId | undefined)[] = wanted.map(() => undefined);
  for (const { nth, state } of rows) states[nth - 1] = state;
  return states;
}
