/** Aliases of this server: https://spec.matrix.org/v1.16/client-server-api/#room-aliases */
import { type RoomAlias, type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type Sql, type Transaction } from '../open-store.ts';
import { storable } from '../storable-text.ts';

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
