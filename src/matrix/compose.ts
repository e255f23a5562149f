/**
 * An event of our own: what its sender says, its place in the graph, content hash, id and signature.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#pdus and the page of each room version
 */
import { cappedDepth, compareDepths } from './depth.ts';
import { PREV_EVENTS_MAX } from './event-format.ts';
import { type EventId, type RoomId, type ServerName, type UserId, domainOf } from './identifiers.ts';
import { withInteger } from './json/json-numbers.ts';
import { type Json, type JsonObject } from './pdu.ts';
import { type RoomVersionRules } from './room-versions.ts';
import { contentHash, hashedEventId, referenceHash, signedText } from './signing/hashes.ts';
import { type SigningKey, signBytes } from './signing/signing-key.ts';

/** What somebody says in a room. */
export interface Draft {
  readonly sender: UserId;
  readonly type: string;
  /** Absent: a message event. */
  readonly stateKey?: string | undefined;
  readonly content: JsonObject;
  /** What it takes back. */
  readonly redacts?: EventId | undefined;
  /** When it is said to have been sent, milliseconds since the Unix epoch; absent: now. */
  readonly originServerTs?: number | undefined;
}

/** Where an event stands in its room. */
export interface GraphPlace {
  /** Absent for the create event of version 12, which names the room. */
  readonly roomId: RoomId | undefined;
  /** As the room version writes references: ids, or id-hash pairs in versions 1 and 2. */
  readonly prevEvents: readonly Json[];
  readonly authEvents: readonly Json[];
  readonly depth: bigint;
  /** Milliseconds since the Unix epoch. */
  readonly originServerTs: number;
}

export interface ComposedEvent {
  readonly eventId: EventId;
  readonly event: JsonObject;
  /** What the signature signs, and from version 3 on the id is the hash of. */
  readonly signedText: string;
}

/** Of the name of a room, and of an event in versions 1 and 2: 102 bits, so that two never share one. */
const OPAQUE_ID_LENGTH = 18;
const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

/** The parents of a new event: the deepest extremities, as many as an event may cite. */
export function chooseParents<Parent extends { readonly depth: bigint }>(extremities: readonly Parent[]): Parent[] {
  return extremities.length <= PREV_EVENTS_MAX
    ? [...extremities]
    : extremities.toSorted(compareDepths).slice(-PREV_EVENTS_MAX);
}

/** One more than the deepest parent, and never more than an event may have: a depth out of range stops a room (CVE-2025-30355). */
export function depthAfter(parents: readonly { readonly depth: bigint }[], rules: RoomVersionRules): bigint {
  const deepest = parents.reduce((depth, parent) => (parent.depth > depth ? parent.depth : depth), 0n);
  return cappedDepth(deepest + 1n, rules);
}

/** The event before it is hashed and signed. `givenId`: its name in versions 1 and 2, where the id is no hash. */
export function unsignedEvent(draft: Draft, place: GraphPlace, givenId?: EventId): JsonObject {
  const event = {
    ...(givenId !== undefined && { event_id: givenId }),
    type: draft.type,
    ...(place.roomId !== undefined && { room_id: place.roomId }),
    sender: draft.sender,
    ...(draft.stateKey !== undefined && { state_key: draft.stateKey }),
    content: draft.content,
    ...(draft.redacts !== undefined && { redacts: draft.redacts }),
    prev_events: place.prevEvents,
    auth_events: place.authEvents,
    origin_server_ts: place.originServerTs,
  };
  return withInteger(event, 'depth', place.depth);
}

/** Adds hash and signature, and works out the id from the text that was signed. */
export function sealEvent(
  unsigned: JsonObject,
  rules: RoomVersionRules,
  origin: ServerName,
  key: SigningKey,
): ComposedEvent {
  const hashed: JsonObject = { ...unsigned, hashes: { sha256: contentHash(unsigned) } };
  const text = signedText(hashed, rules);
  const event = { ...hashed, signatures: { [origin]: { [key.keyId]: signBytes(key, Buffer.from(text)) } } };
  const eventId = rules.eventIdFormat === 'given' ? (unsigned['event_id'] as EventId) : hashedEventId(text, rules);
  return { eventId, event, signedText: text };
}

/** What takes an event back: it is named in the content from version 11 on, beside it before. */
export function redaction(
  draft: Omit<Draft, 'type' | 'redacts' | 'stateKey'>,
  redacts: EventId,
  rules: RoomVersionRules,
): Draft {
  const type = 'm.room.redaction';
  if (rules.redaction.keepsRedacts) return { ...draft, type, content: { ...draft.content, redacts } };
  return { ...draft, type, redacts };
}

/** How an event is cited: by its id, in versions 1 and 2 with its reference hash beside. */
export function referenceTo(eventId: EventId, event: JsonObject | undefined, rules: RoomVersionRules): Json {
  if (rules.eventReferences === 'ids') return eventId;
  // Nobody checks the hash, and who has not the event leaves it out, as the reference implementation does.
  return [eventId, event === undefined ? {} : { sha256: referenceHash(event, rules) }];
}

/** A name for an event of versions 1 and 2; `undefined` where the id is a hash. `random`: in [0, 1). */
export function givenEventId(rules: RoomVersionRules, sender: UserId, random: () => number): EventId | undefined {
  if (rules.eventIdFormat !== 'given') return undefined;
  return `$${opaqueName(random)}:${domainOf(sender)}` as EventId;
}

/** A name for a room, where the version does not make one of its create event. `random`: in [0, 1). */
export function givenRoomId(rules: RoomVersionRules, serverName: ServerName, random: () => number): RoomId | undefined {
  return rules.roomIdIsCreateHash ? undefined : (`!${opaqueName(random)}:${serverName}` as RoomId);
}

function opaqueName(random: () => number): string {
  const letters = Array.from({ length: OPAQUE_ID_LENGTH }, () => LETTERS.charAt(Math.floor(random() * LETTERS.length)));
  return letters.join('');
}
