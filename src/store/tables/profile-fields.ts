/** What users of ours say of themselves besides their names and avatars: https://spec.matrix.org/v1.16/client-server-api/#profiles */
import { type UserId } from '../../matrix/identifiers.ts';
import { type Json, type JsonObject } from '../../matrix/pdu.ts';
import { type Sql, type Transaction } from '../open-store.ts';

/** All fields of a user. */
export async function readProfileFields(sql: Sql, userId: UserId): Promise<JsonObject> {
  const rows = await sql.query<{ name: string; value: string }>(
    `SELECT name, value::text AS value FROM profile_fields WHERE user_id = $1 ORDER BY name`,
    [userId],
  );
  return Object.fromEntries(rows.map(({ name, value }) => [name, JSON.parse(value) as Json]));
}

/** `value`: JSON. */
export async function upsertProfileField(tx: Transaction, userId: UserId, name: string, value: string): Promise<void> {
  await tx.query(
    `INSERT INTO profile_fields (user_id, name, value) VALUES ($1, $2, $3::json)
     ON CONFLICT (user_id, name) DO UPDATE SET value = excluded.value`,
    [userId, name, value],
  );
}

/** One field, or all of a user where no name is given. */
export async function deleteProfileFields(sql: Sql, userId: UserId, name: string | null = null): Promise<void> {
  await sql.query(`DELETE FROM profile_fields WHERE user_id = $1 AND ($2::text IS NULL OR name = $2)`, [userId, name]);
}
