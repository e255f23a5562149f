/** Aliases of this server: https://spec.matrix.org/v1.16/client-server-api/#room-aliases */
import { type RoomAlias, type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type Sql, type Transaction } from '../open-store.ts';
import { fromStorable, storable } from '../storable-text.ts';

/** Told of one room. */
const ALIASES_MAX = 1_000;

export interface NewAlias {
  readonly alias: RoomAlias;
  readonly roomId: RoomId;
  readonly creator: UserId;
  /** Milliseconds since the Unix epoch. */
  readonly createdAt: number;
}

/** Gives an alias to a room; whether nobody had it. */
export async function insertAlias(tx: Transaction, { alias, roomId, creator, createdAt }: NewAlias): Promise<boolean> {
  const rows = await tx.query(
    `INSERT INTO room_aliases (alias, room_id, creator, created_at) VALUES ($1, $2, $3, $4)
     ON CONFLICT DO NOTHING RETURNING 1`,
    [storable(alias), roomId, creator, createdAt],
  );
  return rows.length > 0;
}

/** The room that an alias of ours means; `undefined`: none. */
export async function readAlias(sql: Sql, alias: RoomAlias): Promise<RoomId | undefined> {
  const [row] = await sql.query<{ roomId: RoomId }>(`SELECT room_id AS "roomId" FROM room_aliases WHERE alias = $1`, [
    storable(alias),
  ]);
  return row?.roomId;
}

/** An alias of ours, and who made it. */
export async function readOwnAlias(
  sql: Sql,
  alias: RoomAlias,
): Promise<Pick<NewAlias, 'roomId' | 'creator'> | undefined> {
  const [row] = await sql.query<Pick<NewAlias, 'roomId' | 'creator'>>(
    `SELECT room_id AS "roomId", creator FROM room_aliases WHERE alias = $1`,
    [storable(alias)],
  );
  return row;
}

/** Aliases of ours that a room has, at most `ALIASES_MAX`, in their order. */
export async function readAliases(sql: Sql, roomId: RoomId): Promise<RoomAlias[]> {
  const rows = await sql.query<{ alias: string }>(
    `SELECT alias FROM room_aliases WHERE room_id = $1 ORDER BY alias LIMIT $2`,
    [roomId, ALIASES_MAX],
  );
  return rows.map(({ alias }) => fromStorable(alias) as RoomAlias);
}

/** All aliases of ours that mean one room mean another from then on. */
export async function moveAliases(sql: Sql, from: RoomId, to: RoomId): Promise<void> {
  await sql.query(`UPDATE room_aliases SET room_id = $2 WHERE room_id = $1`, [from, to]);
}

/** Takes an alias from its room; it means nothing then. */
export async function deleteAlias(sql: Sql, alias: RoomAlias): Promise<void> {
  await sql.query(`DELETE FROM room_aliases WHERE alias = $1`, [storable(alias)]);
}
