/**
 * From what somebody says to a signed event. The functions of src/matrix do the work, so that a mistake of theirs shows
 * against other servers and not here; only what they would compute twice is passed on: the text under the signature is
 * also what the event id is the hash of.
 */
import { hash } from 'node:crypto';
import { canonicalJson } from '../matrix/canonical-json.ts';
import { contentHash, hashedEventId, signedText } from '../matrix/hashes.ts';
import { type EventId, type RoomId, type ServerName } from '../matrix/identifiers.ts';
import { type Json, type JsonObject } from '../matrix/pdu.ts';
import { type RoomVersionRules } from '../matrix/room-versions.ts';
import { signBytes, type SigningKey } from '../matrix/signing-key.ts';
import { type EventDraft } from './room.ts';

/** A draft and its place in the room. */
export interface PlacedDraft {
  readonly draft: EventDraft;
  /** Absent for the create event of version 12, which names the room. */
  readonly roomId: RoomId | undefined;
  /** As the room version writes references. */
  readonly prevEvents: readonly Json[];
  readonly authEvents: readonly Json[];
  readonly depth: number;
  readonly originServerTsMs: number;
  /** The id that the event is to carry in versions 1 and 2. */
  readonly givenId: EventId | undefined;
}

export interface SignedDraft {
  readonly eventId: EventId;
  /** Canonical JSON in UTF-8. */
  readonly json: Buffer;
  /** Unpadded base64, for the references of versions 1 and 2; `undefined` where references are ids. */
  readonly referenceHash: string | undefined;
}

/** The event without hash and signature, as a template too. Versions up to 10 name the origin, as servers of their time do. */
export function unsignedEvent(placed: PlacedDraft, origin: ServerName, rules: RoomVersionRules): JsonObject {
  const { draft, roomId, prevEvents, authEvents, depth, originServerTsMs, givenId } = placed;
  return {
    auth_events: authEvents,
    content: draft.content,
    depth,
    ...(givenId !== undefined && { event_id: givenId }),
    ...(rules.redaction.keepsObsoleteTopLevelKeys && { origin }),
    origin_server_ts: originServerTsMs,
    prev_events: prevEvents,
    ...(roomId !== undefined && { room_id: roomId }),
    sender: draft.sender,
    ...(draft.stateKey !== undefined && { state_key: draft.stateKey }),
    type: draft.type,
  };
}

/** Hashes and signs an event for its origin. */
export function signDraft(
  placed: PlacedDraft,
  origin: ServerName,
  key: SigningKey,
  rules: RoomVersionRules,
): SignedDraft {
  const event = unsignedEvent(placed, origin, rules);
  const hashed: JsonObject = { ...event, hashes: { sha256: contentHash(event) } };
  const text = signedText(hashed, rules);
  const signed = { ...hashed, signatures: { [origin]: { [key.keyId]: signBytes(key, Buffer.from(text)) } } };
  return {
    eventId: placed.givenId ?? hashedEventId(text, rules),
    json: Buffer.from(canonicalJson(signed)),
    referenceHash: rules.eventReferences === 'ids' ? undefined : referenceHash(text),
  };
}

/** The SHA-256 of a signed text as versions 1 and 2 put it beside an event id. */
export function referenceHash(text: string): string {
  return hash('sha256', text, 'base64').slice(0, -1);
}
