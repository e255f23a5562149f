/**
 * The timelines of a response: what of them the user may see, and each event as he sees it, with what this server says of it:
 * how old it is, what it has replaced, and what he was in the room then.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#room-event-format
 */
import { clientEvent, shownEvent } from '../matrix/client/client-event.ts';
import { type EventId, type RoomId, type UserId } from '../matrix/identifiers.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { type RedactedBody } from '../store/events/redactions.ts';
import { type ShownPdu } from '../store/journal/seen-by-clients.ts';
import { type SeenPdu, readVisibleEvents } from '../store/journal/visible-events.ts';
import { type Transaction } from '../store/open-store.ts';
import { TIMELINE_BYTES } from './read-rooms.ts';
import { type RoomSpan } from './read-spans.ts';

/** Events that were taken back, as far as they are shown. */
type Redacted = ReadonlyMap<EventId, RedactedBody>;

/** What of the timelines the user may see. */
export async function readVisible(
  tx: Transaction,
  spans: readonly RoomSpan[],
  timelines: ReadonlyMap<RoomId, readonly ShownPdu[]>,
  userId: UserId,
): Promise<ReadonlyMap<RoomId, readonly SeenPdu[]>> {
  const asked = spans.flatMap(({ roomId, isNew, room, membershipThen }) => {
    // Who has been in the room all the time may see all of it.
    const isSeen = !isNew && room.membership === 'join' && room.state === room.stateThen;
    const joinedSince = room.membership === 'join' || membershipThen === 'join';
    return (timelines.get(roomId) ?? []).map((pdu) => ({ pdu, isSeen, joinedSince }));
  });
  const { seen } = await readVisibleEvents(tx, asked, userId, TIMELINE_BYTES);
  const byRoom = new Map<RoomId, SeenPdu[]>();
  for (const pdu of seen) {
    const ofRoom = byRoom.get(pdu.roomId) ?? [];
    byRoom.set(pdu.roomId, ofRoom);
    ofRoom.push(pdu);
  }
  return byRoom;
}

/** An event of a timeline in the form of clients. `now`: milliseconds since the Unix epoch. */
export function timelineEvent(
  { eventId, roomId, json, replaced, membership }: SeenPdu,
  now: number,
  {
    transactionId,
    redacted,
    relations,
  }: {
    readonly transactionId: string | undefined;
    readonly redacted: Redacted;
    readonly relations: JsonObject | undefined;
  },
): JsonObject {
  const was = replaced && { eventId: replaced.eventId, json: redacted.get(replaced.eventId)?.json ?? replaced.json };
  const about = { replaced: was ?? undefined, membership, transactionId, taken: redacted.get(eventId), relations };
  return shownEvent({ eventId, roomId, json, ...about }, now);
}

/** A state event in the form of clients. */
export function stateEvent(
  { eventId, json }: { readonly eventId: EventId; readonly json: string },
  roomId: RoomId,
  redacted: Redacted = new Map(),
): JsonObject {
  const taken = redacted.get(eventId);
  const unsigned = taken === undefined ? {} : { unsigned: { redacted_because: taken.because } };
  return clientEvent(JSON.parse(taken?.json ?? json) as JsonObject, { eventId, roomId, ...unsigned });
}
