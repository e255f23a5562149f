/** The last of our users leaves a room: by himself, kicked or banned, in a whole room and in a partial one. */
import { describe, expect, test } from 'vitest';
import { endStay } from '../../../src/rooms/resync/end-stay.ts';
import { readResyncEvents } from '../../../src/store/journal/journal.ts';
import { type RoomRow, overdueResyncs, readRoom } from '../../../src/store/journal/rooms.ts';
import { expectFoldsRebuilt } from '../../support/folds.ts';
import { openTestStore } from '../../support/postgres.ts';
import { ADMIN, type EventInTest, ME, PartialRoom, member, message } from './partial-room.ts';

const { store } = await openTestStore();

const SECOND = '@second:here.test';
const KNOWN = ['create', 'admin', 'power', 'rules'];
const BY_ADMIN = ['create', 'power', 'admin'];

const WAYS: readonly [string, (user: string, join: string, prev: string) => EventInTest][] = [
  ['leaves', (user, join, prev) => member('out', user, 'leave', { prev: [prev], auth: ['create', 'power', join] })],
  ['is kicked', (user, join, prev) => put(user, 'leave', join, prev)],
  ['is banned', (user, join, prev) => put(user, 'ban', join, prev)],
];

function put(user: string, membership: 'leave' | 'ban', join: string, prev: string): EventInTest {
  return member('out', user, membership, { sender: ADMIN, prev: [prev], auth: [...BY_ADMIN, join] });
}

const leave = member('out', ME, 'leave', { prev: ['join'], auth: ['create', 'power', 'join'] });

async function partialRoom(): Promise<PartialRoom> {
  const room = new PartialRoom(store);
  await room.join();
  return room;
}

async function wholeRoom(): Promise<PartialRoom> {
  const room = await partialRoom();
  await room.fetch(...KNOWN);
  await room.walk();
  return room;
}

const rowOf = async ({ roomId }: PartialRoom): Promise<RoomRow> => (await readRoom(store, roomId))!;

const entriesOf = async (room: PartialRoom): Promise<string[]> =>
  (await readResyncEvents(store, room.roomId, 1, 0)).map(({ event }) => event.type);

/** Ends the stay, if it may, by a clock that stands at `now`. */
const end = ({ context, roomId }: PartialRoom, now: number): Promise<void> =>
  endStay({ ...context, clock: { now: () => now } }, { roomId, epoch: 1 });

describe.each(WAYS)('whoever of us is the last and %s', (_way, out) => {
  test('ends the stay in a whole room', async () => {
    const room = await wholeRoom();
    const { completedAt } = (await rowOf(room)).resync;
    await room.push(out(ME, 'join', 'join'));
    expect(await rowOf(room)).toMatchObject({ partial: false, resync: { phase: 'ended', completedAt } });
    expect((await entriesOf(room)).slice(-2)).toEqual(['ResyncCompleted', 'StayEnded']);
    expect(room.rings).toBe(1);
  });

  test('begins the last round in a partial room, and rings its workflow', async () => {
    const room = await partialRoom();
    await room.push(out(ME, 'join', 'join'));
    const { partial, resync } = await rowOf(room);
    expect({ partial, phase: resync.phase }).toEqual({ partial: true, phase: 'fetching' });
    expect((resync.closesAt ?? 0) - (resync.nextWakeAt ?? 0)).toBe(60_000);
    expect(room.rings).toBe(1);
    await expectFoldsRebuilt(store, room.roomId);
  });

  test('is the last only when nobody else of us is there', async () => {
    const room = await wholeRoom();
    await room.push(member('second', SECOND, 'join', { prev: ['join'], auth: ['create', 'power', 'rules'] }));
    await room.push(out(ME, 'join', 'second'));
    expect((await rowOf(room)).resync.phase).toBe('complete');
    await room.push({ ...out(SECOND, 'second', 'out'), id: 'out2' });
    expect((await rowOf(room)).resync.phase).toBe('ended');
  });
});

test('a last round without the state ends the stay in a room that stays partial, when its time is over and not before', async () => {
  const room = await partialRoom();
  await room.push(leave);
  const closesAt = (await rowOf(room)).resync.closesAt!;
  await end(room, closesAt - 1);
  expect((await rowOf(room)).resync.phase).toBe('fetching');
  await end(room, closesAt);
  await end(room, closesAt);
  expect(await rowOf(room)).toMatchObject({ partial: true, resync: { phase: 'ended', nextWakeAt: null } });
  expect((await entriesOf(room)).filter((type) => type === 'StayEnded')).toHaveLength(1);
  await expectFoldsRebuilt(store, room.roomId);
});

test('a state that comes in the last round makes the room whole, and the stay ends with that', async () => {
  const room = await partialRoom();
  await room.push(leave);
  await room.fetch(...KNOWN);
  expect(await room.walk()).toMatchObject({ partial: false, resync: { phase: 'ended', members: 1 } });
  expect((await entriesOf(room)).slice(-2)).toEqual(['ResyncCompleted', 'StayEnded']);
  expect(await room.event('out')).toMatchObject({ partial: false, verdict: 'accepted' });
  await expectFoldsRebuilt(store, room.roomId);
});

test('a kick that the full state refuses in the last round has put nobody out: the stay goes on', async () => {
  const room = await partialRoom();
  await room.hold(member('admin-left', ADMIN, 'leave', { auth: ['create', 'power', 'admin'] }));
  await room.push(put(ME, 'leave', 'join', 'join'));
  expect((await rowOf(room)).resync.closesAt).not.toBeNull();
  await room.fetch('create', 'admin-left', 'power', 'rules');
  expect(await room.walk()).toMatchObject({ partial: false, resync: { phase: 'complete', closesAt: null } });
  expect(await room.event('out')).toMatchObject({ verdict: 'rejected' });
  const upon = message('upon', ME, { prev: ['out'], auth: ['create', 'power', 'join'] });
  expect(await room.push(upon)).toMatchObject([{ outcome: 'admitted', verdict: 'accepted' }]);
});

const SEEMED = { rule: 'kick-power', reason: 'as it seemed' };

test('a kick that the full state lets stand after all ends the stay', async () => {
  const room = await partialRoom();
  await room.insert(put(ME, 'leave', 'join', 'join'));
  const { stateAfter: stateBefore } = (await room.event('join'))!;
  await room.journal({ type: 'PduRejected', eventId: room.id('out'), partial: true, stateBefore, ...SEEMED });
  await room.fetch(...KNOWN);
  expect(await room.walk()).toMatchObject({ partial: false, resync: { phase: 'ended' } });
  expect((await entriesOf(room)).slice(-2)).toEqual(['ResyncCompleted', 'StayEnded']);
});

test('a kick that a correction lets stand in a whole room ends the stay', async () => {
  const room = await wholeRoom();
  await room.push(message('said', ADMIN, { prev: ['join'], auth: BY_ADMIN }));
  await room.insert(member('out', ME, 'leave', { sender: ADMIN, prev: ['said'], auth: [...BY_ADMIN, 'join'] }));
  const { stateAfter } = (await room.event('said'))!;
  const out = { eventId: room.id('out'), stateBefore: stateAfter };
  await room.journal({ type: 'PduRejected', ...out, partial: false, ...SEEMED });
  const [head] = await store.query<{ position: number }>('SELECT position FROM journal_head');
  const changed = { ...out, was: 'rejected', is: 'accepted', cause: head!.position } as const;
  await room.journal({ type: 'VerdictChanged', ...changed, stateAfter: await room.state(...KNOWN, 'out') });
  expect(await room.correct()).toMatchObject({ partial: false, resync: { phase: 'ended' } });
});

test('what comes when the last of us has left is not taken in', async () => {
  const room = await partialRoom();
  await room.push(leave);
  const upon = message('upon', ADMIN, { prev: ['out'], auth: BY_ADMIN });
  expect(await room.push(upon)).toEqual([{ outcome: 'not-there' }]);
  expect(await room.event('upon')).toBeUndefined();
});

test('the sweep finds a last round that nobody ends, and no stay that is over, whatever gaps are open in it', async () => {
  const partial = await partialRoom();
  await partial.push(leave);
  const whole = await wholeRoom();
  const eventIds = [whole.id('gap')];
  await whole.journal({ type: 'GapOpened', eventIds, origin: whole.context.serverName, assumedState: null, at: 5 });
  await whole.push(leave);
  const now = Date.now() + 600_000;
  const rung = (await overdueResyncs(store, { now, overdueMs: 1, limit: 100 })).map(({ roomId }) => roomId);
  expect(rung).toContain(partial.roomId);
  expect(rung).not.toContain(whole.roomId);
});

test('an invitation of one of us is nobody of us in the room', async () => {
  const room = await wholeRoom();
  const auth = [...BY_ADMIN, 'rules'];
  await room.push(member('invite', SECOND, 'invite', { sender: ADMIN, prev: ['join'], auth }));
  await room.push(member('out', ME, 'leave', { prev: ['invite'], auth: ['create', 'power', 'join'] }));
  expect((await rowOf(room)).resync.phase).toBe('ended');
});
