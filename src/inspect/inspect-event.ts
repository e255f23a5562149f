/**
 * What there is to know about a single event without its room: `rejoinder inspect event`. For people who ask why a server
 * refuses an event, or under which id it goes.
 */
import { canonicalJson } from '../matrix/json/canonical-json.ts';
import { parsePdu } from '../matrix/event-format.ts';
import { checkContentHash, contentHash, signedText } from '../matrix/signing/hashes.ts';
import { type Inspection } from './inspect-document.ts';
import { type Json, type JsonObject } from '../matrix/pdu.ts';
import { redact } from '../matrix/signing/redaction.ts';
import { type RoomVersionRules } from '../matrix/room-versions.ts';
import { verifyText } from '../matrix/signing/signatures.ts';
import { isJsonObject, parseJsonObject } from '../matrix/json/strict-json.ts';

/**
 * Inspects one event, given as JSON text, bare or as `{"event": …}`. `keys` are public keys to check signatures with:
 * `{"server": {"key_id": "base64"}}`. The answer is
 *
 *     {"event_id", "content_hash", "content_hash_ok", "canonical_json", "redacted",
 *      "signatures": [{"server", "key_id", "checked", "ok"}]}
 *
 * where `canonical_json` is of the whole event as given, `redacted` is without `unsigned`, `checked` says that a key was
 * supplied and `ok` that the signature verified with it. Print it with `canonicalJson`, which keeps the spelling of
 * numbers. Refused, with the rule, when the text is not an event of the room version.
 */
export function inspectEvent(source: string | Uint8Array, rules: RoomVersionRules, keys: JsonObject = {}): Inspection {
  const document = parseJsonObject(source);
  if (!document.ok) return document;
  const event = unwrap(document.value);
  const parsed = parsePdu(event, rules);
  if (!parsed.ok) return parsed;
  return {
    ok: true,
    answer: {
      event_id: parsed.pdu.eventId,
      content_hash: contentHash(event),
      content_hash_ok: checkContentHash(event) === 'match',
      canonical_json: canonicalJson(event),
      redacted: redact(event, rules),
      signatures: inspectSignatures(event, rules, keys),
    },
  };
}

/** A document with `event` and without a `type` of its own wraps one. */
function unwrap(document: JsonObject): JsonObject {
  const inner = Object.hasOwn(document, 'event') && !Object.hasOwn(document, 'type') ? document['event'] : undefined;
  return isJsonObject(inner) ? inner : document;
}

function inspectSignatures(event: JsonObject, rules: RoomVersionRules, keys: JsonObject): Json[] {
  const message = Buffer.from(signedText(event, rules));
  const bySigner = isJsonObject(event['signatures']) ? event['signatures'] : {};
  return Object.entries(bySigner).flatMap(([server, byKey]) =>
    Object.entries(isJsonObject(byKey) ? byKey : {}).map(([keyId, signature]) => {
      const publicKey = publicKeyIn(keys, server, keyId);
      const checked = publicKey !== undefined;
      const ok = checked && typeof signature === 'string' && verifyText(message, signature, publicKey).ok;
      return { server, key_id: keyId, checked, ok };
    }),
  );
}

function publicKeyIn(keys: JsonObject, server: string, keyId: string): string | undefined {
  const byKey = Object.hasOwn(keys, server) ? keys[server] : undefined;
  const key = isJsonObject(byKey) && Object.hasOwn(byKey, keyId) ? byKey[keyId] : undefined;
  return typeof key === 'string' ? key : undefined;
}
