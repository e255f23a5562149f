/** Events of which a tampered copy comes first: they are held redacted, judged so, and completed by the copy that is whole. */
import { afterAll, expect, test } from 'vitest';
import { type RoomId } from '../../../src/matrix/identifiers.ts';
import { explainEvent } from '../../../src/rooms/read/explain-event.ts';
import { countCorrectionsDue } from '../../../src/store/events/corrections.ts';
import { readSnapshot } from '../../../src/store/snapshots/snapshots.ts';
import { expectFoldsRebuilt } from '../../support/folds.ts';
import { openTestStore } from '../../support/postgres.ts';
import { ADMIN, type EventInTest, PartialRoom, member, message } from './partial-room.ts';

const told: RoomId[] = [];
const { store } = await openTestStore({ onCorrectionDue: (roomId) => told.push(roomId) });
afterAll(() => expectFoldsRebuilt(store));

const BOB = '@bob:there.test';
const CAROL = '@carol:there.test';
const bob = member('bob', BOB, 'join', { prev: ['elsewhere'], auth: ['create', 'power', 'rules'] });

/** Redaction takes `invite` out of power levels before version 11; then anybody may invite. */
function levels(about: Partial<EventInTest> = {}): EventInTest {
  const content = { users: { [ADMIN]: 100, [BOB]: 50 }, invite: 100 };
  const auth = ['create', 'power', 'admin'];
  return { id: 'levels', type: 'm.room.power_levels', sender: ADMIN, stateKey: '', content, auth, ...about };
}

function redacted(event: EventInTest): EventInTest {
  const content = Object.fromEntries(Object.entries(event.content ?? {}).filter(([key]) => key !== 'invite'));
  return { ...event, content, isHollow: true };
}

const invite = member('invite', CAROL, 'invite', { sender: BOB, auth: ['create', 'levels', 'rules', 'bob'] });

async function wholeRoom(version: string, levelsFirst?: EventInTest): Promise<PartialRoom> {
  const room = new PartialRoom(store, version);
  await room.join();
  await room.hold(bob, ...(levelsFirst === undefined ? [] : [levelsFirst]));
  await room.fetch('create', 'admin', 'rules', 'bob', levelsFirst === undefined ? 'power' : 'levels');
  await room.walk();
  return room;
}

async function stateNow(room: PartialRoom): Promise<string[]> {
  const { currentState } = await room.correct();
  return (await readSnapshot(store, room.roomId, currentState!)).map(({ eventId }) => eventId);
}

test.each(['1', '10'])(
  'what was judged by redacted power levels of a fetched state is judged again, version %s',
  async (version) => {
    const room = await wholeRoom(version, redacted(levels()));
    await room.push(
      { ...invite, prev: ['join'] },
      message('after', ADMIN, { prev: ['invite'], auth: ['create', 'levels', 'admin'] }),
    );
    expect(await room.event('invite')).toMatchObject({ verdict: 'accepted' });
    expect(told).not.toContain(room.roomId);

    await room.insert(levels());
    expect(told).toContain(room.roomId);
    expect(await stateNow(room)).not.toContain(room.id('invite'));
    expect(await room.event('invite')).toMatchObject({ verdict: 'rejected' });
    expect(await room.event('after')).toMatchObject({ verdict: 'accepted' });
    expect(await countCorrectionsDue(store, room.roomId)).toBe(0);
    const { lines } = await explainEvent(room.context, room.id('levels'));
    expect(lines[0]).toContain('It was kept redacted until');
  },
);

test('what was judged by redacted power levels of the timeline is judged again, cited or not', async () => {
  const room = await wholeRoom('10');
  await room.push(redacted(levels({ prev: ['join'] })));
  // It does not cite the levels by which it is judged.
  const before = { ...invite, auth: ['create', 'power', 'rules', 'bob'], prev: ['levels'] };
  await room.push(before);
  expect(await room.event('invite')).toMatchObject({ verdict: 'accepted' });
  await room.insert(levels({ prev: ['join'] }));
  expect(await stateNow(room)).not.toContain(room.id('invite'));
  expect(await room.event('levels')).toMatchObject({ verdict: 'accepted' });
  expect(await room.event('invite')).toMatchObject({ verdict: 'rejected' });
});

test('an event that was rejected for what redaction took out is accepted when it is whole, and has its place', async () => {
  const room = await wholeRoom('10');
  await room.push(levels({ prev: ['join'] }));
  const content = { users: { [ADMIN]: 100, [BOB]: 50 }, invite: 100, ban: 50 };
  const next = levels({ id: 'next', content, sender: BOB, prev: ['levels'], auth: ['create', 'levels', 'bob'] });
  // Who has 50 may not lower what it takes to invite from 100.
  await room.push(redacted(next));
  expect(await room.event('next')).toMatchObject({ verdict: 'rejected' });
  await room.insert(next);
  expect(await stateNow(room)).toContain(room.id('next'));
  expect(await room.event('next')).toMatchObject({ verdict: 'accepted' });
  expect(await room.extremities()).toEqual([room.id('next')]);
});

test('one by whose redacted form nothing came otherwise is looked at once, and changes nothing', async () => {
  const room = await wholeRoom('10', redacted(levels()));
  await room.push(message('said', BOB, { prev: ['join'], auth: ['create', 'levels', 'bob'] }));
  const before = await room.event('said');
  const state = await stateNow(room);
  await room.insert(levels());
  expect((await stateNow(room)).sort()).toEqual(state.sort());
  expect(await room.event('said')).toEqual(before);
  expect(await countCorrectionsDue(store, room.roomId)).toBe(0);
});

test('in a room that is being walked nothing is lost', async () => {
  const room = new PartialRoom(store, '10');
  await room.join();
  await room.hold(bob, redacted(levels()));
  await room.push({ ...invite, prev: ['join'] });
  await room.insert(levels());
  await room.fetch('create', 'admin', 'rules', 'bob', 'levels');
  await room.correct();
  await room.walk();
  await room.correct();
  expect(await room.event('invite')).toMatchObject({ verdict: 'rejected', partial: false });
});
