/** Keys by which users of this server vouch for devices and for one another, and the signatures that they have made. */
import { type UserId } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type Sql, type Transaction } from '../open-store.ts';
import { fromStorable, storable } from '../storable-text.ts';

export type KeyUsage = 'master' | 'self_signing' | 'user_signing';

export interface CrossSigningKey {
  readonly userId: UserId;
  readonly usage: KeyUsage;
  readonly keys: JsonObject;
}

/** Of users, as their clients signed them. */
export async function readCrossSigningKeys(sql: Sql, userIds: readonly UserId[]): Promise<CrossSigningKey[]> {
  if (userIds.length === 0) return [];
  return sql.query<CrossSigningKey>(
    `SELECT user_id AS "userId", usage, keys FROM cross_signing_keys WHERE user_id = ANY ($1::text[])`,
    [userIds],
  );
}

/** Writes keys in the place of those of before; a new master key, `forgets`, is one on which nobody's signature counts. */
export async function upsertCrossSigningKeys(
  tx: Transaction,
  userId: UserId,
  keys: readonly { readonly usage: KeyUsage; readonly json: string }[],
  forgets: boolean,
): Promise<void> {
  if (forgets) await tx.query(`DELETE FROM cross_signing_keys WHERE user_id = $1`, [userId]);
  await tx.query(
    `INSERT INTO cross_signing_keys (user_id, usage, keys)
     SELECT $1, k.usage, k.json::json FROM unnest($2::text[], $3::text[]) AS k(usage, json)
     ON CONFLICT (user_id, usage) DO UPDATE SET keys = excluded.keys`,
    [userId, keys.map(({ usage }) => usage), keys.map(({ json }) => json)],
  );
}

/** A signature on a key that somebody has published. */
export interface KeySignature {
  readonly signerId: UserId;
  /** In the form `algorithm:key id`. */
  readonly signerKey: string;
  readonly targetUserId: UserId;
  /** A device id, or the public key of a cross-signing key. */
  readonly targetKey: string;
  readonly signature: string;
}

/** Adds signatures, and replaces those that are made with the same key. */
export async function upsertKeySignatures(tx: Transaction, signatures: readonly KeySignature[]): Promise<void> {
  await tx.query(
    `INSERT INTO key_signatures (signer_id, signer_key, target_user_id, target_key, signature)
     SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
     ON CONFLICT ON CONSTRAINT key_signatures_pk DO UPDATE SET signature = excluded.signature`,
    [
      signatures.map(({ signerId }) => signerId),
      signatures.map(({ signerKey }) => storable(signerKey)),
      signatures.map(({ targetUserId }) => targetUserId),
      signatures.map(({ targetKey }) => storable(targetKey)),
      signatures.map(({ signature }) => storable(signature)),
    ],
  );
}

/** Signatures on keys of these users: those of the users themselves, and those of `viewer`. */
export async function readKeySignatures(
  sql: Sql,
  userIds: readonly UserId[],
  viewer: UserId | null,
): Promise<KeySignature[]> {
  if (userIds.length === 0) return [];
  const rows = await sql.query<KeySignature>(
    `SELECT signer_id AS "signerId", signer_key AS "signerKey", target_user_id AS "targetUserId", target_key AS "targetKey", signature
       FROM key_signatures WHERE target_user_id = ANY ($1::text[]) AND signer_id IN (target_user_id, $2)`,
    [userIds, viewer],
  );
  return rows.map((row) => ({
    ...row,
    signerKey: fromStorable(row.signerKey),
    targetKey: fromStorable(row.targetKey),
    signature: fromStorable(row.signature),
  }));
}

/** How many a user has made, counted up to `max`. */
export async function countKeySignatures(sql: Sql, signerId: UserId, max: number): Promise<number> {
  const [row] = await sql.query<{ made: number }>(
    `SELECT count(*) AS made FROM (SELECT FROM key_signatures WHERE signer_id = $1 LIMIT $2) AS counted`,
    [signerId, max],
  );
  return row?.made ?? 0;
}
