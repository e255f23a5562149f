/** Rooms that several of us are in, or that we have left and joined again, while their state was partial. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type ServerName, type UserId } from '../../../src/matrix/identifiers.ts';
import { walkPartialEvents } from '../../../src/rooms/resync/walk.ts';
import { countPartial } from '../../../src/store/events/event-states.ts';
import { append } from '../../../src/store/journal/journal.ts';
import { lockRoom, openEpoch, readRoom } from '../../../src/store/journal/rooms.ts';
import { type Store, withTransaction } from '../../../src/store/open-store.ts';
import { type TestDatabase, createTestDatabase } from '../../support/postgres.ts';
import { ADMIN, type EventInTest, ME, PartialRoom, member, message } from './partial-room.ts';

let database: TestDatabase;
let store: Store;
beforeAll(async () => {
  database = await createTestDatabase();
  store = database.openStore();
});
afterAll(() => database.drop());

const THERE = 'there.test' as ServerName;
const OTHER = '@other:here.test';
const BOB = '@bob:there.test';
const AUTH = ['create', 'power', 'rules'];
const KNOWN = ['create', 'admin', 'power', 'rules'];
const ADMINS = { auth: ['create', 'power', 'admin'] };

interface Join {
  readonly event: EventInTest;
  readonly anchor: string;
  readonly opens: boolean;
  readonly fetchAt: readonly string[];
}

/** A join of ours without memberships, over `anchor`. */
async function join(room: PartialRoom, { event, anchor, opens, fetchAt }: Join): Promise<void> {
  await room.hold(event);
  const [stateBefore, stateAfter] = [await room.state(...AUTH), await room.state(...AUTH, event.id)];
  await withTransaction(store, async (tx) => {
    const locked = (await lockRoom(tx, room.roomId))!;
    const stay = opens ? await openEpoch(tx, locked) : locked;
    const joined = { joinEventId: room.id(event.id), userId: event.sender as UserId, joinedVia: THERE };
    const told = { ...joined, serversInRoom: [THERE], fetchAt: fetchAt.map((id) => room.id(id)), stateBefore, at: 5 };
    const states = { stateBefore, stateAfter, currentState: stateAfter };
    expect(event.prev).toEqual([anchor]);
    await append(tx, stay, [
      opens ? { type: 'PartialStateJoined', ...told, roomVersion: '10' } : { type: 'ResidentsLearned', ...told },
      { type: 'PduAccepted', eventId: room.id(event.id), partial: true, softFailed: false, ...states },
    ]);
  });
}

/** A resident tells the state at `anchor`. */
async function fetchAt(
  room: PartialRoom,
  attemptNo: number,
  anchor: string,
  ...names: readonly string[]
): Promise<void> {
  const attempt = { attemptNo, resident: THERE, atEventId: room.id(anchor), at: 6 };
  const counts = { state: names.length, authChain: 0, members: 1, fetched: 0, alreadyHeld: 0, dropped: 0 };
  await room.journal(
    { type: 'StateFetchStarted', ...attempt },
    { type: 'StateFetched', ...attempt, snapshotId: await room.state(...names), counts, digest: 'd'.repeat(64) },
  );
}

async function walk(room: PartialRoom, epoch: number): Promise<void> {
  const progress = { signal: new AbortController().signal, heartbeat: () => undefined };
  await walkPartialEvents(room.context, room.roomId, epoch, progress);
  expect(await countPartial(store, room.roomId)).toBe(0);
  expect(await readRoom(store, room.roomId)).toMatchObject({ partial: false, resync: { phase: 'complete' } });
}

test('what was partial when we left becomes full in the next stay, by the state at its own parents', async () => {
  const room = new PartialRoom(store);
  await room.join();
  await room.hold(member('bob', BOB, 'join', { auth: AUTH }));
  await room.push(message('said', BOB, { prev: ['join'], auth: ['create', 'power', 'bob'] }));
  await room.push(message('answered', ADMIN, { prev: ['said'], ...ADMINS }));
  const event = member('again', ME, 'join', { prev: ['meanwhile'], auth: AUTH });
  await join(room, { event, anchor: 'meanwhile', opens: true, fetchAt: ['meanwhile', 'before'] });
  expect(await room.event('said')).toMatchObject({ partial: true, epoch: 2 });
  // In truth Bob had left before we came first.
  await room.hold(member('left', BOB, 'leave', { auth: ['create', 'power', 'bob'] }));
  await fetchAt(room, 1, 'meanwhile', ...KNOWN);
  await fetchAt(room, 2, 'before', ...KNOWN, 'left');
  await walk(room, 2);
  expect(await room.event('said')).toMatchObject({ partial: false, verdict: 'rejected', epoch: 2 });
  expect(await room.event('answered')).toMatchObject({ partial: false, verdict: 'accepted', softFailed: false });
  expect(await room.extremities()).toEqual([room.id('again')]);
  expect((await readRoom(store, room.roomId))?.currentState).toBe(await room.state(...KNOWN, 'again'));
});

test('the stay of before is over: its walk changes nothing any more', async () => {
  const room = new PartialRoom(store);
  await room.join();
  await room.fetch(...KNOWN);
  const event = member('again', ME, 'join', { prev: ['meanwhile'], auth: AUTH });
  await join(room, { event, anchor: 'meanwhile', opens: true, fetchAt: ['meanwhile'] });
  await room.walk();
  expect(await room.event('join')).toMatchObject({ partial: true, epoch: 2 });
  await fetchAt(room, 1, 'meanwhile', ...KNOWN);
  await walk(room, 2);
  expect(await room.event('join')).toMatchObject({ partial: false, verdict: 'accepted' });
});

test('several of us join a partial room over parents of their own: all become full, and each counts', async () => {
  const room = new PartialRoom(store);
  await room.join();
  const event = member('second', OTHER, 'join', { prev: ['elsewhere'], auth: AUTH });
  await join(room, { event, anchor: 'elsewhere', opens: false, fetchAt: ['elsewhere'] });
  await room.push(message('mine', ME, { prev: ['join'], auth: ['create', 'power', 'join'] }));
  await room.push(message('others', OTHER, { prev: ['second'], auth: ['create', 'power', 'second'] }));
  await fetchAt(room, 1, 'before', ...KNOWN);
  await fetchAt(room, 2, 'elsewhere', ...KNOWN);
  await walk(room, 1);
  for (const name of ['join', 'second', 'mine', 'others']) {
    expect(await room.event(name)).toMatchObject({ partial: false, verdict: 'accepted', softFailed: false });
  }
  expect(await room.extremities()).toEqual([room.id('mine'), room.id('others')].sort());
  expect((await readRoom(store, room.roomId))?.currentState).toBe(await room.state(...KNOWN, 'join', 'second'));
});

test('of two joins of ours the refused one has failed, and the stay goes on for the other', async () => {
  const room = new PartialRoom(store);
  await room.join();
  const event = member('second', OTHER, 'join', { prev: ['elsewhere'], auth: AUTH });
  await join(room, { event, anchor: 'elsewhere', opens: false, fetchAt: ['elsewhere'] });
  await room.hold(member('ban', OTHER, 'ban', { sender: ADMIN, ...ADMINS }));
  await room.push(message('others', OTHER, { prev: ['second'], auth: ['create', 'power', 'second'] }));
  await room.push(message('upon', ADMIN, { prev: ['second'], ...ADMINS }));
  await fetchAt(room, 1, 'before', ...KNOWN);
  await fetchAt(room, 2, 'elsewhere', ...KNOWN, 'ban');
  await walk(room, 1);
  expect(await room.event('second')).toMatchObject({ verdict: 'rejected' });
  // What cites it as an auth event falls with it, what builds on it does not.
  expect(await room.event('others')).toMatchObject({ verdict: 'rejected' });
  expect(await room.event('upon')).toMatchObject({ verdict: 'accepted' });
  const whole = await readRoom(store, room.roomId);
  expect(whole?.resync.refusedJoin).toContain(OTHER);
  expect(whole?.currentState).toBe(await room.state(...KNOWN, 'join', 'ban'));
});
