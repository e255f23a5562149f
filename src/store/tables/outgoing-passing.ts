/**
 * What passes in rooms, for the servers in them: a row for whatever is said, the last of each user in a room. Which servers get it is
 * positions in the rows of `destination_rooms`, as of events (deliveries.ts); so a room of any number of servers costs no row for each.
 */
import { type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type Sql, type Transaction } from '../open-store.ts';
import { int8Array, textArray } from '../sql-values.ts';
import { noteDestinations } from './outgoing-edus.ts';

export interface PassingEdu {
  readonly roomId: RoomId;
  /** What it is about, without NUL: it takes the place of what was to be said of the same. */
  readonly key: string;
  /** JSON: `{edu_type, content}`. */
  readonly edu: string;
  /** Milliseconds since the Unix epoch. */
  readonly expiresAt: number;
}

/** Of all rooms; of more the oldest are forgotten. */
const KEPT_MAX = 50_000;
const FORGOTTEN_AT_ONCE = 5_000;
/** Servers of rooms that one statement owes something. */
const OWED_AT_ONCE = 20_000;

/**
 * Writes down what the servers of rooms are to get, of whom those get nothing that have not taken what they were sent and are not to be tried
 * again yet. From here to COMMIT all others who do wait: the numbers follow the order of commits.
 *
 * @param now milliseconds since the Unix epoch
 */
export async function insertPassing(
  tx: Transaction,
  edus: readonly PassingEdu[],
  servers: ReadonlyMap<RoomId, ReadonlySet<ServerName>>,
  now: number,
): Promise<void> {
  const heard = edus.filter(({ roomId }) => (servers.get(roomId)?.size ?? 0) > 0);
  if (heard.length === 0) return;
  const rooms = [...new Set(heard.map(({ roomId }) => roomId))];
  await noteDestinations(tx, [...new Set(rooms.flatMap((roomId) => [...(servers.get(roomId) ?? [])]))]);
  await tx.query(`SELECT pg_advisory_xact_lock(hashtextextended('what passes in rooms', 0))`);
  await tx.query(
    `DELETE FROM outgoing_passing WHERE id = ANY (ARRAY(
       (SELECT id FROM outgoing_passing WHERE expires_at <= $1 LIMIT $2)
        UNION ALL
       (SELECT id FROM outgoing_passing ORDER BY id DESC OFFSET $3 LIMIT $2)))`,
    [now, FORGOTTEN_AT_ONCE, KEPT_MAX],
  );
  // One of a key at the most may be in a statement.
  const rows = [...new Map(heard.map((edu) => [`${edu.key} ${edu.roomId}`, edu])).values()];
  const written = await tx.query<{ roomId: RoomId; id: number }>(
    `INSERT INTO outgoing_passing (room_id, key, edu, expires_at)
     SELECT room_id, key, edu::json, expires_at
       FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) WITH ORDINALITY AS e(room_id, key, edu, expires_at, nth)
      ORDER BY nth
     ON CONFLICT (room_id, key) DO UPDATE
        SET (id, edu, expires_at) = (nextval('outgoing_passing_id_seq'), excluded.edu, excluded.expires_at)
     RETURNING room_id AS "roomId", id`,
    [
      textArray(rows.map(({ roomId }) => roomId)),
      textArray(rows.map(({ key }) => key)),
      textArray(rows.map(({ edu }) => edu)),
      int8Array(rows.map(({ expiresAt }) => expiresAt)),
    ],
  );
  const ids = written.map(({ id }) => id);
  const [after, upTo] = [Math.min(...ids) - 1, Math.max(...ids)];
  const owed = rooms.flatMap((roomId) =>
    [...(servers.get(roomId) ?? [])].map((serverName) => ({ serverName, roomId })),
  );
  for (let i = 0; i < owed.length; i += OWED_AT_ONCE) {
    await owe(tx, owed.slice(i, i + OWED_AT_ONCE), { after, upTo, now });
  }
}

/** Of a room in which nothing has the numbers in between nothing is owed by them. */
async function owe(
  tx: Transaction,
  owed: readonly { readonly serverName: ServerName; readonly roomId: RoomId }[],
  { after, upTo, now }: { readonly after: number; readonly upTo: number; readonly now: number },
): Promise<void> {
  await tx.query(
    `INSERT INTO destination_rooms AS d (server_name, room_id, sent, owed, passing_sent, passing_owed)
     SELECT o.server_name, o.room_id, 0, 0, $3::bigint, $4::bigint
       FROM unnest($1::text[], $2::text[]) AS o(server_name, room_id)
       JOIN deliveries s ON s.server_name = o.server_name AND (s.failed_since IS NULL OR s.retry_at <= $5::bigint)
      ORDER BY o.server_name, o.room_id
     ON CONFLICT (server_name, room_id) DO UPDATE
        SET passing_sent = CASE WHEN d.passing_sent < d.passing_owed THEN d.passing_sent ELSE excluded.passing_sent END,
            passing_owed = excluded.passing_owed`,
    [
      textArray(owed.map(({ serverName }) => serverName)),
      textArray(owed.map(({ roomId }) => roomId)),
      after,
      upTo,
      now,
    ],
  );
}

/** What passes in rooms and a server is owed, `$1`, and says something still at `$2`. */
const OWED = `
    FROM destination_rooms r
    JOIN outgoing_passing o ON o.room_id = r.room_id AND o.id > r.passing_sent AND o.id <= r.passing_owed AND o.expires_at > $2
   WHERE r.server_name = $1 AND r.passing_sent < r.passing_owed`;

/**
 * Up to which number a server gets what passes next, so that it is `limit` at the most, and how much that is; `upTo` is null where nothing
 * is owed. `now`: milliseconds since the Unix epoch.
 */
export async function readNextPassing(
  sql: Sql,
  serverName: ServerName,
  { now, limit }: { readonly now: number; readonly limit: number },
): Promise<{ readonly upTo: number | null; readonly count: number }> {
  const [row] = await sql.query<{ upTo: number | null; count: number }>(
    `WITH next AS (SELECT o.id ${OWED} ORDER BY o.id LIMIT $3), counted AS (SELECT count(*) AS count, max(id) AS last FROM next)
     SELECT count, CASE WHEN count < $3 THEN (SELECT max(passing_owed) FROM destination_rooms
                                               WHERE server_name = $1 AND passing_sent < passing_owed)
                        ELSE last END AS "upTo"
       FROM counted`,
    [serverName, now, limit],
  );
  return row ?? { upTo: null, count: 0 };
}

/** What that is, in its order; what another has taken the place of meanwhile is absent. */
export async function readPassing(sql: Sql, serverName: ServerName, now: number, upTo: number): Promise<JsonObject[]> {
  const rows = await sql.query<{ edu: JsonObject }>(`SELECT o.edu ${OWED} AND o.id <= $3 ORDER BY o.id`, [
    serverName,
    now,
    upTo,
  ]);
  return rows.map(({ edu }) => edu);
}

/** The server has got what passed up to there. */
export async function settlePassing(sql: Sql, serverName: ServerName, upTo: number): Promise<void> {
  await sql.query(
    `UPDATE destination_rooms r SET passing_sent = least(r.passing_owed, greatest(r.passing_sent, $2::bigint))
       FROM (SELECT room_id FROM destination_rooms
              WHERE server_name = $1 AND passing_sent < passing_owed ORDER BY room_id FOR UPDATE) AS due
      WHERE r.server_name = $1 AND r.room_id = due.room_id`,
    [serverName, upTo],
  );
}

/** Nothing is owed any more of what passed to a server for which none of it says anything by `now`, milliseconds since the Unix epoch. */
export async function settleExpiredPassing(sql: Sql, serverName: ServerName, now: number): Promise<void> {
  const { upTo, count } = await readNextPassing(sql, serverName, { now, limit: 1 });
  if (count === 0 && upTo !== null) await settlePassing(sql, serverName, upTo);
}
