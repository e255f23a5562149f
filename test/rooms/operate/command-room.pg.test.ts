/** What operators command of rooms, over a real database: who is asked, what is journalled, and what outlasts a stay. */
import { describe, expect, test } from 'vitest';
import { type EventId, type RoomId, type ServerName } from '../../../src/matrix/identifiers.ts';
import { type RoomCommand } from '../../../src/resync/commands.ts';
import { type ResyncEvent } from '../../../src/resync/events.ts';
import { commandRoom } from '../../../src/rooms/operate/command-room.ts';
import { obey } from '../../../src/rooms/operate/obey.ts';
import { retryRoomsOf } from '../../../src/rooms/operate/retry-rooms.ts';
import { operatorReads } from '../../../src/rooms/read/for-operators.ts';
import { whomToAsk } from '../../../src/rooms/receive/whom-to-ask.ts';
import { viewHealth } from '../../../src/rooms/resync/destination-health.ts';
import { fetchState } from '../../../src/rooms/resync/fetch-state.ts';
import { chooseGapResidents } from '../../../src/rooms/resync/gap-residents.ts';
import { wakeWaitingFor } from '../../../src/rooms/resync/wake-waiting.ts';
import { changeMembership } from '../../../src/rooms/send/change-membership.ts';
import { readResyncEvents } from '../../../src/store/journal/journal.ts';
import { countPartialRooms, overdueResyncs, readRoom } from '../../../src/store/journal/rooms.ts';
import {
  A,
  B,
  C,
  ME,
  type ScriptedRejoinder,
  honestScript,
  refuse,
  smallRoom,
  startScripted,
} from '../../support/scripted-room.ts';

const ELSEWHERE = 'elsewhere.test' as ServerName;

async function joined() {
  const small = smallRoom();
  const script = { ...honestScript(small), serversInRoom: [A, B, C] };
  const here = await startScripted(small.room, script);
  await here.join();
  const { roomId } = small.room;
  const command = (what: RoomCommand, reason?: string) =>
    commandRoom(here.context, roomId, what, { by: 'the test', ...(reason === undefined ? {} : { reason }) });
  return { small, script, here, roomId, command };
}

async function typesOf(here: ScriptedRejoinder, roomId: RoomId, epoch = 1): Promise<ResyncEvent['type'][]> {
  return (await readResyncEvents(here.store, roomId, epoch, 0)).map(({ event }) => event.type);
}

const statesAskedOf = ({ asked }: ScriptedRejoinder): string[] =>
  asked.filter((what) => what.includes(' state_ids ')).map((what) => what.split(' ')[0] ?? '');

describe('a server that an operator has pinned', () => {
  test('is asked first, and the journal says why, and who wanted it', async () => {
    const { here, roomId, command } = await joined();
    const outcome = await command({ type: 'pin-resident', resident: B }, 'it is near');
    expect(outcome).toMatchObject({ isChanged: true, event: { type: 'ResidentPinned', by: 'the test' } });
    expect(here.rung.at(-1)).toBe(roomId);
    expect((await here.resync()).phase).toBe('complete');
    expect(statesAskedOf(here)).toEqual([B]);
    const started = (await readResyncEvents(here.store, roomId, 1, 0)).map(({ event }) => event);
    expect(started).toContainEqual(expect.objectContaining({ type: 'StateFetchStarted', because: 'pinned' }));
  });

  test('keeps no room partial where it is out of reach: the others are asked after it', async () => {
    const { here, script, command } = await joined();
    const honest = script.stateIds;
    script.stateIds = (server, at) => (server === B ? refuse(server, 'unreachable') : honest(server, at));
    await command({ type: 'pin-resident', resident: B });
    expect((await here.resync()).phase).toBe('complete');
    expect(statesAskedOf(here)).toEqual([B, A]);
  });

  test('has to be one that is known to be in the room; nothing is journalled of another', async () => {
    const { here, roomId, command } = await joined();
    const before = await typesOf(here, roomId);
    await expect(command({ type: 'pin-resident', resident: ELSEWHERE })).rejects.toMatchObject({
      kind: 'inapplicable',
      message: expect.stringContaining('not known to be in the room') as string,
    });
    expect(await typesOf(here, roomId)).toEqual(before);
  });
});

describe('a server that an operator has banned', () => {
  test('is asked for no state, nor for another word on one, nor at a gap, nor about what was pushed', async () => {
    const { here, roomId, command } = await joined();
    await command({ type: 'ban-resident', resident: A }, 'it lies');
    await command({ type: 'set-policy', policy: { stateQuorum: 3 } });
    expect((await here.resync()).phase).toBe('complete');
    expect(statesAskedOf(here)).toEqual([B, C]);

    const gap = {
      ...{ eventId: '$gap' as EventId, epoch: 1, origin: A, openedAt: 0, attempts: 0, begins: 0, wakeAt: 0 },
      ...{ isBegun: false, lastResident: A, lastFailure: 'incomplete' as const, lastReason: null },
    };
    const begun = { attempts: 1, begins: 1 };
    expect((await chooseGapResidents(here.context, roomId, gap, begun)).residents).toEqual([B, C]);
    const room = (await readRoom(here.store, roomId))!;
    const asking = { health: viewHealth(here.context), spending: { isSilent: () => false } };
    expect(await whomToAsk(here.context, room, { name: A, isIn: true }, asking)).toEqual([B, C]);
    await command({ type: 'pin-resident', resident: C });
    expect((await chooseGapResidents(here.context, roomId, gap, begun)).residents).toEqual([C, B]);
    const pinned = (await readRoom(here.store, roomId))!;
    expect(await whomToAsk(here.context, pinned, { name: A, isIn: true }, asking)).toEqual([C, B]);
  });

  test('is asked again when the ban is lifted', async () => {
    const { here, command } = await joined();
    for (const resident of [A, B, C]) await command({ type: 'ban-resident', resident });
    expect(await here.resync()).toMatchObject({ phase: 'waiting', failedRounds: 1 });
    expect(statesAskedOf(here)).toEqual([]);
    expect(await command({ type: 'unban-resident', resident: A })).toMatchObject({ isChanged: true });
    expect(await command({ type: 'unban-resident', resident: A })).toEqual({
      isChanged: false,
      because: `${A} is not banned`,
    });
    here.wait(60_000);
    expect((await here.resync()).phase).toBe('complete');
    expect(statesAskedOf(here)).toEqual([A]);
  });

  test('is told with who banned it, when and why, also in a later stay', async () => {
    const { here, roomId, command } = await joined();
    await here.resync();
    await command({ type: 'ban-resident', resident: C }, 'it lies');
    await command({ type: 'set-policy', policy: { givenUp: 'leave' } });
    await changeMembership(here.context, { roomId, sender: ME, act: 'leave', userId: ME });
    await here.join('@second:us.test' as never);
    const { epoch, resync, operatorSaid } = await operatorReads(here.context).describeRoom(roomId);
    expect(epoch).toBe(2);
    expect(resync.control).toEqual({ pinned: [], banned: [C], policy: { givenUp: 'leave' } });
    expect(operatorSaid).toMatchObject([
      { type: 'RoomPolicySet', policy: { givenUp: 'leave' } },
      { type: 'ResidentBanned', resident: C, by: 'the test', reason: 'it lies' },
    ]);
  });
});

test('a room of its own policy is left when it is given up, while others stay parked', async () => {
  const { here, script, command } = await joined();
  script.stateIds = (server) => refuse(server, 'too-large', { status: 200 });
  await command({ type: 'set-policy', policy: { givenUp: 'leave' } });
  expect((await here.resync()).phase).toBe('ended');
});

test('a room that is not ours is commanded nothing', async () => {
  const { here } = await joined();
  const command = commandRoom(
    here.context,
    '!other:a.test' as RoomId,
    { type: 'ban-resident', resident: A },
    { by: 'me' },
  );
  await expect(command).rejects.toMatchObject({ kind: 'unknown-room' });
});

describe('a room that an operator has cancelled', () => {
  test('is neither rung by the sweep nor woken by its servers, is counted, and whoever waits for it is told why', async () => {
    const { here, script, roomId, command } = await joined();
    const honest = script.stateIds;
    script.stateIds = (server) => refuse(server, 'unreachable');
    await here.resync();
    await command({ type: 'cancel' }, 'enough');
    const now = here.context.clock.now() + 365 * 86_400_000;
    expect(await overdueResyncs(here.store, { now, overdueMs: 0, limit: 9 })).toEqual([]);
    expect(await wakeWaitingFor(here.context, A, new AbortController().signal)).toBe(0);
    expect((await countPartialRooms(here.store)).get('cancelled')).toBe(1);
    await expect(
      operatorReads(here.context).members(roomId, {
        ...{ waitMs: 60_000, membership: null },
        signal: new AbortController().signal,
      }),
    ).rejects.toMatchObject({
      kind: 'parked',
      message: expect.stringContaining('cancelled by the test: enough') as string,
    });
    script.stateIds = honest;
    expect((await here.resync()).phase).toBe('parked');
    await command({ type: 'resume' });
    // Servers that are out of reach are left alone for a while, whoever asks.
    here.wait(60_000);
    expect((await here.resync()).phase).toBe('complete');
  });

  test('is not begun to be asked for by a request that was waiting for its turn', async () => {
    const { small, here, roomId, command } = await joined();
    await command({ type: 'cancel' });
    const progress = { signal: new AbortController().signal, heartbeat: () => undefined };
    const attempt = { attemptNo: 1, resident: A, atEventId: small.message };
    await fetchState(here.context, { roomId, epoch: 1, ...attempt }, progress);
    await command({ type: 'resume' });
    await command({ type: 'ban-resident', resident: A });
    await fetchState(here.context, { roomId, epoch: 1, ...attempt }, progress);
    expect(await typesOf(here, roomId)).not.toContain('StateFetchStarted');
    expect(statesAskedOf(here)).toEqual([]);
  });

  test('is taken up by a further join of ours', async () => {
    const { here, command } = await joined();
    await command({ type: 'cancel' });
    await here.join('@second:us.test' as never);
    expect((await here.resync()).phase).toBe('complete');
  });

  test('is left at once when the last of us leaves, asking nobody', async () => {
    const { here, roomId, command } = await joined();
    await command({ type: 'cancel' });
    await changeMembership(here.context, { roomId, sender: ME, act: 'leave', userId: ME });
    const now = here.context.clock.now() + 1;
    expect(await overdueResyncs(here.store, { now, overdueMs: 0, limit: 9 })).toHaveLength(1);
    expect((await here.resync()).phase).toBe('ended');
    expect(statesAskedOf(here)).toEqual([]);
  });
});

test('all rooms that wait for a server are retried, those that were cancelled or are at it left alone', async () => {
  const { here, script, roomId, command } = await joined();
  script.stateIds = (server) => refuse(server, 'unreachable');
  const retry = () => retryRoomsOf(here.context, A, '', { by: 'me' });
  expect(await retry()).toEqual({ retried: [], next: null });
  await here.resync();
  expect(await retryRoomsOf(here.context, ELSEWHERE, '', { by: 'me' })).toEqual({ retried: [], next: null });
  expect(await retry()).toEqual({ retried: [roomId], next: null });
  expect((await here.state()).phase).toBe('fetching');
  await here.resync();
  await command({ type: 'cancel' });
  expect(await retry()).toEqual({ retried: [], next: null });
});

test('what comes from Temporal by hand is followed or told why not, and a refused signal is journalled', async () => {
  const { here, roomId } = await joined();
  const from = (name: string, body: unknown, isSignal = true) => obey(here.context, { roomId, name, body, isSignal });
  expect(await from('ban-resident', { resident: C })).toEqual({
    changed: true,
    explanation: `${C} is banned: it is asked nothing about the room (by somebody at Temporal)`,
  });
  expect(await from('ban-resident', { resident: C, by: 'me' })).toMatchObject({ changed: false });
  const before = (await typesOf(here, roomId)).length;
  expect(await from('pin-resident', { resident: ELSEWHERE }, false)).toMatchObject({
    refused: expect.stringContaining('not known to be in the room') as string,
  });
  expect(await typesOf(here, roomId)).toHaveLength(before);
  for (const body of [undefined, null, 7, 'text', [], { resident: '\u0000' }, { resident: A, extra: 1 }]) {
    expect(await from('pin-resident', body)).toHaveProperty('refused');
  }
  expect(await from('constructor', {})).toEqual({ refused: 'there is no such command' });
  expect(
    await obey(here.context, { roomId: '!none:a.test' as RoomId, name: 'retry', body: {}, isSignal: true }),
  ).toEqual({
    refused: '!none:a.test is not a room of this server',
  });
  const refusals = (await typesOf(here, roomId)).filter((type) => type === 'CommandRefused');
  expect(refusals).toHaveLength(8);
});
