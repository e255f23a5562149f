/**
 * EDUs that are for one server each; they travel with the events of the same transactions (deliveries.ts). What passes in a room is for all
 * of its servers (outgoing-passing.ts).
 */
import { type ServerName } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type Sql, type Transaction } from '../open-store.ts';
import { int8Array, textArray } from '../sql-values.ts';

export interface OutgoingEdu {
  readonly serverName: ServerName;
  /** What it is about, without NUL: it takes the place of what was to be said of the same. Null: each counts. */
  readonly key: string | null;
  /** JSON: `{edu_type, content}`. */
  readonly edu: string;
}

/** Of one server what counts each, and what may go before more of it is refused. */
const EDUS_OF_SERVER_MAX = 20_000;

/**
 * Notes that these servers get something. One that was never reached has its turn after those that take what they get, whose `retry_at`
 * is 0.
 */
export async function noteDestinations(tx: Transaction, servers: readonly ServerName[]): Promise<void> {
  await tx.query(
    `INSERT INTO deliveries (server_name, leased_until, failures, retry_at)
     SELECT name, 0, 0, 1 FROM unnest($1::text[]) AS name ON CONFLICT DO NOTHING`,
    [servers.toSorted()],
  );
}

/**
 * Writes down what servers are to get. A server that is behind by so many gets none of those that count each: gives how many were left
 * out. `unreachedUntil`: when it expires for a server with which no room is shared, and which is not known to take anything, milliseconds
 * since the Unix epoch; null: never.
 */
export async function insertOutgoingEdus(
  tx: Transaction,
  edus: readonly OutgoingEdu[],
  unreachedUntil: number | null = null,
): Promise<number> {
  if (edus.length === 0) return 0;
  const servers = [...new Set(edus.map(({ serverName }) => serverName))];
  await noteDestinations(tx, servers);
  // One of a key at the most may be in a statement.
  const last = new Map(edus.map((edu, i) => [edu.key === null ? i : `${edu.serverName} ${edu.key}`, edu]));
  const rows = [...last.values()];
  const [row] = await tx.query<{ written: number }>(
    `WITH behind AS (
       SELECT name FROM unnest($4::text[]) AS name
        WHERE EXISTS (SELECT FROM outgoing_edus o WHERE o.server_name = name OFFSET $5 LIMIT 1)
     ), written AS (
       INSERT INTO outgoing_edus AS o (server_name, key, edu, expires_at)
       SELECT e.server_name, e.key, e.edu::json,
              CASE WHEN d.retry_at > 0
                        AND NOT EXISTS (SELECT FROM destination_rooms r WHERE r.server_name = e.server_name)
                   THEN $6::bigint END
         FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS e(server_name, key, edu, nth)
         JOIN deliveries d ON d.server_name = e.server_name
        WHERE e.key IS NOT NULL OR NOT e.server_name IN (SELECT name FROM behind)
        ORDER BY e.nth
       ON CONFLICT (server_name, key) DO UPDATE
          SET (id, edu, expires_at) = (nextval('outgoing_edus_id_seq'), excluded.edu, excluded.expires_at)
       RETURNING 1
     )
     SELECT count(*) AS written FROM written`,
    [
      textArray(rows.map(({ serverName }) => serverName)),
      textArray(rows.map(({ key }) => key)),
      textArray(rows.map(({ edu }) => edu)),
      servers,
      EDUS_OF_SERVER_MAX,
      unreachedUntil,
    ],
  );
  return rows.length - (row?.written ?? 0);
}

/** The next ones of a server by their numbers, `limit` at the most, and `bytesMax`, but one. What has expired is not among them. */
export async function readNextEdus(
  sql: Sql,
  serverName: ServerName,
  { now, limit, bytesMax }: { readonly now: number; readonly limit: number; readonly bytesMax: number },
): Promise<number[]> {
  const rows = await sql.query<{ id: number }>(
    `SELECT id FROM (
        SELECT id, sum(octet_length(edu::text)) OVER (ORDER BY id) - octet_length(edu::text) AS before
          FROM (SELECT id, edu FROM outgoing_edus
                 WHERE server_name = $1 AND (expires_at IS NULL OR expires_at > $2) ORDER BY id LIMIT $3) AS next
      ) AS sized WHERE before < $4 ORDER BY id`,
    [serverName, now, limit, bytesMax],
  );
  return rows.map(({ id }) => id);
}

/** What they say, in their order; one whose place another has taken is absent. */
export async function readEdus(sql: Sql, serverName: ServerName, ids: readonly number[]): Promise<JsonObject[]> {
  if (ids.length === 0) return [];
  const rows = await sql.query<{ edu: JsonObject }>(
    `SELECT edu FROM outgoing_edus WHERE server_name = $1 AND id = ANY ($2::bigint[]) ORDER BY id`,
    [serverName, int8Array(ids)],
  );
  return rows.map(({ edu }) => edu);
}

/** They are sent. */
export async function deleteEdus(sql: Sql, serverName: ServerName, ids: readonly number[]): Promise<void> {
  if (ids.length === 0) return;
  await sql.query(`DELETE FROM outgoing_edus WHERE server_name = $1 AND id = ANY ($2::bigint[])`, [
    serverName,
    int8Array(ids),
  ]);
}

/** Deletes what says nothing any more. */
export async function deleteExpiredEdus(sql: Sql, serverName: ServerName, now: number): Promise<void> {
  await sql.query(`DELETE FROM outgoing_edus WHERE server_name = $1 AND expires_at <= $2`, [serverName, now]);
}
