/**
 * Writes down what events relate to that were stored by programs that knew of no relations: those from before there were any, and those that an
 * older version stores while both run. Each batch is a short transaction of its own, and reads the bodies as the program does that stores them.
 */
import { relationOf } from '../../matrix/client/relation.ts';
import { isJsonObject } from '../../matrix/json/strict-json.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type Sql, type Store, type Transaction, withTransaction } from '../open-store.ts';
import { booleanArray, int8Array, textArray } from '../sql-values.ts';
import { storable } from '../storable-text.ts';

/** Events that a batch looks through, whose bodies have up to 64 KiB each. */
const BATCH = 200;

/** Which bodies are read: a name may be escaped, and then that of any ASCII letter. */
const MAY_RELATE = String.raw`strpos(p.json::text, '"m.relates_to"') > 0 OR strpos(p.json::text, '\u00') > 0`;

interface Looked {
  readonly nid: number;
  readonly hollow: boolean;
  /** `null`: it names no relation. */
  readonly json: string | null;
  readonly relatesTo: string | null;
  readonly relType: string | null;
  readonly relationUnread: boolean | null;
}

const LOOKED = `p.nid, p.hollow, CASE WHEN NOT p.hollow AND (${MAY_RELATE}) THEN p.json::text END AS json,
       p.relates_to AS "relatesTo", p.rel_type AS "relType", p.relation_unread AS "relationUnread"`;

/** Goes through all that is left, until `isOver`. Gives how many events were looked at. */
export async function readRelations(
  store: Store,
  { isOver, heartbeat }: { readonly isOver: () => boolean; readonly heartbeat: () => void },
): Promise<number> {
  let read = 0;
  for (const batch of [readBefore, readUnread]) {
    for (let some = 1; some > 0 && !isOver();) {
      some = await withTransaction(store, batch);
      read += some;
      heartbeat();
    }
  }
  return read;
}

/** What was there before; one process at a time. */
async function readBefore(tx: Transaction): Promise<number> {
  const [left] = await tx.query<{ upTo: number; readTo: number }>(
    `SELECT up_to AS "upTo", read_to AS "readTo" FROM unread_relations FOR UPDATE SKIP LOCKED`,
  );
  if (left === undefined) return 0;
  const rows = await tx.query<Looked>(
    `SELECT ${LOOKED} FROM pdus p WHERE p.nid > $1 AND p.nid <= $2 ORDER BY p.nid LIMIT ${BATCH} FOR NO KEY UPDATE`,
    [left.readTo, left.upTo],
  );
  await writeDown(tx, rows);
  const last = rows.at(-1);
  if (last === undefined) await tx.query('DELETE FROM unread_relations WHERE up_to = $1', [left.upTo]);
  else await tx.query('UPDATE unread_relations SET read_to = $2 WHERE up_to = $1', [left.upTo, last.nid]);
  return rows.length;
}

/** What an older program has stored since. */
async function readUnread(tx: Transaction): Promise<number> {
  const rows = await tx.query<Looked>(
    `SELECT ${LOOKED} FROM pdus p WHERE p.relation_unread AND NOT p.hollow ORDER BY p.nid LIMIT ${BATCH} FOR NO KEY UPDATE SKIP LOCKED`,
  );
  await writeDown(tx, rows);
  return rows.length;
}

/** Only what changes is written: a row that relates to nothing stays as it is. */
async function writeDown(sql: Sql, rows: readonly Looked[]): Promise<void> {
  const changed = rows.flatMap(({ nid, hollow, json, ...was }) => {
    const { content } = json === null ? {} : (JSON.parse(json) as JsonObject);
    const relation = isJsonObject(content) ? relationOf(content) : undefined;
    const is = {
      relatesTo: relation?.relatesTo ?? null,
      relType: relation === undefined ? null : storable(relation.relType),
      // What has no body yet may be given one by a program that does not know of it.
      relationUnread: hollow ? true : null,
    };
    const isSame =
      is.relatesTo === was.relatesTo && is.relType === was.relType && is.relationUnread === was.relationUnread;
    return isSame ? [] : [{ nid, ...is }];
  });
  if (changed.length === 0) return;
  await sql.query(
    `UPDATE pdus p SET relates_to = c.relates_to, rel_type = c.rel_type, relation_unread = nullif(c.is_unread, false)
       FROM unnest($1::bigint[], $2::text[], $3::text[], $4::boolean[]) AS c(nid, relates_to, rel_type, is_unread) WHERE p.nid = c.nid`,
    [
      int8Array(changed.map(({ nid }) => nid)),
      textArray(changed.map(({ relatesTo }) => relatesTo)),
      textArray(changed.map(({ relType }) => relType)),
      booleanArray(changed.map(({ relationUnread }) => relationUnread === true)),
    ],
  );
}
