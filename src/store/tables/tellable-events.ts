/**
 * What application services may be told: events as clients see them, by the positions from which on they are shown, and invites from rooms
 * that nobody of us is in.
 */
import { type EventId, type RoomAlias, type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type ShownPdu } from '../journal/seen-by-clients.ts';
import { type Sql } from '../open-store.ts';
import { trieKey } from '../snapshots/snapshot-trie.ts';
import { int8Array, textArray } from '../sql-values.ts';
import { fromStorable } from '../storable-text.ts';

/** Something that a service may be told of. */
export interface TellableEvent {
  /** From here on it is shown. */
  readonly position: number;
  readonly roomId: RoomId;
  readonly sender: UserId;
  readonly type: string;
  /** `null`: no state event. */
  readonly stateKey: string | null;
  /** `null`: an invite or a knock, of a room that nobody of us is in. */
  readonly stateBefore: SnapshotId | null;
  readonly bytes: number;
}

export interface TellablePage {
  readonly events: readonly TellableEvent[];
  /** There is nothing else up to here. */
  readonly upTo: number;
}

/** What came after a position: at most `limit` entries of the journal are looked at, and as many invites. */
export async function readTellable(sql: Sql, after: number, limit: number): Promise<TellablePage> {
  const rows = await sql.query<Omit<TellableEvent, 'type'> & { type: string | null; upTo: number }>(
    `WITH head AS (SELECT position FROM journal_head),
          page AS (SELECT position, room_id, event_id FROM journal WHERE position > $1 ORDER BY position LIMIT $2),
          outside AS (SELECT position, room_id, user_id, sender, octet_length(event::text) + octet_length(stripped::text) AS bytes
                        FROM outside_memberships WHERE membership <> 'leave' AND position > $1 ORDER BY position LIMIT $2),
          bound AS (SELECT least(head.position,
                                 (SELECT max(position) FROM page HAVING count(*) = $2),
                                 (SELECT max(position) FROM outside HAVING count(*) = $2)) AS up_to FROM head)
     SELECT bound.up_to AS "upTo", t.* FROM bound LEFT JOIN (
       SELECT page.position, page.room_id AS "roomId", p.sender, p.type, k.state_key AS "stateKey",
              encode(e.state_before, 'hex') AS "stateBefore", octet_length(p.json::text) AS bytes
         FROM page JOIN event_states e ON e.event_id = page.event_id AND e.room_id = page.room_id AND e.shown_at = page.position
         JOIN pdus p ON p.nid = e.event_nid LEFT JOIN state_keys k ON k.nid = p.state_key_nid
       UNION ALL
       SELECT position, room_id, sender, 'm.room.member', user_id, NULL, bytes FROM outside
     ) AS t ON t.position <= bound.up_to ORDER BY t.position`,
    [after, limit],
  );
  const events = rows.flatMap(({ type, stateKey, position, roomId, sender, stateBefore, bytes }) => {
    if (type === null) return [];
    const place = { type: fromStorable(type), stateKey: stateKey === null ? null : fromStorable(stateKey) };
    return [{ position, roomId, sender, stateBefore, bytes, ...place }];
  });
  return { events, upTo: Math.max(after, rows[0]?.upTo ?? after) };
}

/** A user of ours in a room, now or once. */
export interface KnownMember {
  readonly roomId: RoomId;
  readonly userId: UserId;
  readonly isJoined: boolean;
  /** From when on it is so; `null`: not known. */
  readonly since: number | null;
  /** He has left silently, from this position on; `null`: he has not. */
  readonly silentSince: number | null;
}

/**
 * Users of ours whose ids begin as one of `beginnings`. With a `limit` so many of each room at the most, any of those who are in it now;
 * else all who are or were.
 */
export async function readKnownMembers(
  sql: Sql,
  roomIds: readonly RoomId[],
  { beginnings, limit }: { readonly beginnings: readonly string[]; readonly limit?: number | undefined },
): Promise<KnownMember[]> {
  if (roomIds.length === 0) return [];
  return sql.query(
    `SELECT r.room_id AS "roomId", m.user_id AS "userId", coalesce(m.membership = 'join', false) AS "isJoined",
            e.shown_at AS since, s.left_at AS "silentSince"
       FROM unnest($1::text[]) AS r(room_id) CROSS JOIN LATERAL (
              SELECT * FROM (
                SELECT l.user_id, l.membership, l.event_id FROM local_members l
                 WHERE l.room_id = r.room_id AND l.user_id LIKE ANY ($2::text[]) AND ($3::int IS NULL OR l.membership = 'join')
                UNION ALL
                SELECT f.user_id, NULL, NULL FROM former_members f
                 WHERE f.room_id = r.room_id AND f.user_id LIKE ANY ($2::text[]) AND $3::int IS NULL
                   AND NOT EXISTS (SELECT FROM local_members l WHERE l.room_id = f.room_id AND l.user_id = f.user_id)) AS u
               LIMIT $3) AS m
       LEFT JOIN event_states e ON e.event_id = m.event_id AND e.room_id = r.room_id
       LEFT JOIN silent_leaves s ON s.room_id = r.room_id AND s.user_id = m.user_id AND s.settled_at IS NULL`,
    [textArray(roomIds), textArray(beginnings.map((one) => `${one.replaceAll(/[\\%_]/g, '\\$&')}%`)), limit ?? null],
  );
}

/** Our aliases of rooms. */
export async function readAliasesOfRooms(
  sql: Sql,
  roomIds: readonly RoomId[],
): Promise<{ readonly roomId: RoomId; readonly alias: RoomAlias }[]> {
  if (roomIds.length === 0) return [];
  return sql.query(`SELECT room_id AS "roomId", alias FROM room_aliases WHERE room_id = ANY ($1::text[])`, [
    textArray(roomIds),
  ]);
}

/** An invite or a knock as it is told. */
export interface ToldOutside {
  readonly position: number;
  readonly roomId: RoomId;
  readonly eventId: EventId;
  readonly json: string;
  readonly membership: 'invite' | 'knock';
  /** Of the room, as whoever is invited or knocks is told it. */
  readonly stripped: readonly JsonObject[];
}

/** What a transaction holds; what is gone since (a purged room's, an invite that is over) is absent. */
export async function readToldBodies(
  sql: Sql,
  positions: readonly number[],
): Promise<{ readonly events: readonly ShownPdu[]; readonly outside: readonly ToldOutside[] }> {
  const rows = await sql.query<Omit<ShownPdu, 'key'> & { stateKeyNid: number | null; isMember: boolean }>(
    `SELECT j.position AS "shownAt", e.room_id AS "roomId", e.event_id AS "eventId", e.event_nid AS nid,
            encode(e.state_before, 'hex') AS "stateBefore", encode(e.state_after, 'hex') AS "stateAfter", p.sender,
            p.state_key_nid AS "stateKeyNid", p.type = 'm.room.member' AS "isMember", p.auth_events AS "authEvents", p.depth,
            p.json::text AS json
       FROM journal j JOIN event_states e ON e.event_id = j.event_id AND e.room_id = j.room_id
       JOIN pdus p ON p.nid = e.event_nid
      WHERE j.position = ANY ($1::bigint[]) ORDER BY j.position`,
    [int8Array(positions)],
  );
  const outside = await sql.query<ToldOutside>(
    `SELECT position, room_id AS "roomId", event_id AS "eventId", event::text AS json, membership, stripped
       FROM outside_memberships WHERE position = ANY ($1::bigint[]) AND membership <> 'leave'`,
    [int8Array(positions)],
  );
  const events = rows.map(({ stateKeyNid, isMember, ...row }) => {
    return { ...row, key: stateKeyNid === null ? null : trieKey(stateKeyNid, isMember) };
  });
  return { events, outside };
}

/** The events of a transaction by their names; those that are gone since are absent. */
export function readToldIds(
  sql: Sql,
  positions: readonly number[],
): Promise<{ readonly eventId: EventId; readonly roomId: RoomId }[]> {
  return sql.query(
    `SELECT t."eventId", t."roomId" FROM (
       SELECT position, event_id AS "eventId", room_id AS "roomId" FROM journal WHERE position = ANY ($1::bigint[]) AND event_id IS NOT NULL
       UNION ALL SELECT position, event_id, room_id FROM outside_memberships WHERE position = ANY ($1::bigint[])) AS t ORDER BY t.position`,
    [int8Array(positions)],
  );
}
