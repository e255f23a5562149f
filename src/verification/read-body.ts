/**
 * The body of a signed request, in a thread: cut into its parts, read, and its signatures verified over its canonical JSON. What
 * is too large or too many is refused before anything is read.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#transactions
 */
import { EVENT_BYTES_MAX } from '../matrix/event-format.ts';
import { parseRoomId } from '../matrix/identifiers.ts';
import { EventSplitter, SplitError } from '../matrix/json/event-splitter.ts';
import { isJsonObject, parseWholeObject } from '../matrix/json/strict-json.ts';
import { type Json, type JsonObject } from '../matrix/pdu.ts';
import { type Refusal, refuse } from '../matrix/refusal.ts';
import { type RequestClaim, verifyRequest } from '../matrix/signing/signed-request.ts';
import { EDU_TYPES, TRANSACTION_EDUS_MAX, TRANSACTION_PDUS_MAX } from '../matrix/transactions.ts';
import { type BodyEdu, type BodyPdu, type ReadBody, type SignedBody } from './contract.ts';

/** Beside its PDUs and EDUs a transaction holds a name and a time; a body of another endpoint is one event at the most. */
const REST_BYTES_MAX = EVENT_BYTES_MAX;

/** Reads `body`, as it was received. Never throws for what a stranger sent. */
export function readBody(claim: RequestClaim, body: Uint8Array): ReadBody {
  const cut = cutBody(body);
  if (!cut.ok && cut.rule !== 'body.lists') return cut;
  const read = parseWholeObject(body);
  if (!read.ok) return read;
  const verified = verifyRequest(claim, read.value);
  if (!verified.ok) return verified;
  const { origin } = read.value;
  const transaction = cut.ok ? transactionOf(read.value, cut, body) : cut;
  return { ok: true, origin: typeof origin === 'string' ? origin : null, transaction };
}

type Cut = { readonly ok: true; readonly pdus: readonly Uint8Array[]; readonly eduBytes: readonly number[] } | Refusal;

/** The PDUs of a body as bytes. Rules: `body.size`, `body.pdus`, `body.edus`; `body.lists` where it is no JSON, or its lists are none. */
function cutBody(body: Uint8Array): Cut {
  const pdus: Uint8Array[] = [];
  const eduBytes: number[] = [];
  const splitter = new EventSplitter({
    arrays: ['pdus', 'edus'],
    memberBytesMax: body.length,
    restBytesMax: REST_BYTES_MAX,
  });
  try {
    splitter.push(body, (array, part) => {
      if (array === 'pdus') pdus.push(part);
      else eduBytes.push(part.length);
    });
    const { events } = splitter.end();
    return refuseMany('pdus', events['pdus']) ?? refuseMany('edus', events['edus']) ?? { ok: true, pdus, eduBytes };
  } catch (error) {
    if (!(error instanceof SplitError)) throw error;
    return refuse(error.kind === 'too-large' ? 'body.size' : 'body.lists', error.message);
  }
}

function refuseMany(list: 'pdus' | 'edus', count = 0): Refusal | undefined {
  const max = list === 'pdus' ? TRANSACTION_PDUS_MAX : TRANSACTION_EDUS_MAX;
  return count > max ? refuse(`body.${list}`, `there are over ${max} ${list}`) : undefined;
}

/** Members of `pdus` that are no objects are dropped, and so is one that names no room: it could not even be answered. */
function transactionOf(
  content: JsonObject,
  { pdus: parts, eduBytes }: Extract<Cut, { readonly ok: true }>,
  body: Uint8Array,
): SignedBody['transaction'] {
  const pdus = content['pdus'];
  const edus = content['edus'] ?? [];
  if (!Array.isArray(pdus)) return refuse('body.lists', 'pdus is not a list');
  if (!Array.isArray(edus)) return refuse('body.lists', 'edus is not a list');
  const tooMany = refuseMany('pdus', pdus.length) ?? refuseMany('edus', edus.length);
  if (tooMany !== undefined) return tooMany;
  const found: BodyPdu[] = [];
  (pdus as readonly Json[]).filter(isJsonObject).forEach((pdu, i) => {
    const part = parts[i];
    const roomId = parseRoomId(pdu['room_id']);
    if (part === undefined || roomId === undefined) return;
    const start = part.byteOffset - body.byteOffset;
    found.push({ start, end: start + part.length, roomId });
  });
  const known = edusOf(edus, eduBytes);
  return {
    ...{ ok: true, pdus: found, dropped: pdus.length - found.length },
    ...{ edus: known, droppedEdus: edus.length - known.length },
  };
}

/** Those that mean something here and are no larger than an event, which is what they may be. Members that are no objects have no bytes. */
function edusOf(edus: readonly Json[], bytes: readonly number[]): BodyEdu[] {
  return edus.filter(isJsonObject).flatMap((edu, i) => {
    const type = EDU_TYPES.find((name) => name === edu['edu_type']);
    const { content } = edu;
    const isFit = (bytes[i] ?? 0) <= EVENT_BYTES_MAX;
    return type !== undefined && isFit && isJsonObject(content) ? [{ type, content }] : [];
  });
}
