/**
 * From what somebody says to a signed event. The functions of src/matrix do the work; only what they would compute twice
 * is passed on: the text under the signature is also what the event id is the hash of.
 */
import { canonicalJson } from '../matrix/json/canonical-json.ts';
import { contentHash, hashedEventId, signedText } from '../matrix/signing/hashes.ts';
import { type EventId, type RoomId, type ServerName } from '../matrix/identifiers.ts';
import { type Json, type JsonObject } from '../matrix/pdu.ts';
import { type RoomVersionRules } from '../matrix/room-versions.ts';
import { type SigningKey, signBytes } from '../matrix/signing/signing-key.ts';
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
}

export interface SignedDraft {
  readonly eventId: EventId;
  /** Canonical JSON in UTF-8. */
  readonly json: Buffer;
  /** What is under the signature. */
  readonly signedText: string;
}

/** The event without id, hash and signature. Versions up to 10 name the origin, as servers of their time did. */
export function unsignedEvent(placed: PlacedDraft, origin: ServerName, rules: RoomVersionRules): JsonObject {
  const { draft, roomId, prevEvents, authEvents, depth, originServerTsMs } = placed;
  return {
    auth_events: authEvents,
    content: draft.content,
    depth,
    ...(rules.redaction.keepsObsoleteTopLevelKeys && { origin }),
    origin_server_ts: originServerTsMs,
    prev_events: prevEvents,
    ...(roomId !== undefined && { room_id: roomId }),
    sender: draft.sender,
    ...(draft.stateKey !== undefined && { state_key: draft.stateKey }),
    type: draft.type,
  };
}

/** Hashes and signs an event for its origin. `givenId`: what it is called where ids are no hashes, in versions 1 and 2. */
export function signDraft(
  placed: PlacedDraft,
  origin: ServerName,
  key: SigningKey,
  rules: RoomVersionRules,
  givenId: EventId | undefined,
): SignedDraft {
  const event = {
    ...unsignedEvent(placed, origin, rules),
    ...(givenId !== undefined && { event_id: givenId }),
  };
  const hashed: JsonObject = { ...event, hashes: { sha256: contentHash(event) } };
  const text = signedText(hashed, rules);
  const signed = { ...hashed, signatures: { [origin]: { [key.keyId]: signBytes(key, Buffer.from(text)) } } };
  return {
    eventId: givenId ?? hashedEventId(text, rules),
    json: Buffer.from(canonicalJson(signed)),
    signedText: text,
  };
}
