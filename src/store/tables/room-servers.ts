/** Servers believed to be in a room: `servers_in_room` of whoever let us in, whole, and everybody who turned up since. */
import { type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type Sql } from '../open-store.ts';
import { type roomServers } from '../schema/folds.ts';
import { NOW_MS } from '../sql-values.ts';

export type ServerSource = (typeof roomServers.$inferSelect)['source'];

/** The better source of two, first. */
const BEST_FIRST: readonly ServerSource[] = ['answered', 'via', 'spoke', 'hint'];

/** Adds servers to a room; of a known one the better source counts. `at`: milliseconds since the Unix epoch. */
export async function learnServers(
  sql: Sql,
  roomId: RoomId,
  servers: readonly ServerName[],
  source: ServerSource,
  at: number,
): Promise<void> {
  const others = [...new Set(servers)].filter((server) => server !== sql.serverName).sort();
  if (others.length === 0) return;
  await sql.query(
    `INSERT INTO room_servers AS s (room_id, server_name, source, since)
     SELECT $1, name, $3, $4::bigint FROM unnest($2::text[]) AS i(name)
     ON CONFLICT (room_id, server_name) DO UPDATE SET source = excluded.source
      WHERE array_position($5::text[], s.source) > array_position($5::text[], excluded.source)`,
    [roomId, others, source, at, BEST_FIRST],
  );
}

/** Servers that speak in the room, since `at`; absent: since now, by the database's clock. Gives the time, milliseconds. */
export async function learnSpeakingServers(
  sql: Sql,
  roomId: RoomId,
  servers: readonly ServerName[],
  at?: number,
): Promise<number> {
  const [row] = await sql.query<{ at: number }>(
    `WITH now AS (
       SELECT coalesce($3, ${NOW_MS}) AS at
     ), learned AS (
       INSERT INTO room_servers AS s (room_id, server_name, source, since)
       SELECT $1, name, 'spoke', now.at FROM now, unnest($2::text[]) AS i(name)
       ON CONFLICT (room_id, server_name) DO UPDATE SET source = excluded.source WHERE s.source = 'hint'
     )
     SELECT at FROM now`,
    [roomId, [...servers].sort(), at ?? null],
  );
  return row?.at ?? 0;
}

/** Every server believed to be in the room, those of the best source first, in the order of their names. */
export async function readRoomServers(
  sql: Sql,
  roomId: RoomId,
): Promise<{ readonly serverName: ServerName; readonly source: ServerSource }[]> {
  return sql.query(
    `SELECT server_name AS "serverName", source FROM room_servers WHERE room_id = $1
      ORDER BY array_position($2::text[], source), server_name`,
    [roomId, BEST_FIRST],
  );
}

/** Whether others than these are believed to be in the room, ourselves apart. */
export async function hasOtherServers(sql: Sql, roomId: RoomId, servers: readonly ServerName[]): Promise<boolean> {
  const rows = await sql.query(
    `SELECT FROM room_servers WHERE room_id = $1 AND server_name <> ALL ($2::text[]) LIMIT 1`,
    [roomId, servers],
  );
  return rows.length > 0;
}

/** How many servers are believed to be in the room. */
export async function countRoomServers(sql: Sql, roomId: RoomId): Promise<number> {
  const [row] = await sql.query<{ servers: number }>(
    `SELECT count(*) AS servers FROM room_servers WHERE room_id = $1`,
    [roomId],
  );
  return row?.servers ?? 0;
}

/**
 * Up to `limit` servers said to be in the room that are not among `known`: those with the fewest failures in a row first,
 * and chosen anew each time by `seed`, so that a long list is asked through in time.
 */
export async function pickHints(
  sql: Sql,
  roomId: RoomId,
  known: readonly ServerName[],
  seed: number,
  limit: number,
): Promise<ServerName[]> {
  const rows = await sql.query<{ serverName: ServerName }>(
    `SELECT s.server_name AS "serverName"
       FROM room_servers s LEFT JOIN destinations d ON d.server_name = s.server_name AND d.recovered_at IS NULL
      WHERE s.room_id = $1 AND NOT s.server_name = ANY ($2::text[])
      ORDER BY coalesce(d.failures, 0), md5(s.server_name || $3) LIMIT $4`,
    [roomId, known, String(seed), limit],
  );
  return rows.map(({ serverName }) => serverName);
}

/** Whether a server is believed to be in the room, whoever said so. */
export async function isBelievedIn(sql: Sql, roomId: RoomId, server: ServerName): Promise<boolean> {
  return (await readBelievedIn(sql, roomId, [server])).has(server);
}

/** Which of the servers are. */
export async function readBelievedIn(
  sql: Sql,
  roomId: RoomId,
  servers: readonly ServerName[],
): Promise<ReadonlySet<ServerName>> {
  const rows = await sql.query<{ name: ServerName }>(
    `SELECT DISTINCT server_name AS name FROM room_servers WHERE room_id = $1 AND server_name = ANY ($2::text[])`,
    [roomId, servers],
  );
  return new Set(rows.map(({ name }) => name));
}

/** A room of ours that a server is believed to be in. */
export interface SharedRoom {
  readonly serverName: ServerName;
  readonly roomId: RoomId;
  readonly currentState: SnapshotId | null;
  readonly partial: boolean;
}

/** Rooms that somebody of ours is in and each of the servers is believed to be in, up to `limit` for each. */
export function readSharedRooms(sql: Sql, serverNames: readonly ServerName[], limit: number): Promise<SharedRoom[]> {
  return sql.query(
    `SELECT i.name AS "serverName", shared.*
       FROM unnest($1::text[]) AS i(name) CROSS JOIN LATERAL (
         SELECT r.room_id AS "roomId", encode(r.current_state, 'hex') AS "currentState", r.partial
           FROM room_servers s JOIN rooms r ON r.room_id = s.room_id
          WHERE s.server_name = i.name
            AND EXISTS (SELECT FROM local_members m WHERE m.room_id = s.room_id AND m.membership = 'join')
          LIMIT $2) AS shared`,
    [serverNames, limit],
  );
}

/** Rooms that somebody of ours is in, those first that a server is believed to be in, up to `limit`. */
export function readOurRooms(
  sql: Sql,
  serverName: ServerName,
  limit: number,
): Promise<Pick<SharedRoom, 'roomId' | 'currentState'>[]> {
  return sql.query(
    `SELECT r.room_id AS "roomId", encode(r.current_state, 'hex') AS "currentState" FROM rooms r
      WHERE EXISTS (SELECT FROM local_members m WHERE m.room_id = r.room_id AND m.membership = 'join')
      ORDER BY EXISTS (SELECT FROM room_servers s WHERE s.room_id = r.room_id AND s.server_name = $1) DESC LIMIT $2`,
    [serverName, limit],
  );
}
