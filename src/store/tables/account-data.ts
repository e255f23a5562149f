/** What clients keep for themselves, of their user or of a room for him. Each has the position since when it is so. */
import { type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { takePositions } from '../journal/positions.ts';
import { type Sql, type Transaction } from '../open-store.ts';
import { fromStorable, storable } from '../storable-text.ts';

export interface AccountDataRow {
  /** Null: of no room. */
  readonly roomId: RoomId | null;
  readonly type: string;
  readonly content: JsonObject;
  readonly position: number;
}

interface Row extends Omit<AccountDataRow, 'roomId'> {
  readonly roomId: RoomId | '';
}

const COLUMNS = `room_id AS "roomId", type, content, position`;

function rowOf(row: Row): AccountDataRow {
  return { ...row, roomId: row.roomId === '' ? null : row.roomId, type: fromStorable(row.type) };
}

/** Writes it, whatever was there, as the last statement of the transaction; its user is told. `content`: JSON. */
export function upsertAccountData(
  tx: Transaction,
  userId: UserId,
  { roomId, type, content }: Pick<AccountDataRow, 'roomId' | 'type'> & { readonly content: string },
): void {
  takePositions(tx, {
    name: 'upsert_account_data',
    text: `INSERT INTO account_data (user_id, room_id, type, content, position)
           SELECT $3, $4, $5, $6::json, head.base + 1 FROM head
           ON CONFLICT (user_id, room_id, type) DO UPDATE
              SET (content, position) = (excluded.content, excluded.position)`,
    values: [userId, roomId ?? '', storable(type), content],
    count: 1,
    topics: [userId],
  });
}

/** How much a user has besides what is kept under a type. */
export async function countOtherAccountData(
  sql: Sql,
  userId: UserId,
  roomId: RoomId | null,
  type: string,
): Promise<{ readonly rows: number; readonly bytes: number }> {
  const [row] = await sql.query<{ rows: number; bytes: number }>(
    `SELECT count(*) AS rows, coalesce(sum(octet_length(content::text)), 0)::bigint AS bytes FROM account_data
      WHERE user_id = $1 AND NOT (room_id = $2 AND type = $3)`,
    [userId, roomId ?? '', storable(type)],
  );
  return row ?? { rows: 0, bytes: 0 };
}

/** What is kept under a type; `undefined`: nothing. */
export async function readAccountData(
  sql: Sql,
  userId: UserId,
  roomId: RoomId | null,
  type: string,
): Promise<JsonObject | undefined> {
  const [row] = await sql.query<{ content: JsonObject }>(
    `SELECT content FROM account_data WHERE user_id = $1 AND room_id = $2 AND type = $3`,
    [userId, roomId ?? '', storable(type)],
  );
  return row?.content;
}

/** All that a user keeps of one room. */
export async function readRoomAccountData(sql: Sql, userId: UserId, roomId: RoomId): Promise<AccountDataRow[]> {
  const rows = await sql.query<Row>(
    `SELECT ${COLUMNS} FROM account_data WHERE user_id = $1 AND room_id = $2 ORDER BY position`,
    [userId, roomId],
  );
  return rows.map(rowOf);
}

/** All of a user that is so since a position after `since` and up to `upTo`, the oldest first. */
export async function readAccountDataBetween(
  sql: Sql,
  userId: UserId,
  { since, upTo }: { readonly since: number; readonly upTo: number },
): Promise<AccountDataRow[]> {
  const rows = await sql.query<Row>(
    `SELECT ${COLUMNS} FROM account_data WHERE user_id = $1 AND position > $2 AND position <= $3 ORDER BY position`,
    [userId, since, upTo],
  );
  return rows.map(rowOf);
}
