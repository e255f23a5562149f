/**
 * How the inspect commands read events: as strictly as a server would, but for the labels that people and fixtures give
 * events in place of hashes.
 */
import { canonicalJson } from '../matrix/json/canonical-json.ts';
import { type ParsedPdu, parsePdu } from '../matrix/event-format.ts';
import { type EventId, IDENTIFIER_BYTES_MAX } from '../matrix/identifiers.ts';
import { type Json, type JsonObject, type Pdu } from '../matrix/pdu.ts';
import { type Refusal, refuse } from '../matrix/refusal.ts';
import { type RoomVersionRules } from '../matrix/room-versions.ts';
import { isJsonObject } from '../matrix/json/strict-json.ts';

/** What an inspect command prints: an answer in JSON, or why the document is no question. */
export type Inspection = { readonly ok: true; readonly answer: JsonObject } | Refusal;

/** What events under labels may leave out, since a label says that nobody hashed them. */
const LABELLED_DEFAULTS: JsonObject = { depth: 0, origin_server_ts: 0, prev_events: [], auth_events: [] };

/**
 * Reads an event of a document. One that carries `event_id` goes by it as it is, in every room version, and may leave out
 * hashes, depth, time and references; its references and room id may be labels too. Any other is named by its hash.
 *
 * @param capReferences whether the limits on prev_events and auth_events hold: for the event that is judged.
 */
export function readEvent(json: Json, rules: RoomVersionRules, capReferences: boolean): ParsedPdu {
  if (!isJsonObject(json)) return refuse('document.event', 'an event must be a JSON object');
  if (!Object.hasOwn(json, 'event_id')) return parsePdu(json, rules, { mayLackHashes: true, capReferences });
  const label = json['event_id'];
  if (typeof label !== 'string' || label === '' || Buffer.byteLength(label) > IDENTIFIER_BYTES_MAX) {
    return refuse('event.event_id', `event_id must be a string of 1 to ${IDENTIFIER_BYTES_MAX} bytes`);
  }
  return parsePdu(withDefaults(json), rules, { label: label as EventId, capReferences });
}

function withDefaults(json: JsonObject): JsonObject {
  const absent = Object.keys(LABELLED_DEFAULTS).filter((key) => !Object.hasOwn(json, key));
  return absent.length === 0 ? json : { ...LABELLED_DEFAULTS, ...json };
}

/** Reads the list of events at `key`; a refusal says which of them is wrong. */
export function readEvents(
  document: JsonObject,
  key: string,
  rules: RoomVersionRules,
): { readonly ok: true; readonly events: ReadonlyMap<EventId, Pdu> } | Refusal {
  const list = Object.hasOwn(document, key) ? document[key] : undefined;
  if (!Array.isArray(list)) return refuse(`document.${key}`, `${key} must be a list of events`);
  const events = new Map<EventId, Pdu>();
  for (const [at, json] of (list as readonly Json[]).entries()) {
    const read = readEvent(json, rules, false);
    if (!read.ok) return refuse(read.rule, `${key}[${at}]: ${read.reason}`);
    const { pdu } = read;
    const other = events.get(pdu.eventId);
    if (other === undefined) {
      events.set(pdu.eventId, pdu);
    } else if (Object.hasOwn(pdu.json, 'event_id') && canonicalJson(other.json) !== canonicalJson(pdu.json)) {
      return refuse(`document.${key}`, `${key}[${at}]: a second event goes by the id ${pdu.eventId}`);
    }
  }
  return { ok: true, events };
}
