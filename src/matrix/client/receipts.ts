/** What users have read last, as clients are told it: https://spec.matrix.org/v1.16/client-server-api/#mreceipt */
import { type EventId, type RoomId, type UserId } from '../identifiers.ts';
import { type Json, type JsonObject } from '../pdu.ts';

/** What a user has read last, of a room or of a thread in it. */
export interface ToldReceipt {
  readonly userId: UserId;
  readonly type: 'm.read' | 'm.read.private';
  /** Empty: of the room, threads and all; `main`: of what is in no thread; otherwise the thread's first event. */
  readonly threadId: string;
  readonly eventId: EventId;
  /** Milliseconds since the Unix epoch, as his server says. */
  readonly at: number;
}

type Contents = Map<string, Map<string, Map<string, Json>>>;

/** Pure. One content, or as many as a user has receipts of one event, of different threads. */
function receiptContents(receipts: readonly ToldReceipt[]): JsonObject[] {
  const contents: Contents[] = [];
  const taken = new Map<string, number>();
  for (const { eventId, type, userId, threadId, at } of receipts) {
    const place = `${type} ${userId} ${eventId}`;
    const nth = taken.get(place) ?? 0;
    taken.set(place, nth + 1);
    const content: Contents = (contents[nth] ??= new Map());
    const ofEvent = content.get(eventId) ?? new Map<string, Map<string, Json>>();
    content.set(eventId, ofEvent);
    const ofType = ofEvent.get(type) ?? new Map<string, Json>();
    ofEvent.set(type, ofType.set(userId, { ts: at, ...(threadId === '' ? {} : { thread_id: threadId }) }));
  }
  return contents.map((content) =>
    Object.fromEntries(
      [...content].map(([eventId, types]) => [
        eventId,
        Object.fromEntries([...types].map(([type, users]) => [type, Object.fromEntries(users)])),
      ]),
    ),
  );
}

/** Pure. Of each room its contents, the rooms in the order in which they come first. */
export function receiptContentsOfRooms(
  receipts: readonly (ToldReceipt & { readonly roomId: RoomId })[],
): { readonly roomId: RoomId; readonly content: JsonObject }[] {
  const ofRooms = new Map<RoomId, ToldReceipt[]>();
  for (const receipt of receipts) {
    const ofRoom = ofRooms.get(receipt.roomId);
    if (ofRoom === undefined) ofRooms.set(receipt.roomId, [receipt]);
    else ofRoom.push(receipt);
  }
  return [...ofRooms].flatMap(([roomId, ofRoom]) => receiptContents(ofRoom).map((content) => ({ roomId, content })));
}
