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

/** Told at the top level whatever the room's version: https://spec.matrix.org/v1.16/rooms/v11/#moving-the-redacts-property-of-mroomredaction-events-to-a-content-property */
function redactsOf({ type, redacts, content }: JsonObject): JsonObject[string] | undefined {
  if (type !== 'm.room.redaction') return undefined;
  return redacts ?? (content as JsonObject | undefined)?.['redacts'];
}
