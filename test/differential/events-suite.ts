/** Single events as a suite of the differential tests: format, ids, hashes, redaction, canonical JSON, signatures. */
import { canonicalJson } from '../../src/matrix/json/canonical-json.ts';
import { checkByteLimits, parsePdu } from '../../src/matrix/event-format.ts';
import { checkContentHash, contentHash, signedText } from '../../src/matrix/signing/hashes.ts';
import { type KeyId, type ServerName } from '../../src/matrix/identifiers.ts';
import { type Json, type JsonObject, type Pdu } from '../../src/matrix/pdu.ts';
import { redact } from '../../src/matrix/signing/redaction.ts';
import { type RoomVersionRules, roomVersionRules } from '../../src/matrix/room-versions.ts';
import { requiredSigners, signEvent, verifyText } from '../../src/matrix/signing/signatures.ts';
import { signingKeyFromSeed } from '../../src/matrix/signing/signing-key.ts';
import { parseJsonObject } from '../../src/matrix/json/strict-json.ts';
import { type Answer, type Suite } from './differ.ts';
import { type EventRequest, type EventsRequest, type SignRequest, casesOfEvents, rawText } from './events-cases.ts';

/**
 * Where we refuse what Synapse takes, on purpose: ids that break the grammar (nobody can have signed such an event, or
 * be cited under such an id), names that PostgreSQL cannot hold, more references than the limits, `content` or `hashes`
 * that Synapse mistakes a float for, and duplicate keys.
 */
const STRICTER: ReadonlySet<string> = new Set([
  'event.sender',
  'event.room_id',
  'event.event_id',
  'event.type',
  'event.state_key',
  'event.prev_events',
  'event.auth_events',
  'event.content',
  'event.hashes',
  'json.duplicate-key',
  'signers.event_id',
  'signers.join_authorised_via_users_server',
]);

const REFUSED = 'refused';

export const EVENTS_SUITE: Suite<EventsRequest> = {
  name: 'single events',
  cases: casesOfEvents,
  ours: (line) => ourAnswer(JSON.parse(line) as EventsRequest),
  theirs: (answer, request) => {
    if (typeof answer['error'] === 'string') return { undecided: answer['error'] };
    if (answer['refused'] !== undefined) return { answer: REFUSED, kind: '' };
    const ours = ourAnswer(request);
    if ('answer' in ours && ours.answer.startsWith(REFUSED) && STRICTER.has(ours.kind.split(' ')[1] ?? '')) {
      return { undecided: ours.kind };
    }
    return { answer: canonicalJson(answer), kind: '' };
  },
  *smaller(request) {
    if (request.op === 'verify') return;
    for (const smaller of smallerValues(JSON.parse(request.raw) as Json)) {
      yield { ...request, raw: JSON.stringify(smaller) };
    }
  },
};

function ourAnswer(request: EventsRequest): Answer {
  if (request.op === 'verify') {
    const verified = verifyText(Buffer.from(request.message, 'base64'), request.signature, request.key).ok;
    return { answer: canonicalJson({ verified }), kind: `verify ${verified}` };
  }
  const rules = roomVersionRules(request.room_version)!;
  const json = parseJsonObject(rawText(request.raw));
  if (!json.ok) {
    return request.op === 'sign' ? { undecided: json.rule } : { answer: REFUSED, kind: `event ${json.rule}` };
  }
  return request.op === 'sign' ? answerSign(request, json.value, rules) : answerEvent(request, json.value, rules);
}

function answerSign(request: SignRequest, json: JsonObject, rules: RoomVersionRules): Answer {
  const key = signingKeyFromSeed('ed25519:1' as KeyId, Buffer.from(request.seed, 'base64'));
  const signed = signEvent(json, rules, request.server as ServerName, key);
  const answer = canonicalJson({
    hashes: canonicalJson(signed['hashes']!),
    signatures: canonicalJson(signed['signatures']!),
  });
  return { answer, kind: `sign v${rules.version}` };
}

function answerEvent({ room_version: version }: EventRequest, json: JsonObject, rules: RoomVersionRules): Answer {
  const parsed = parsePdu(json, rules);
  if (!parsed.ok) return { answer: REFUSED, kind: `event ${parsed.rule}` };
  const { pdu } = parsed;
  const signers = signersOf(pdu, rules);
  if (typeof signers === 'string' && STRICTER.has(signers) && hasColon(pdu)) return { undecided: signers };
  const answer = canonicalJson({
    event_id: pdu.eventId,
    room_id: pdu.roomId,
    fits: checkByteLimits(pdu) === undefined,
    content_hash: contentHash(json),
    content_hash_verdict: checkContentHash(json),
    canonical_json: canonicalJson(json),
    redacted: canonicalJson(redact(json, rules)),
    signed_text: signedText(json, rules),
    prev_events: [...pdu.prevEvents],
    signers: typeof signers === 'string' ? REFUSED : signers,
  });
  return { answer, kind: `event v${version} accepted` };
}

/** Synapse asks for the signature of whatever stands behind a colon, be it a server name or not. */
function hasColon(pdu: Pdu): boolean {
  const authoriser = pdu.content['join_authorised_via_users_server'];
  return pdu.eventId.includes(':') || (typeof authoriser === 'string' && authoriser.includes(':'));
}

function signersOf(pdu: Pdu, rules: RoomVersionRules): Json[] | string {
  const required = requiredSigners(pdu, rules);
  if (!required.ok) return required.rule;
  return required.servers.map((server) => [server, rules.enforceKeyValidity ? pdu.originServerTs : 0]);
}

/** The value with one part less, or one part simpler. */
function* smallerValues(value: Json): Generator<Json> {
  if (typeof value === 'string' && value.length > 1 && !value.startsWith('@@')) {
    yield value.slice(0, value.length >> 1);
    yield value.slice(1);
  }
  if (typeof value !== 'object' || value === null) return;
  if (Array.isArray(value)) {
    const items = value as readonly Json[];
    for (const i of items.keys()) yield items.filter((_, at) => at !== i);
    for (const [i, item] of items.entries()) for (const smaller of smallerValues(item)) yield items.with(i, smaller);
    return;
  }
  const entries = Object.entries(value as JsonObject);
  for (const i of entries.keys()) yield Object.fromEntries(entries.filter((_, at) => at !== i));
  for (const [i, [key, item]] of entries.entries()) {
    for (const smaller of smallerValues(item)) yield Object.fromEntries(entries.with(i, [key, smaller]));
  }
}
