import { afterAll, describe, expect, test } from 'vitest';
import { FederationError } from '../../../src/federation/error.ts';
import { type ServerName, type UserId } from '../../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../../src/matrix/pdu.ts';
import { eventIdOf } from '../../../src/matrix/signing/hashes.ts';
import { type RoomsContext } from '../../../src/rooms/context.ts';
import { joinRoom } from '../../../src/rooms/join/join.ts';
import { changeMembership } from '../../../src/rooms/send/change-membership.ts';
import { sendEvent } from '../../../src/rooms/send/send-event.ts';
import { shareOutRoom } from '../../../src/sending/share-out.ts';
import { tellNow } from '../../../src/sending/tell-now.ts';
import { JoinedServers } from '../../../src/store/snapshots/joined-servers.ts';
import { leaseOutgoingRooms } from '../../../src/store/tables/deliveries.ts';
import { createVerificationPool } from '../../../src/verification/pool.ts';
import { openTestStore } from '../../support/postgres.ts';
import { A, ME, openPushedRoom, signal } from '../receive/pushed-room.ts';

const { store } = await openTestStore();
const verification = createVerificationPool({ threads: 1 });
afterAll(() => verification.close());

/** A room that the only one of us has left again, of which no server knows yet: nothing carries what we say. */
async function startLeft() {
  const here = openPushedRoom(store, verification);
  const { room } = here;
  await here.join(false);
  const told: string[] = [];
  const makeJoin = here.context.federation.makeJoin.bind(here.context.federation);
  const answers = { sendTransaction: (): Promise<void> => Promise.resolve() };
  const federation = {
    ...here.context.federation,
    makeJoin: (...asked: Parameters<typeof makeJoin>) => {
      told.push(`make_join ${asked[0]}`);
      return makeJoin(...asked);
    },
    sendTransaction: (server: ServerName, _txnId: string, { pdus }: JsonObject) => {
      // What it is owed of other rooms goes with it.
      for (const pdu of (pdus as unknown as JsonObject[]).filter((each) => each['room_id'] === room.roomId)) {
        const { type, content } = pdu as unknown as { type: string; content: { membership?: string } };
        told.push(`${content.membership ?? type} ${server}`);
        room.joined(eventIdOf(pdu, room.rules), pdu);
      }
      return answers.sendTransaction();
    },
  };
  const sends = { ...here.context, federation };
  const context: RoomsContext = { ...sends, tell: (...what) => tellNow(sends, new JoinedServers(), ...what) };
  await sendEvent(context, room.roomId, { sender: ME, type: 'm.room.message', content: { body: 'bye' } });
  await changeMembership(context, { roomId: room.roomId, sender: ME, userId: ME, act: 'leave' });
  const join = (userId: UserId = ME) => joinRoom(context, { room: room.roomId, userId, via: [A], signal });
  return { here, told, answers, context, join };
}

describe('whoever comes back before his leave has reached anybody', () => {
  test('has the resident told of it first, so that the join stands on it', async () => {
    const { here, told, join } = await startLeft();
    const { eventId } = await join();
    expect(told).toEqual([`m.room.message ${A}`, `leave ${A}`, `make_join ${A}`]);
    const { prev_events: prevEvents } = here.room.events.get(eventId)!;
    const [parent] = prevEvents as unknown as string[];
    expect(here.room.events.get(parent as never)).toMatchObject({ sender: ME, content: { membership: 'leave' } });
    await expect(here.extremities()).resolves.toEqual([eventId]);
  });

  test('comes back all the same where the resident does not take it', async () => {
    const { answers, told, join } = await startLeft();
    answers.sendTransaction = () => Promise.reject(new FederationError(A, 'server-error', 'it fails', { status: 500 }));
    await join();
    expect(told.at(-1)).toBe(`make_join ${A}`);
  });
});

test('a resident is told what the queue still owes it, and nothing that it has taken', async () => {
  const { here, told, context, join } = await startLeft();
  const { roomId } = here.room;
  for (const room of await leaseOutgoingRooms(store, 60_000, 1, roomId)) {
    await shareOutRoom(context, new JoinedServers(), room);
  }
  await store.query(
    `UPDATE destination_rooms SET sent = (SELECT min(position) FROM outgoing_events WHERE room_id = $1) WHERE room_id = $1`,
    [roomId],
  );
  await join();
  expect(told).toEqual([`leave ${A}`, `make_join ${A}`]);
});

test('nobody is told anything again that took it', async () => {
  const { here, told, context, join } = await startLeft();
  await context.tell?.(here.room.roomId, A, signal);
  await join();
  expect(told).toEqual([`m.room.message ${A}`, `leave ${A}`, `make_join ${A}`]);
});
