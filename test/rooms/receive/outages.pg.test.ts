import { expect, test } from 'vitest';
import { type EventId, type RoomId, type ServerName } from '../../../src/matrix/identifiers.ts';
import { startReceiver } from '../../../src/rooms/receive/receive.ts';
import { stagePdus } from '../../../src/store/tables/staged-pdus.ts';
import { openTestStore, openTestThreads } from '../../support/postgres.ts';
import { A, ALICE, B, BOB, SignedRoom, openPushedRoom } from './pushed-room.ts';

const { store } = await openTestStore();
const verification = openTestThreads();
const HOUR_MS = 3_600_000;

interface Row {
  readonly attempts: number;
  readonly reason: string | null;
  readonly isDropped: boolean;
  readonly restMs: number;
}

async function rowOf(eventId: EventId): Promise<Row | undefined> {
  const [row] = await store.query<Row>(
    `SELECT attempts, reason, dropped_at IS NOT NULL AS "isDropped",
            not_before - floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS "restMs"
       FROM staged_pdus WHERE event_id = $1`,
    [eventId],
  );
  return row;
}

function stage(room: SignedRoom, origin: ServerName, eventId: EventId): Promise<unknown> {
  return stagePdus(store, origin, [{ roomId: room.roomId, eventId, raw: room.raw(eventId), waitsFor: [] }]);
}

/** As if nothing had run for so long. */
async function sleepFor(roomId: RoomId, ms: number): Promise<void> {
  await store.query(
    `UPDATE staged_pdus SET received_at = received_at - $2::bigint, not_before = not_before - $2::bigint WHERE room_id = $1`,
    [roomId, ms],
  );
}

test('what waits for an event that is still tried is not dropped for an outage of a day', async () => {
  const room = new SignedRoom();
  const here = openPushedRoom(store, verification, { room });
  await here.join(false);
  await here.receiver.close();
  const levels = { users: { [ALICE]: 100, [BOB]: 1 } };
  const unknown = room.say(ALICE, 'm.room.power_levels', levels, { stateKey: '', prev: [room.last] });
  const first = room.say(ALICE, 'm.room.message', { body: 'first' }, { auth: [room.create, unknown, room.aliceJoin] });
  const second = room.message(BOB, 'second');
  const never = (signal: AbortSignal): Promise<never> =>
    new Promise((_, reject) => {
      signal.addEventListener('abort', () => reject(new Error('nobody answers')));
    });
  here.answers.eventAuth = (_server, _room, _event, { signal }) => never(signal);
  here.answers.event = (_server, _event, { signal }) => never(signal);
  const before = startReceiver(here.context);
  await stage(room, A, first);
  await stage(room, B, second);
  await expect.poll(async () => (await rowOf(second))?.reason).toBe(`waits for ${first}`);
  await before.close();

  await sleepFor(room.roomId, 25 * HOUR_MS);
  const after = startReceiver(here.context);
  try {
    // It has had a turn since, and is given time.
    await expect.poll(async () => (await rowOf(second))?.restMs ?? 0, { timeout: 5_000 }).toBeGreaterThan(0);
    expect(await rowOf(second)).toMatchObject({ isDropped: false });
  } finally {
    await after.close();
  }
});

test('trouble of ours is no try of an event, which is looked after once it is over', async () => {
  const room = new SignedRoom();
  const here = openPushedRoom(store, verification, { room });
  await here.join(false);
  await here.receiver.close();
  const missed = room.message(ALICE, 'missed');
  const last = room.message(BOB, 'last');
  await stage(room, B, last);
  const check = (): Promise<never> => Promise.reject(new Error('no memory is left'));
  const troubled = startReceiver({ ...here.context, verification: { ...here.context.verification, check } });
  await expect.poll(async () => (await rowOf(last))?.reason).toBe('our own trouble: no memory is left');
  await troubled.close();
  expect(await rowOf(last)).toMatchObject({ attempts: 0, isDropped: false });

  await sleepFor(room.roomId, HOUR_MS);
  const receiver = startReceiver(here.context);
  try {
    await here.taken(missed, last);
  } finally {
    await receiver.close();
  }
});
