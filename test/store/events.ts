/** Events for the tests of the store, which looks at columns only: nothing here is hashed or signed. */
import { type EventId, type RoomId, type UserId } from '../../src/matrix/identifiers.ts';
import { type CheckedPdu } from '../../src/verification/contract.ts';

export const ROOM = '!room:there.test' as RoomId;

/** A message event, with whatever the test is about. */
export function message(eventId: string, about: Partial<Record<keyof CheckedPdu, unknown>> = {}): CheckedPdu {
  const { json = JSON.stringify({ type: 'm.room.message', content: { body: eventId } }), ...columns } = about;
  return {
    eventId: eventId as EventId,
    roomId: ROOM,
    json: typeof json === 'string' ? Buffer.from(json) : json,
    type: 'm.room.message',
    stateKey: null,
    sender: '@sender:there.test' as UserId,
    membership: null,
    depth: 1n,
    originServerTs: 1,
    prevEvents: [],
    authEvents: [],
    hollow: false,
    ...columns,
  } as CheckedPdu;
}

/** A state event in the place (type, stateKey). */
export function state(
  eventId: string,
  type: string,
  stateKey: string,
  about: Parameters<typeof message>[1] = {},
): CheckedPdu {
  return message(eventId, { type, stateKey, ...about });
}

/** A membership of `userId`. */
export function member(
  eventId: string,
  userId: string,
  membership = 'join',
  about: Parameters<typeof message>[1] = {},
): CheckedPdu {
  return state(eventId, 'm.room.member', userId, { sender: userId, membership, ...about });
}

/** Event ids as tests write them. */
export function ids(...eventIds: string[]): EventId[] {
  return eventIds as EventId[];
}
