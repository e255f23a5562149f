/** Who came first into a room: the first few of its members, without the others' events. */
import { type UserId } from '../../matrix/identifiers.ts';
import { type Sql } from '../open-store.ts';
import { int8Array } from '../sql-values.ts';
import { fromStorable } from '../storable-text.ts';

export interface FirstMember {
  readonly userId: UserId;
  /** Joined or invited; else he was. */
  readonly isThere: boolean;
}

/**
 * Of each list of memberships, by the numbers of their events, the first `limit` of those who are there and of those who are not, in the
 * order in which their events came.
 */
export async function readFirstMembers(
  sql: Sql,
  lists: readonly (readonly number[])[],
  limit: number,
): Promise<readonly (readonly FirstMember[])[]> {
  const first = lists.map((): FirstMember[] => []);
  const listed = lists.flatMap((nids, list) => nids.map((nid) => ({ list, nid })));
  if (listed.length === 0) return first;
  const rows = await sql.query<{ list: number; stateKey: string; isThere: boolean }>(
    `SELECT list, state_key AS "stateKey", is_there AS "isThere"
       FROM (SELECT m.*, row_number() OVER (PARTITION BY list, is_there ORDER BY nid) AS nth
               FROM (SELECT w.list, w.nid, k.state_key, coalesce(p.membership IN ('join', 'invite'), false) AS is_there
                       FROM unnest($1::bigint[], $2::bigint[]) AS w(list, nid)
                       JOIN pdus p ON p.nid = w.nid JOIN state_keys k ON k.nid = p.state_key_nid) AS m) AS numbered
      WHERE nth <= $3 ORDER BY list, nth`,
    [int8Array(listed.map(({ list }) => list)), int8Array(listed.map(({ nid }) => nid)), limit],
  );
  for (const { list, stateKey, isThere } of rows) {
    first[list]?.push({ userId: fromStorable(stateKey) as UserId, isThere });
  }
  return first;
}
