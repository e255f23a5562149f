/** Rooms for whose state nobody is asked any more, over a real database. */
import { describe, expect, onTestFinished, test } from 'vitest';
import { defaultParkPolicy } from '../../../src/resync/policy.ts';
import { fullStateWaits } from '../../../src/rooms/read/full-state.ts';
import { commandRoom } from '../../../src/rooms/operate/command-room.ts';
import { countPartialRooms, overdueResyncs } from '../../../src/store/journal/rooms.ts';
import { createNotifier } from '../../../src/store/notify.ts';
import {
  A,
  B,
  type ScriptedRejoinder,
  honestScript,
  refuse,
  smallRoom,
  startScripted,
} from '../../support/scripted-room.ts';

const HOUR = 3_600_000;
/** With what is added to it by chance less than eight hours: a few rounds a day say what a day of them does. */
const RETRY_MS = 7 * HOUR;
const YEAR = 365 * 24 * HOUR;

/** Everybody refuses; some days pass. */
async function refused(then: 'park' | 'leave' = 'park') {
  const small = smallRoom();
  const script = honestScript(small);
  const here = await startScripted(small.room, script);
  const retries = { firstRetryMs: RETRY_MS, longestRetryMs: RETRY_MS };
  Object.assign(here.context, { policy: { ...here.context.policy, ...retries, park: { ...defaultParkPolicy, then } } });
  await here.join();
  const honest = script.stateIds;
  script.stateIds = (server) => refuse(server, 'forbidden', { status: 403 });
  return { small, script, here, honest };
}

async function letPass(here: ScriptedRejoinder, days: number): Promise<void> {
  for (let hours = 0; hours < 24 * days; hours += 8) {
    await here.resync();
    here.wait(8 * HOUR);
  }
  await here.resync();
}

describe('a room whose residents all refuse for days', () => {
  test('is parked: nobody is asked any more, nothing is overdue, and it is counted', async () => {
    const { here } = await refused();
    await letPass(here, 1);
    expect((await here.state()).phase).toBe('waiting');
    await letPass(here, 2);
    expect(await here.state()).toMatchObject({ phase: 'parked', parked: { because: 'refused' } });
    const { length } = here.asked;
    here.wait(YEAR);
    await here.resync();
    expect(here.asked).toHaveLength(length);
    const now = here.context.clock.now();
    expect(await overdueResyncs(here.store, { now, overdueMs: 0, limit: 9 })).toEqual([]);
    expect(await countPartialRooms(here.store)).toEqual(new Map([['parked', 1]]));
  });

  test('is told to whoever waits for it, at once and for good, and whoever comes later', async () => {
    const { here, small } = await refused();
    const notifier = createNotifier(here.store);
    onTestFinished(() => notifier.close());
    const { clock } = here.context;
    const waits = fullStateWaits({ store: here.store, notifier, clock });
    const options = { signal: new AbortController().signal, waitMs: 600_000 };
    const waiting = waits.room(small.room.roomId, options);
    const told = expect(waiting).rejects.toMatchObject({
      kind: 'parked',
      message: expect.stringContaining('every server that answered refused') as string,
    });
    await letPass(here, 3);
    await told;
    await expect(waits.room(small.room.roomId, options)).rejects.toMatchObject({ kind: 'parked' });
  });

  test('is made whole when somebody resumes it and a resident gives the state', async () => {
    const { here, script, honest, small } = await refused();
    await letPass(here, 3);
    script.stateIds = honest;
    const { roomId } = small.room;
    await commandRoom(here.context, roomId, { type: 'resume' }, { by: 'me' });
    expect(await here.resync()).toMatchObject({ phase: 'complete', parked: null });
    // A room that is whole needs no resident.
    const again = commandRoom(here.context, roomId, { type: 'resume' }, { by: 'me' });
    await expect(again).rejects.toMatchObject({ kind: 'inapplicable' });
    expect((await here.state()).phase).toBe('complete');
  });

  test('is resumed by another join of ours', async () => {
    const { here, script, honest } = await refused();
    await letPass(here, 3);
    script.stateIds = honest;
    await here.join('@second:us.test' as never);
    expect((await here.resync()).phase).toBe('complete');
  });

  test('is left by our users where that is the policy, and the stay ends', async () => {
    const { here } = await refused('leave');
    await here.join('@second:us.test' as never);
    await letPass(here, 3);
    expect((await here.state()).phase).toBe('ended');
    const entries = await here.store.query<{ type: string }>(
      `SELECT type FROM journal WHERE type IN ('ResyncParked', 'EverybodyLeft', 'StayEnded') ORDER BY position`,
    );
    expect(entries.map(({ type }) => type)).toEqual(['ResyncParked', 'EverybodyLeft', 'StayEnded']);
  });
});

test('a room whose state is larger than we take is parked at once, with the figures, and asks for it again when resumed', async () => {
  const small = smallRoom();
  const script = { ...honestScript(small), serversInRoom: [A, B] };
  const here = await startScripted(small.room, script);
  await here.join();
  script.stateIds = (server) => refuse(server, 'too-large', { status: 200 });
  expect(await here.resync()).toMatchObject({
    phase: 'parked',
    parked: { because: 'too-large', reason: expect.stringContaining('too-large, says the script') as string },
  });
  await commandRoom(here.context, small.room.roomId, { type: 'retry' }, { by: 'me' });
  expect((await here.resync()).phase).toBe('parked');
});
