/** Verify keys of other servers, kept from one start to the next. */
import { type KeyId, type ServerName } from '../../matrix/identifiers.ts';
import { type KeyStore, type KnownKey } from '../../verification/contract.ts';
import { type Sql } from '../open-store.ts';
import { deleteOlder } from './delete-older.ts';

/** The key ring's store over the table `server_keys`. */
export function createKeyStore(sql: Sql): KeyStore {
  return {
    readKeys: (requests) =>
      requests.length === 0
        ? Promise.resolve([])
        : sql.query<KnownKey>(
            `SELECT k.server_name AS "serverName", k.key_id AS "keyId", k.public_key AS "publicKey",
                    k.valid_until_ts AS "validUntilTs", k.expired, k.fetched_at AS "fetchedAt"
               FROM (SELECT DISTINCT * FROM unnest($1::text[], $2::text[])) AS wanted(server_name, key_id)
               JOIN server_keys k USING (server_name, key_id)`,
            [requests.map(({ serverName }) => serverName), requests.map(({ keyId }) => keyId)],
          ),
    storeKeys: async (keys) => {
      const rows = [...newestByName(keys).values()];
      if (rows.length === 0) return;
      await sql.query(
        `INSERT INTO server_keys AS known (server_name, key_id, public_key, valid_until_ts, expired, fetched_at)
         SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::boolean[], $6::bigint[])
         ON CONFLICT (server_name, key_id) DO UPDATE
            SET public_key = excluded.public_key,
                valid_until_ts = CASE
                  WHEN known.public_key <> excluded.public_key OR excluded.expired THEN excluded.valid_until_ts
                  WHEN known.expired THEN known.valid_until_ts
                  ELSE greatest(known.valid_until_ts, excluded.valid_until_ts) END,
                expired = excluded.expired OR (known.expired AND known.public_key = excluded.public_key),
                fetched_at = excluded.fetched_at
          WHERE known.fetched_at <= excluded.fetched_at`,
        [
          rows.map(({ serverName }) => serverName),
          rows.map(({ keyId }) => keyId),
          rows.map(({ publicKey }) => publicKey),
          rows.map(({ validUntilTs }) => validUntilTs),
          rows.map(({ expired }) => expired),
          rows.map(({ fetchedAt }) => fetchedAt),
        ],
      );
    },
  };
}

/** One key a name, in the order of names, so that two writers wait for each other in one direction only. */
function newestByName(keys: readonly KnownKey[]): Map<`${ServerName} ${KeyId}`, KnownKey> {
  const sorted = keys.toSorted(
    (a, b) => compare(a.serverName, b.serverName) || compare(a.keyId, b.keyId) || a.fetchedAt - b.fetchedAt,
  );
  return new Map(sorted.map((key) => [`${key.serverName} ${key.keyId}` as const, key]));
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/**
 * Forgets at most `limit` keys that were fetched before `fetchedBefore` and are valid no more. A server's key is fetched
 * again whenever it is needed past its validity, which is a week at most, so nobody has needed these since; until when an old key was
 * valid its server says as it likes. Gives how many.
 */
export function forgetKeys(sql: Sql, fetchedBefore: number, limit: number): Promise<number> {
  const table = { table: 'server_keys', time: 'fetched_at', also: 'expired OR valid_until_ts < $1' };
  return deleteOlder(sql, table, fetchedBefore, limit);
}
