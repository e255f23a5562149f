/**
 * An event in the form that clients get: without the graph, hashes and signatures, which are for servers, and without what
 * another server wrote under `unsigned`, which anybody may have written.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#room-event-format
 */
import { type EventId, type RoomId } from '../identifiers.ts';
import { type JsonObject } from '../pdu.ts';

/** `pdu`: as servers exchange it. `unsigned`: what this server says of it; absent: nothing. */
export function clientEvent(
  pdu: JsonObject,
  { eventId, roomId, unsigned }: { readonly eventId: EventId; readonly roomId: RoomId; readonly unsigned?: JsonObject },
): JsonObject {
  const { type, sender, content, state_key: stateKey, origin_server_ts: at } = pdu;
  const redacts = redactsOf(pdu);
  return {
    content: content ?? {},
    event_id: eventId,
    origin_server_ts: at ?? 0,
    // Create events name no room from version 12 on.
    room_id: roomId,
    sender: sender ?? '',
    ...(stateKey === undefined ? {} : { state_key: stateKey }),
    type: type ?? '',
    ...(redacts === undefined ? {} : { redacts }),
    ...(unsigned === undefined ? {} : { unsigned }),
  };
}

/** An event of a timeline as a user is shown it, and what this server says of it. */
export interface ShownEvent {
  readonly eventId: EventId;
  readonly roomId: RoomId;
  /** As it is stored. */
  readonly json: string;
  /** What is left of it where it was taken back, and by what. */
  readonly taken?: { readonly json: string; readonly because: JsonObject } | undefined;
  /** The state event that it replaced, as it is given; absent: none, or it is no state event. */
  readonly replaced?: { readonly eventId: EventId; readonly json: string } | undefined;
  /** Of the user, in the state after it; `null`: none; absent: not known. */
  readonly membership?: string | null;
  /** Under which the user's device sent it. */
  readonly transactionId?: string | undefined;
  /** What is summed up of what relates to it. */
  readonly relations?: JsonObject | undefined;
}

/** An event of a timeline in the form of clients. `now`: milliseconds since the Unix epoch. */
export function shownEvent(shown: ShownEvent, now: number): JsonObject {
  const { eventId, roomId, json, taken, replaced, membership, transactionId, relations } = shown;
  const pdu = JSON.parse(taken?.json ?? json) as JsonObject;
  const at = pdu['origin_server_ts'];
  const unsigned: JsonObject = {
    ...(typeof at === 'number' ? { age: Math.max(0, now - at) } : {}),
    ...(membership === undefined ? {} : { membership: membership ?? 'leave' }),
    ...(replaced === undefined || replaced.eventId === eventId ? {} : replacedBy(replaced)),
    ...(transactionId === undefined ? {} : { transaction_id: transactionId }),
    ...(taken === undefined ? {} : { redacted_because: taken.because }),
    // Of what was taken back nothing is summed up.
    ...(relations === undefined || taken !== undefined ? {} : { 'm.relations': relations }),
  };
  return clientEvent(pdu, { eventId, roomId, unsigned });
}

function replacedBy({ eventId, json }: NonNullable<ShownEvent['replaced']>): JsonObject {
  const { content, sender } = JSON.parse(json) as JsonObject;
  return { prev_content: content ?? {}, replaces_state: eventId, prev_sender: sender ?? '' };
}

/** Told at the top level whatever the room's version: https://spec.matrix.org/v1.16/rooms/v11/#moving-the-redacts-property-of-mroomredaction-events-to-a-content-property */
function redactsOf({ type, redacts, content }: JsonObject): JsonObject[string] | undefined {
  if (type !== 'm.room.redaction') return undefined;
  return redacts ?? (content as JsonObject | undefined)?.['redacts'];
}
