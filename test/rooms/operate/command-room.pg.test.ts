/** What operators command of rooms, over a real database: who is asked, what is journalled, and what outlasts a stay. */
import { describe, expect, test } from 'vitest';
import { type EventId, type RoomId, type ServerName } from '../../../src/matrix/identifiers.ts';
import { type RoomCommand } from '../../../src/resync/commands.ts';
import { type ResyncEvent } from '../../../src/resync/events.ts';
import { commandRoom } from '../../../src/rooms/operate/command-room.ts';
import { operatorReads } from '../../../src/rooms/read/for-operators.ts';
import { whomToAsk } from '../../../src/rooms/receive/whom-to-ask.ts';
import { viewHealth } from '../../../src/rooms/resync/destination-health.ts';
import { chooseGapResidents } from '../../../src/rooms/resync/gap-residents.ts';
import { changeMembership } from '../../../src/rooms/send/change-membership.ts';
import { readResyncEvents } from '../../../src/store/journal/journal.ts';
import { readRoom } from '../../../src/store/journal/rooms.ts';
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
