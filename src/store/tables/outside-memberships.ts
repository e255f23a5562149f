/**
 * Invites and knocks of users of this server in rooms whose state does not say them: nobody of this server is in, or the room is partial.
 * Where somebody of ours is in the room and its state says what the user is, the state counts.
 */
import { type EventId, type RoomId, type ServerName, type UserId } from '../../matrix/identifiers.ts';
import { parseJsonObject } from '../../matrix/json/strict-json.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { invariant } from '../../invariant.ts';
import { type PositionedWrite, takePositions } from '../journal/positions.ts';
import { type Sql } from '../open-store.ts';
import { NOW_MS, textArray } from '../sql-values.ts';
import { deleteOlder } from './delete-older.ts';

export interface OutsideMembership {
  readonly roomId: RoomId;
  readonly userId: UserId;
  /** `leave`: the invite was declined or withdrawn, the knock taken back or refused. */
  readonly membership: 'invite' | 'knock' | 'leave';
  readonly eventId: EventId;
  readonly roomVersion: string;
  /** Whoever invited him, or himself. */
  readonly sender: UserId;
  /** To be asked about the room. */
  readonly server: ServerName;
}

/** How many invites a user has that are not over, from all servers and from one. */
export interface OpenInvites {
  readonly inAll: number;
  readonly ofServer: number;
}

/** With what he is told. */
export interface ToldMembership extends OutsideMembership {
  /** The membership's event. */
  readonly event: JsonObject;
  /** Stripped state events; empty where those of others take all the room there is. */
  readonly stripped: readonly JsonObject[];
}

const COLUMNS = `o.room_id AS "roomId", o.user_id AS "userId", o.membership, o.event_id AS "eventId",
                 o.room_version AS "roomVersion", o.sender, o.server`;

/** The room's state does not say what he is. */
const COUNTS = `NOT (EXISTS (SELECT FROM local_members l WHERE l.room_id = o.room_id AND l.user_id = o.user_id)
                     AND EXISTS (SELECT FROM local_members j WHERE j.room_id = o.room_id AND j.membership = 'join'))`;

/**
 * Writes it; its user is told. `event`, `stripped`: JSON.
 *
 * @param over what may be there, and is replaced; nothing is written over anything else. Absent: whatever is there
 */
export async function upsertOutside(
  sql: Sql,
  row: OutsideMembership,
  event: string,
  stripped: string,
  over?: EventId,
): Promise<void> {
  await writeWithPosition(sql, {
    name: 'upsert_outside_membership',
    text: `INSERT INTO outside_memberships
                  (room_id, user_id, membership, position, event_id, room_version, sender, server, event, stripped, ended_at)
           SELECT $3, $4, $5, head.base + 1, $6, $7, $8, $9, $10::json, $11::json, CASE WHEN $5 = 'leave' THEN ${NOW_MS} END
             FROM head
           ON CONFLICT (room_id, user_id) DO UPDATE
              SET (membership, position, event_id, room_version, sender, server, event, stripped, ended_at) =
                  (excluded.membership, excluded.position, excluded.event_id, excluded.room_version, excluded.sender, excluded.server,
                   excluded.event, excluded.stripped, excluded.ended_at)
            WHERE $12::text IS NULL OR outside_memberships.event_id = $12`,
    values: [
      ...[row.roomId, row.userId, row.membership, row.eventId, row.roomVersion, row.sender, row.server],
      ...[event, stripped, over ?? null],
    ],
    count: 1,
    topics: [row.userId],
  });
}

/** It is over, if it still is what `eventId` made it; its user is told. Of what it was no more is kept than that. */
export async function endOutside(
  sql: Sql,
  { roomId, userId, eventId }: Pick<OutsideMembership, 'roomId' | 'userId' | 'eventId'>,
): Promise<void> {
  await writeWithPosition(sql, {
    name: 'end_outside_membership',
    text: `UPDATE outside_memberships SET membership = 'leave', position = head.base + 1, event = '{}', stripped = '[]',
                   ended_at = ${NOW_MS} FROM head
            WHERE room_id = $3 AND user_id = $4 AND event_id = $5`,
    values: [roomId, userId, eventId],
    count: 1,
    topics: [userId],
  });
}

/** Deletes rows of what was over before a time, at most `limit`; gives how many. */
export function forgetEndedOutside(sql: Sql, before: number, limit: number): Promise<number> {
  return deleteOlder(sql, { table: 'outside_memberships', time: 'ended_at' }, before, limit);
}

function writeWithPosition(sql: Sql, write: PositionedWrite): Promise<void> {
  return sql.inTransaction((tx) => {
    takePositions(tx, write);
    return Promise.resolve();
  });
}

/** What there is of a user and counts, over or not; of what is over the event is empty. */
export async function readOutside(
  sql: Sql,
  roomId: RoomId,
  userId: UserId,
): Promise<(OutsideMembership & { readonly event: JsonObject }) | undefined> {
  const [row] = await sql.query<OutsideMembership & { json: string }>(
    `SELECT ${COLUMNS}, o.event::text AS json FROM outside_memberships o
      WHERE o.room_id = $1 AND o.user_id = $2 AND ${COUNTS}`,
    [roomId, userId],
  );
  if (row === undefined) return undefined;
  const { json, ...outside } = row;
  return { ...outside, event: readEvent(json) };
}

/** Invites and knocks in some rooms, of all users. */
export async function readOpenOutside(sql: Sql, roomIds: readonly RoomId[]): Promise<OutsideMembership[]> {
  if (roomIds.length === 0) return [];
  return sql.query(
    `SELECT ${COLUMNS} FROM outside_memberships o WHERE o.room_id = ANY ($1::text[]) AND o.membership <> 'leave'`,
    [textArray(roomIds)],
  );
}

/** Invites of a user as they are bounded. @param server whose share is asked for */
export async function countInvites(sql: Sql, userId: UserId, server: ServerName): Promise<OpenInvites> {
  const [row] = await sql.query<OpenInvites>(
    `SELECT count(*) AS "inAll", count(*) FILTER (WHERE server = $2) AS "ofServer"
       FROM outside_memberships WHERE user_id = $1 AND membership = 'invite'`,
    [userId, server],
  );
  return row ?? { inAll: 0, ofServer: 0 };
}

interface OutsideSpan {
  readonly since: number;
  readonly upTo: number;
  /** Events and what is told besides; of those beyond, the oldest, the membership alone is given. */
  readonly bytesMax: number;
  /** What is over, too. */
  readonly withEnded: boolean;
}

/** All of a user that are so since a position after `since`, up to `upTo`, and count. */
export async function readOutsideBetween(
  sql: Sql,
  userId: UserId,
  { since, upTo, bytesMax, withEnded }: OutsideSpan,
): Promise<ToldMembership[]> {
  const rows = await sql.query<OutsideMembership & { json: string; stripped: JsonObject[] }>(
    `SELECT ${COLUMNS}, CASE WHEN o.is_told THEN o.stripped ELSE '[]' END AS stripped,
            CASE WHEN o.is_told THEN o.event::text
                 ELSE json_build_object('type', 'm.room.member', 'state_key', o.user_id, 'sender', o.sender,
                                        'content', json_build_object('membership', o.membership))::text END AS json
       FROM (SELECT o.*, sum(octet_length(o.stripped::text) + octet_length(o.event::text)) OVER (ORDER BY o.position DESC) <= $4 AS is_told
               FROM outside_memberships o
              WHERE o.user_id = $1 AND o.position > $2 AND o.position <= $3 AND ($5 OR o.membership <> 'leave') AND ${COUNTS}) AS o
      ORDER BY o.position`,
    [userId, since, upTo, bytesMax, withEnded],
  );
  return rows.map(({ json, ...row }) => ({ ...row, event: readEvent(json) }));
}

/** The room's state says what these users are from now on. */
export async function deleteOutside(sql: Sql, roomId: RoomId, userIds: readonly UserId[]): Promise<void> {
  await sql.query(`DELETE FROM outside_memberships WHERE room_id = $1 AND user_id = ANY ($2::text[])`, [
    roomId,
    textArray(userIds),
  ]);
}

function readEvent(json: string): JsonObject {
  const read = parseJsonObject(json);
  invariant(read.ok, 'what is stored is JSON');
  return read.value;
}
