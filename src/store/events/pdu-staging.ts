/** Brings a batch of many events into a temporary table of the open transaction, by COPY; the rest is done in SQL. */
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { from as copyFrom } from 'pg-copy-streams';
import { type CheckedPdu } from '../../verification/contract.ts';
import { COPY_ANSWER_MS_MAX, COPY_MS_MAX } from '../connection-limits.ts';
import { type Transaction } from '../open-store.ts';
import { textArray } from '../sql-values.ts';
import { storable } from '../storable-text.ts';

/** Rows are handed to the connection in pieces of about this size. */
const COPY_PIECE_BYTES = 262_144;

/** The limit on statements is for what answers at once; both go in one message. */
const CREATE = `
  SET LOCAL statement_timeout = ${COPY_MS_MAX};
  CREATE TEMPORARY TABLE incoming_pdus (
    event_id text NOT NULL, room_id text NOT NULL, type text NOT NULL,
    state_key text, sender text NOT NULL, membership text, depth bigint NOT NULL,
    origin_server_ts bigint NOT NULL, prev_events text[] NOT NULL, auth_events text[] NOT NULL,
    hollow boolean NOT NULL, json json NOT NULL
  ) ON COMMIT DROP`;

type Column = string | number | bigint | boolean | null;

/** All but the body, which is the last column. */
function columnsOf(pdu: CheckedPdu): Column[] {
  return [
    pdu.eventId,
    pdu.roomId,
    storable(pdu.type),
    pdu.stateKey === null ? null : storable(pdu.stateKey),
    pdu.sender,
    pdu.membership === null ? null : storable(pdu.membership),
    pdu.depth,
    pdu.originServerTs,
    textArray(pdu.prevEvents),
    textArray(pdu.authEvents),
    pdu.hollow,
  ];
}

function bufferOf(json: Uint8Array): Buffer {
  return Buffer.from(json.buffer, json.byteOffset, json.byteLength);
}

const COPY_SPECIAL = /[\\\n\r\t]/g;
const COPY_SPECIAL_BYTES = [0x5c, 0x0a, 0x0d, 0x09];
const COPY_ESCAPES: Readonly<Record<string, string>> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' };
const NEWLINE = 0x0a;

function escaped(text: string): string {
  return text.replace(COPY_SPECIAL, (found) => COPY_ESCAPES[found] ?? found);
}

function copyField(value: Column): string {
  if (value === null) return '\\N';
  return typeof value === 'string' ? escaped(value) : String(value);
}

/** Most bodies have nothing to escape and never become a string. */
function copyBody(json: Uint8Array): Uint8Array {
  const body = bufferOf(json);
  return COPY_SPECIAL_BYTES.some((byte) => body.includes(byte)) ? Buffer.from(escaped(body.toString())) : body;
}

function* copyPieces(pdus: readonly CheckedPdu[]): Generator<Buffer> {
  let piece = Buffer.allocUnsafe(COPY_PIECE_BYTES);
  let end = 0;
  for (const pdu of pdus) {
    const head = columnsOf(pdu).map(copyField).join('\t') + '\t';
    const body = copyBody(pdu.json);
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

/** Creates `incoming_pdus` and fills it. The caller drops it, or the end of the transaction does. */
export async function stagePdus(tx: Transaction, pdus: readonly CheckedPdu[]): Promise<void> {
  await tx.query(CREATE);
  // The driver looks for its time limit at the query.
  const copy = Object.assign(copyFrom('COPY incoming_pdus FROM STDIN'), { query_timeout: COPY_ANSWER_MS_MAX });
  await pipeline(Readable.from(copyPieces(pdus)), tx.client.query(copy));
}
