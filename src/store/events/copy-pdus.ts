/**
 * Stores many events that are not there yet by COPY into `pdus` itself. What the rows need of the database, their numbers and those of
 * their state keys, is had in one statement before. By way of a temporary table each event would be written twice.
 */
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { from as copyFrom } from 'pg-copy-streams';
import { type EventId } from '../../matrix/identifiers.ts';
import { invariant } from '../../invariant.ts';
import { type CheckedPdu } from '../../verification/contract.ts';
import { COPY_ANSWER_MS_MAX, COPY_MS_MAX } from '../connection-limits.ts';
import { type Transaction } from '../open-store.ts';
import { textArray } from '../sql-values.ts';
import { storable } from '../storable-text.ts';
import { INTERNED } from './insert-few.ts';

/** By which numbers an event and its place in a state go. */
export interface PduNumbers {
  readonly eventId: EventId;
  readonly nid: number;
  /** `null`: it is no state event. */
  readonly stateKeyNid: number | null;
}

/** Rows are handed to the connection in pieces of about this size. */
const COPY_PIECE_BYTES = 262_144;

/**
 * State keys that are not interned yet are. Of each event it gives its numbers, in the order given. The limit on statements is for
 * what answers at once.
 */
const NUMBER = `
  WITH incoming AS MATERIALIZED (
    SELECT i.*, (SELECT k.nid FROM state_keys k WHERE k.type = i.type AND k.state_key = i.state_key) AS state_key_nid
      FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS i(type, state_key, place)
  ), interned AS (${INTERNED})
  SELECT string_agg(concat_ws(' ', nextval('pdus_nid_seq'), coalesce(i.state_key_nid, k.nid)), ',' ORDER BY i.place) AS numbers,
         floor(extract(epoch FROM now()) * 1000)::bigint AS now,
         set_config('statement_timeout', '${COPY_MS_MAX}', true)
    FROM incoming i LEFT JOIN interned k ON k.type = i.type AND k.state_key = i.state_key`;

const COPY = `
  COPY pdus (nid, event_id, room_id, state_key_nid, type, sender, membership, depth, origin_server_ts,
             prev_events, auth_events, hollow, stored_at, relates_to, rel_type, relation_unread, json) FROM STDIN`;

interface NumberedPdu extends PduNumbers {
  readonly pdu: CheckedPdu;
}

function bufferOf(json: Uint8Array): Buffer {
  return Buffer.from(json.buffer, json.byteOffset, json.byteLength);
}

const COPY_SPECIAL = /[\\\n\r\t]/;
const EACH_COPY_SPECIAL = /[\\\n\r\t]/g;
const COPY_SPECIAL_BYTES = [0x5c, 0x0a, 0x0d, 0x09];
const COPY_ESCAPES: Readonly<Record<string, string>> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' };
const NEWLINE = 0x0a;

function escaped(text: string): string {
  return COPY_SPECIAL.test(text) ? text.replace(EACH_COPY_SPECIAL, (found) => COPY_ESCAPES[found] ?? found) : text;
}

function copied(text: string | null | undefined): string {
  return text == null ? '\\N' : escaped(storable(text));
}

/** All columns but the body, which is the last. What anybody else has written may hold anything. */
function headOf({ pdu, nid, stateKeyNid }: NumberedPdu, now: number): string {
  const membership = copied(pdu.membership);
  const names = `${escaped(pdu.eventId)}\t${escaped(pdu.roomId)}\t${stateKeyNid ?? '\\N'}\t${escaped(storable(pdu.type))}`;
  const numbers = `${membership}\t${pdu.depth}\t${pdu.originServerTs}`;
  const parents = `${escaped(textArray(pdu.prevEvents))}\t${escaped(textArray(pdu.authEvents))}`;
  const relation = `${copied(pdu.relation?.relatesTo)}\t${copied(pdu.relation?.relType)}`;
  return `${nid}\t${names}\t${escaped(pdu.sender)}\t${numbers}\t${parents}\t${pdu.hollow}\t${now}\t${relation}\t${pdu.hollow ? 'true' : '\\N'}\t`;
}

/** Most bodies have nothing to escape and never become a string. */
function copyBody(json: Uint8Array): Uint8Array {
  const body = bufferOf(json);
  return COPY_SPECIAL_BYTES.some((byte) => body.includes(byte)) ? Buffer.from(escaped(body.toString())) : body;
}

function* copyPieces(pdus: readonly NumberedPdu[], now: number): Generator<Buffer> {
  let piece = Buffer.allocUnsafe(COPY_PIECE_BYTES);
  let end = 0;
  for (const numbered of pdus) {
    const head = headOf(numbered, now);
    const body = copyBody(numbered.pdu.json);
    const bytesMax = Buffer.byteLength(head) + body.length + 1;
    if (end + bytesMax > piece.length) {
      yield piece.subarray(0, end);
      piece = Buffer.allocUnsafe(Math.max(COPY_PIECE_BYTES, bytesMax));
      end = 0;
    }
    end += piece.write(head, end);
    piece.set(body, end);
    end += body.length;
    piece[end++] = NEWLINE;
  }
  yield piece.subarray(0, end);
}

/**
 * Writes distinct events, one or more, and gives their numbers. Fails by `pdus_by_event_id` where one of them is there already,
 * or another writer is quicker with it.
 */
export async function copyPdus(tx: Transaction, pdus: readonly CheckedPdu[]): Promise<PduNumbers[]> {
  // Every writer takes them in the order of their names; where the database sorts otherwise, a deadlock is run again.
  const inOrder = pdus.toSorted((a, b) => (a.eventId < b.eventId ? -1 : 1));
  const [row] = await tx.query<{ numbers: string; now: number }>(NUMBER, [
    textArray(inOrder.map(({ type }) => storable(type))),
    textArray(inOrder.map(({ stateKey }) => (stateKey === null ? null : storable(stateKey)))),
  ]);
  invariant(row !== undefined, 'an aggregate has a row');
  const numbered = row.numbers.split(',').map((numbers, i): NumberedPdu => {
    const [nid, stateKeyNid = null] = numbers.split(' ').map(Number) as [number, number?];
    const pdu = inOrder[i];
    invariant(pdu !== undefined, 'each event is numbered once');
    return { pdu, eventId: pdu.eventId, nid, stateKeyNid };
  });
  // The driver looks for its time limit at the query.
  const copy = Object.assign(copyFrom(COPY), { query_timeout: COPY_ANSWER_MS_MAX });
  await pipeline(Readable.from(copyPieces(numbered, row.now)), tx.client.query(copy));
  return numbered;
}
