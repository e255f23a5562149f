/**
 * The two hashes of an event: the content hash covers everything its sender wrote; the reference hash covers what a
 * redaction keeps, and names the event from room version 3 on.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#calculating-the-content-hash-for-an-event and
 * https://spec.matrix.org/v1.16/server-server-api/#calculating-the-reference-hash-for-an-event
 */
import { hash } from 'node:crypto';
import { decodeBase64 } from './base64.ts';
import { canonicalJsonWithout } from '../json/canonical-json.ts';
import { type EventId } from '../identifiers.ts';
import { type JsonObject } from '../pdu.ts';
import { redact } from './redaction.ts';
import { type RoomVersionRules } from '../room-versions.ts';
import { isJsonObject } from '../json/strict-json.ts';

/**
 * The spec names `unsigned`, `signatures` and `hashes`. The other three are marks that early servers left on events; the
 * reference implementation has always taken them out too, so a hash that included them would agree with nobody.
 */
const OUTSIDE_CONTENT_HASH: ReadonlySet<string> = new Set([
  'unsigned',
  'signatures',
  'hashes',
  'age_ts',
  'outlier',
  'destinations',
]);

const OUTSIDE_SIGNATURES: ReadonlySet<string> = new Set(['unsigned', 'signatures']);

/** The SHA-256 content hash, unpadded base64: what belongs into `hashes.sha256`. */
export function contentHash(event: JsonObject): string {
  return hash('sha256', canonicalJsonWithout(event, OUTSIDE_CONTENT_HASH), 'base64').slice(0, -1);
}

/**
 * Compares `hashes.sha256` with the content. `mismatch` means that the content was redacted or tampered with, and only
 * the redacted event may be used; `unreadable` (absent, or not base64), that the event is refused.
 */
export function checkContentHash(event: JsonObject): 'match' | 'mismatch' | 'unreadable' {
  const hashes = event['hashes'];
  const claimed = isJsonObject(hashes) ? hashes['sha256'] : undefined;
  if (typeof claimed !== 'string') return 'unreadable';
  const computed = contentHash(event);
  // The usual spelling is compared as text; padding and the URL-safe alphabet are decoded.
  if (claimed === computed) return 'match';
  const decoded = decodeBase64(claimed);
  if (decoded === undefined) return 'unreadable';
  return decoded.equals(Buffer.from(computed, 'base64')) ? 'match' : 'mismatch';
}

/** The canonical JSON that servers sign and that the reference hash is of: the redacted event without its signatures. */
export function signedText(event: JsonObject, rules: RoomVersionRules): string {
  return canonicalJsonWithout(redact(event, rules), OUTSIDE_SIGNATURES);
}

/** The SHA-256 reference hash, unpadded base64: what versions 1 and 2 write beside the id of an event that they cite. */
export function referenceHash(event: JsonObject, rules: RoomVersionRules): string {
  return hash('sha256', signedText(event, rules), 'base64').slice(0, -1);
}

/** The event id made of a signed text; for versions whose ids are hashes. */
export function hashedEventId(signed: string, rules: RoomVersionRules): EventId {
  return `$${
    rules.eventIdFormat === 'base64'
      ? hash('sha256', signed, 'base64').slice(0, -1)
      : hash('sha256', signed, 'base64url')
  }` as EventId;
}

/** The event's id: read off it in versions 1 and 2 (as it stands there, unchecked), hashed from 3 on. */
export function eventIdOf(event: JsonObject, rules: RoomVersionRules): EventId {
  if (rules.eventIdFormat === 'given') return event['event_id'] as EventId;
  return hashedEventId(signedText(event, rules), rules);
}
