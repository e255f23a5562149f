/**
 * Check 1 on receipt of a PDU: is it an event of its room version at all? Every field that anything reads gets its type
 * here, once. What fails is dropped: no server that keeps to the spec has it either.
 *
 * Source: https://spec.matrix.org/v1.16/rooms/v11/#event-format-1 and the page of each version;
 * https://spec.matrix.org/v1.16/client-server-api/#size-limits
 */
import { canonicalJsonWithout } from './json/canonical-json.ts';
import { checkEventValues } from './event-values.ts';
import { eventIdOf, hashedEventId, signedText } from './signing/hashes.ts';
import {
  type EventId,
  IDENTIFIER_BYTES_MAX,
  type RoomId,
  parseEventId,
  parseRoomId,
  parseUserId,
} from './identifiers.ts';
import { readInteger } from './json/json-numbers.ts';
import { type Json, type JsonObject, type Pdu } from './pdu.ts';
import { type Refusal, refuse } from './refusal.ts';
import { type RoomVersionRules } from './room-versions.ts';
import { isJsonObject } from './json/strict-json.ts';

/** Of the whole event as canonical JSON, signatures included (spec, Size limits). */
export const EVENT_BYTES_MAX = 65_536;
/** Spec, Event format: how many events one may cite as its parents, and as its auth events. */
export const PREV_EVENTS_MAX = 20;
export const AUTH_EVENTS_MAX = 10;

/** The reference implementation weighs an event with an empty `unsigned`, and empty `signatures` where there are none. */
const EMPTY_UNSIGNED_BYTES = ',"unsigned":{}'.length;
const EMPTY_SIGNATURES_BYTES = ',"signatures":{}'.length;

const UNSIGNED: ReadonlySet<string> = new Set(['unsigned']);
const SAFE_INTEGER_MAX = BigInt(Number.MAX_SAFE_INTEGER);

export interface ParseOptions {
  /**
   * A person's label in the place of an id, in documents and fixtures: nothing is hashed, `hashes` may be absent, and
   * references and the room id may be labels too.
   */
  readonly label?: EventId;
  /** The id under which the event is stored, or stands in for one: it is not hashed again. */
  readonly knownId?: EventId;
  /** For events that are judged and never taken in: `hashes` may be absent. */
  readonly mayLackHashes?: boolean;
  /** How many bytes the event took on the wire: spares weighing it where these are few. */
  readonly wireBytes?: number;
  /**
   * Whether the limits on prev_events and auth_events hold; they do unless said otherwise. Events from before the limits
   * (2018) are still in the state of old rooms, and are accepted there as outliers.
   */
  readonly capReferences?: boolean;
}

export type ParsedPdu = { readonly ok: true; readonly pdu: Pdu } | Refusal;

/** Checks the format of an event as `parseJson` gave it, and works out its id. Rules are named `event.<field>`. */
export function parsePdu(json: JsonObject, rules: RoomVersionRules, options: ParseOptions = {}): ParsedPdu {
  const prepared = preparePdu(json, rules, options);
  return prepared.ok ? { ok: true, pdu: prepared.pdu } : prepared;
}

export type PreparedPdu = { readonly ok: true; readonly pdu: Pdu; readonly signed: string | undefined } | Refusal;

/** As `parsePdu`, and hands on the text that the event id is the hash of, which is also what its signatures sign. */
export function preparePdu(json: JsonObject, rules: RoomVersionRules, options: ParseOptions = {}): PreparedPdu {
  const violation =
    checkEventValues(json, rules.strictCanonicalJson) ??
    checkHashesAndSignatures(json, options) ??
    checkSize(json, options);
  if (violation !== undefined) return violation;

  const { type, sender, content, state_key: stateKey } = json;
  if (typeof type !== 'string' || isTooLong(type, rules)) return wrong('type', 'a string of at most 255');
  if (stateKey !== undefined && (typeof stateKey !== 'string' || isTooLong(stateKey, rules))) {
    return wrong('state_key', 'a string of at most 255');
  }
  const senderId = parseUserId(sender);
  if (senderId === undefined) return wrong('sender', 'a user id');
  if (!isJsonObject(content)) return wrong('content', 'an object');
  if (json['unsigned'] !== undefined && !isJsonObject(json['unsigned'])) return wrong('unsigned', 'an object');
  const depth = readInteger(json, 'depth');
  if (depth === undefined || depth < 0n || depth > rules.depthMax) {
    return wrong('depth', `an integer from 0 to ${rules.depthMax}`);
  }
  const originServerTs = readInteger(json, 'origin_server_ts');
  if (originServerTs === undefined) return wrong('origin_server_ts', 'an integer of 64 bits');
  const prevEvents = references(json['prev_events'], rules, options);
  if (prevEvents === undefined) return wrong('prev_events', 'a list of event references');
  const authEvents = references(json['auth_events'], rules, options);
  if (authEvents === undefined) return wrong('auth_events', 'a list of event references');
  if (options.capReferences !== false) {
    if (prevEvents.length > PREV_EVENTS_MAX) return wrong('prev_events', `at most ${PREV_EVENTS_MAX}`);
    if (authEvents.length > AUTH_EVENTS_MAX) return wrong('auth_events', `at most ${AUTH_EVENTS_MAX}`);
  }

  const identity = identify(json, rules, options);
  if (!identity.ok) return identity;
  const roomId = roomOf(json, rules, identity.eventId, options);
  if (typeof roomId !== 'string') return roomId;
  if (rules.roomIdIsCreateHash && authEvents.includes(`$${roomId.slice(1)}` as EventId)) {
    return wrong('auth_events', 'without the create event, which the room id implies');
  }
  const pdu: Pdu = {
    eventId: identity.eventId,
    roomId,
    type,
    stateKey,
    sender: senderId,
    content,
    prevEvents,
    authEvents,
    depth,
    originServerTs: Number(clamp(originServerTs, -SAFE_INTEGER_MAX, SAFE_INTEGER_MAX)),
    json,
  };
  return { ok: true, pdu, signed: identity.signed };
}

/**
 * The id of an event that broke its format, where one can be worked out all the same: what was delivered in vain is then told
 * from what was not delivered. `null`: versions 1 and 2 give their ids, and this one gives none.
 */
export function idOfMalformed(json: JsonObject, rules: RoomVersionRules): EventId | null {
  return rules.eventIdFormat === 'given' ? (parseEventId(json['event_id']) ?? null) : eventIdOf(json, rules);
}

/** The type of an event that breaks the format, where it has one that an event may have. */
export function typeOfMalformed({ type }: JsonObject): string | null {
  return typeof type === 'string' && type.length <= IDENTIFIER_BYTES_MAX ? type : null;
}

/**
 * Versions before 11 limited types and state keys to 255 characters in practice; 255 bytes are the spec's limit, and an
 * event between the two is rejected, not dropped: other servers hold it, rejected, and later events may cite it.
 */
export function checkByteLimits(pdu: Pdu): Refusal | undefined {
  if (Buffer.byteLength(pdu.type) > IDENTIFIER_BYTES_MAX) return wrong('type', 'at most 255 bytes');
  if (pdu.stateKey !== undefined && Buffer.byteLength(pdu.stateKey) > IDENTIFIER_BYTES_MAX) {
    return wrong('state_key', 'at most 255 bytes');
  }
  return undefined;
}

function wrong(field: string, expected: string): Refusal {
  return refuse(`event.${field}`, `${field} must be ${expected}`);
}

/** Longer than any server takes it. NUL and all else that a string may hold is allowed. */
function isTooLong(text: string, rules: RoomVersionRules): boolean {
  if (text.length * 3 <= IDENTIFIER_BYTES_MAX) return false;
  return (rules.strictByteLimits ? Buffer.byteLength(text) : codePoints(text)) > IDENTIFIER_BYTES_MAX;
}

function codePoints(text: string): number {
  let count = 0;
  for (let i = 0; i < text.length; i += (text.codePointAt(i) as number) > 0xffff ? 2 : 1) count++;
  return count;
}

function clamp(value: bigint, min: bigint, max: bigint): bigint {
  if (value < min) return min;
  return value > max ? max : value;
}

/** The ids that `prev_events` or `auth_events` name; `undefined` when it is no list of references of this room version. */
function references(value: Json | undefined, rules: RoomVersionRules, { label }: ParseOptions): EventId[] | undefined {
  if (!Array.isArray(value)) return undefined;
  const ids: EventId[] = [];
  for (const item of value as readonly Json[]) {
    const id = label === undefined ? referencedId(item, rules) : labelOf(item, rules);
    if (id === undefined) return undefined;
    ids.push(id);
  }
  return ids;
}

function referencedId(item: Json, rules: RoomVersionRules): EventId | undefined {
  if (rules.eventReferences === 'ids') return parseEventId(item);
  return Array.isArray(item) ? parseEventId(pairId(item)) : undefined;
}

/** People write a label alone, or in the pair that versions 1 and 2 have. */
function labelOf(item: Json, rules: RoomVersionRules): EventId | undefined {
  const label = rules.eventReferences === 'id-hash-pairs' && Array.isArray(item) ? pairId(item) : item;
  return typeof label === 'string' ? (label as EventId) : undefined;
}

/** `[event_id, {"sha256": …}]`. */
function pairId(pair: readonly Json[]): Json | undefined {
  const [id, hashes] = pair;
  return pair.length === 2 && isJsonObject(hashes) && hasOnlyStrings(hashes) ? id : undefined;
}

function hasOnlyStrings(object: JsonObject): boolean {
  for (const key in object) if (typeof object[key] !== 'string') return false;
  return true;
}

function checkHashesAndSignatures(json: JsonObject, options: ParseOptions): Refusal | undefined {
  const { hashes, signatures } = json;
  if (hashes !== undefined || (options.label === undefined && options.mayLackHashes !== true)) {
    if (!isJsonObject(hashes) || !hasOnlyStrings(hashes)) return wrong('hashes', 'an object of strings');
  }
  if (signatures === undefined) return undefined;
  if (!isJsonObject(signatures)) return wrong('signatures', 'an object');
  for (const server in signatures) {
    const byKey = signatures[server];
    if (!isJsonObject(byKey) || !hasOnlyStrings(byKey)) return wrong('signatures', 'an object of objects of strings');
  }
  return undefined;
}

/** Canonical JSON is no longer than the wire's, but for the two keys weighed empty, and `1e15`, which grows fourfold. */
const SURELY_SMALL_BYTES = EVENT_BYTES_MAX / 4 - 32;

function checkSize(json: JsonObject, { wireBytes }: ParseOptions): Refusal | undefined {
  if (wireBytes !== undefined && wireBytes <= SURELY_SMALL_BYTES) return undefined;
  const bytes =
    Buffer.byteLength(canonicalJsonWithout(json, UNSIGNED)) +
    EMPTY_UNSIGNED_BYTES +
    (json['signatures'] === undefined ? EMPTY_SIGNATURES_BYTES : 0);
  return bytes > EVENT_BYTES_MAX ? refuse('event.size', `${bytes} bytes; at most ${EVENT_BYTES_MAX}`) : undefined;
}

type Identity = { readonly ok: true; readonly eventId: EventId; readonly signed: string | undefined } | Refusal;

function identify(json: JsonObject, rules: RoomVersionRules, options: ParseOptions): Identity {
  const eventId = options.label ?? options.knownId;
  if (eventId !== undefined) return { ok: true, eventId, signed: undefined };
  const given = json['event_id'];
  if (rules.eventIdFormat === 'given') {
    const eventId = parseEventId(given);
    return eventId?.includes(':') === true
      ? { ok: true, eventId, signed: undefined }
      : wrong('event_id', 'an event id with a server name');
  }
  if (given !== undefined) return wrong('event_id', 'absent: the id is a hash');
  const signed = signedText(json, rules);
  return { ok: true, eventId: hashedEventId(signed, rules), signed };
}

/**
 * In version 12 the create event names the room by its own hash. One that carries a room_id too would be rejected by rule 1
 * of the auth rules; the reference implementation cannot even read it, so no server has it.
 */
function roomOf(
  json: JsonObject,
  rules: RoomVersionRules,
  eventId: EventId,
  { label, knownId }: ParseOptions,
): RoomId | Refusal {
  const given = json['room_id'];
  const isCreate = json['type'] === 'm.room.create' && json['state_key'] === '';
  if (rules.roomIdIsCreateHash && isCreate) {
    if (given !== undefined && label === undefined) return wrong('room_id', 'absent: the event names the room');
    return `!${eventId.slice(1)}` as RoomId;
  }
  if (label !== undefined && typeof given === 'string' && given.startsWith('!')) return given as RoomId;
  if (!rules.roomIdIsCreateHash) return parseRoomId(given) ?? wrong('room_id', 'a room id');
  const roomId = parseRoomId(given);
  // What is known by its id is not hashed, and no more is what names its room.
  return roomId === undefined || (knownId === undefined && roomId.includes(':'))
    ? wrong('room_id', "the create event's hash")
    : roomId;
}
