/** Rooms as administrators list them. */
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type Sql } from '../open-store.ts';
import { fromStorable, storable } from '../storable-text.ts';

export interface ListedByAdmin {
  readonly roomId: RoomId;
  readonly version: string;
  readonly state: SnapshotId | null;
  readonly name: string | null;
  readonly canonicalAlias: string | null;
  /** Joined, as far as they are known; `null`: nobody has counted them. */
  readonly members: number | null;
  /** Of this server. */
  readonly localMembers: number;
  readonly joinEventId: EventId | null;
  readonly isListed: boolean;
}

export interface RoomListQuery {
  readonly offset: number;
  readonly limit: number;
  readonly order: 'name' | 'members' | 'version';
  readonly isBackwards: boolean;
  /** In its name or canonical alias, or its whole id; `null`: all. */
  readonly search: string | null;
}

const ORDERS = { name: 'r.name', members: 'r.members', version: 'r.room_version' } as const;
const FOUND = `
  FROM rooms r
 WHERE r.epoch > 0 AND ($1::text IS NULL OR r.room_id = $1 OR strpos(lower(r.name), lower($1)) > 0
                        OR strpos(lower(r.canonical_alias), lower($1)) > 0)`;

/** Joined, as far as they are known; `null`: nobody has counted them. */
export async function readMemberCount(sql: Sql, roomId: RoomId): Promise<number | null> {
  const [row] = await sql.query<{ members: number | null }>(`SELECT members FROM rooms WHERE room_id = $1`, [roomId]);
  return row?.members ?? null;
}

/** One page, and how many there are in all. */
export async function readRoomList(
  sql: Sql,
  { offset, limit, order, isBackwards, search }: RoomListQuery,
): Promise<{ readonly rooms: readonly ListedByAdmin[]; readonly total: number }> {
  const wanted = search === null ? null : storable(search);
  const rows = await sql.query<ListedByAdmin>(
    `SELECT r.room_id AS "roomId", r.room_version AS version, encode(r.current_state, 'hex') AS state, r.name,
            r.canonical_alias AS "canonicalAlias", r.members, r.join_event_id AS "joinEventId",
            (SELECT count(*) FROM local_members m WHERE m.room_id = r.room_id AND m.membership = 'join') AS "localMembers",
            EXISTS (SELECT FROM listed_rooms l WHERE l.room_id = r.room_id) AS "isListed"
       ${FOUND} ORDER BY ${ORDERS[order]} ${isBackwards ? 'DESC NULLS LAST' : 'ASC NULLS LAST'}, r.room_id OFFSET $2 LIMIT $3`,
    [wanted, offset, limit],
  );
  const [count] = await sql.query<{ rooms: number }>(`SELECT count(*) AS rooms ${FOUND}`, [wanted]);
  const rooms = rows.map((row) => ({
    ...row,
    name: row.name && fromStorable(row.name),
    canonicalAlias: row.canonicalAlias && fromStorable(row.canonicalAlias),
  }));
  return { rooms, total: count?.rooms ?? 0 };
}
