/**
 * Every table that holds something of a room, in the order in which a purge deletes from them. What others look a room up by goes first, so
 * that it is unknown from then on; what is written without the room's lock by who works off a row of another table goes after that one; the
 * journal goes last. A test walks the catalogue of the database for tables that are missing here.
 */
import { type RoomId } from '../../matrix/identifiers.ts';
import { type Sql } from '../open-store.ts';

export interface PurgedTable {
  readonly name: string;
  /** Which rows are those of room `$1`, where it is not by a column `room_id` alone. */
  readonly where?: string;
  /** What goes with the rows, by the CTE `gone` of what is deleted. */
  readonly also?: { readonly name: string; readonly of: string; readonly on: string };
}

/** By the index that finds the events of a room (schema/events.ts). */
const OF_ROOM = `hashtext(room_id) = hashtext($1) AND room_id = $1`;

export const PURGED_TABLES: readonly PurgedTable[] = [
  { name: 'rooms' },
  { name: 'resyncs' },
  { name: 'local_members' },
  { name: 'silent_leaves' },
  { name: 'former_members' },
  { name: 'forgotten_rooms' },
  { name: 'directory_rooms' },
  { name: 'directory_members' },
  { name: 'outgoing_rooms' },
  { name: 'outgoing_events' },
  { name: 'outgoing_passing' },
  { name: 'destination_skips' },
  { name: 'destination_rooms' },
  { name: 'staged_pdus' },
  { name: 'staged_rooms' },
  { name: 'join_intents' },
  { name: 'first_invites' },
  { name: 'room_upgrades' },
  { name: 'outside_memberships' },
  { name: 'gaps' },
  { name: 'correction_causes' },
  { name: 'correction_targets' },
  { name: 'missing_events' },
  { name: 'awaited_events' },
  { name: 'left_out' },
  { name: 'anchors' },
  { name: 'forward_extremities' },
  { name: 'history_edges' },
  { name: 'history_events' },
  { name: 'event_edges' },
  { name: 'current_states' },
  { name: 'event_states' },
  { name: 'room_servers' },
  { name: 'fetch_progress' },
  { name: 'fetch_attempts' },
  { name: 'reached_chunks', where: 'pass IN (SELECT pass FROM collections WHERE room_id = $1)' },
  { name: 'collections' },
  { name: 'snapshot_chunks' },
  { name: 'pdus', where: OF_ROOM, also: { name: 'outlier_verdicts', of: 'event_nid', on: 'nid' } },
  { name: 'client_transactions' },
  { name: 'account_data' },
  { name: 'read_receipts' },
  { name: 'receipts' },
  { name: 'room_typing' },
  { name: 'untold_in_partial_rooms' },
  { name: 'cached_devices' },
  { name: 'room_aliases' },
  { name: 'listed_rooms' },
  { name: 'journal' },
];

/** Rows of a room in one table. */
export interface TableRows {
  readonly table: string;
  readonly rows: number;
}

/** How many rows each table has of a room; those that have none are left out. */
export async function countRows(sql: Sql, roomId: RoomId): Promise<TableRows[]> {
  const counted: TableRows[] = [];
  for (const { name, where = 'room_id = $1', also } of PURGED_TABLES) {
    const counts = [[name, `SELECT count(*) AS rows FROM ${name} WHERE ${where}`]];
    if (also !== undefined) {
      const those = `SELECT ${also.on} FROM ${name} WHERE ${where}`;
      counts.push([also.name, `SELECT count(*) AS rows FROM ${also.name} WHERE ${also.of} IN (${those})`]);
    }
    for (const [table = '', count = ''] of counts) {
      const [row] = await sql.query<{ rows: number }>(count, [roomId]);
      if (row !== undefined && row.rows > 0) counted.push({ table, rows: row.rows });
    }
  }
  return counted;
}

/** Deletes some rows of a room, `limit` at the most, and what goes with them; gives how many those are. */
export async function deleteRows(sql: Sql, roomId: RoomId, table: PurgedTable, limit: number): Promise<number> {
  const { name, where = 'room_id = $1', also } = table;
  const gone = `
    DELETE FROM ${name} WHERE ctid = ANY (ARRAY(SELECT ctid FROM ${name} WHERE ${where} LIMIT $2)) RETURNING ${also?.on ?? '1'}`;
  const [deleted] = await sql.query<{ rows: number }>(
    also === undefined
      ? `WITH gone AS (${gone}) SELECT count(*) AS rows FROM gone`
      : `WITH gone AS MATERIALIZED (${gone}), along AS (
           DELETE FROM ${also.name} WHERE ${also.of} = ANY (ARRAY(SELECT ${also.on} FROM gone))
         )
         SELECT count(*) AS rows FROM gone`,
    [roomId, limit],
  );
  return deleted?.rows ?? 0;
}
