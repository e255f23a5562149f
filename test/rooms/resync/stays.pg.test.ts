/** Rooms that several of us are in, or that we have left and joined again, while their state was partial. */
import { expect, test } from 'vitest';
import { type ServerName, type UserId } from '../../../src/matrix/identifiers.ts';
import { walkPartialEvents } from '../../../src/rooms/resync/walk.ts';
import { countPartial } from '../../../src/store/events/event-states.ts';
import { explainEntry } from '../../../src/resync/explain-entry.ts';
import { readCorrections } from '../../../src/rooms/read/corrections.ts';
import { appendCurrentState } from '../../../src/rooms/resync/complete-walk.ts';
import { append, readHead, readResyncEvents } from '../../../src/store/journal/journal.ts';
import { lockRoom, openEpoch, readLocalMembers, readRoom } from '../../../src/store/journal/rooms.ts';
import { type Transaction, withTransaction } from '../../../src/store/open-store.ts';
import { openTestStore } from '../../support/postgres.ts';
import { ADMIN, type EventInTest, ME, PartialRoom, member, message } from './partial-room.ts';

const { store } = await openTestStore();

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

test('what comes late, and lies before what an earlier stay had, is none of the newest', async () => {
  const room = new PartialRoom(store);
  await room.join();
  const assumedState = await room.state(...AUTH, 'join');
  await room.journal({ type: 'GapOpened', eventIds: [room.id('late')], origin: THERE, assumedState, at: 3 });
  await room.push(message('over', ADMIN, { prev: ['late'], ...ADMINS }));
  const event = member('again', ME, 'join', { prev: ['meanwhile'], auth: AUTH });
  await join(room, { event, anchor: 'meanwhile', opens: true, fetchAt: ['meanwhile', 'before'] });
  expect(await room.push(message('late', ADMIN, { prev: ['join'], ...ADMINS }))).toMatchObject([
    { verdict: 'accepted' },
  ]);
  expect(await room.extremities()).toEqual([room.id('again')]);
  await fetchAt(room, 1, 'meanwhile', ...KNOWN);
  await fetchAt(room, 2, 'before', ...KNOWN);
  await walk(room, 2);
  expect(await room.event('late')).toMatchObject({ partial: false, verdict: 'accepted' });
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

/** Of two joins of ours the second is refused by the state at its own parent. */
async function roomWithRefusedJoin(): Promise<PartialRoom> {
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
  return room;
}

test('an event is partial where one of its auth events is, though its parents are full; it is of the timeline, and the newest', async () => {
  const room = new PartialRoom(store);
  await room.join();
  await room.fetch(...KNOWN);
  const [before, after] = [await room.state(...KNOWN), await room.state(...KNOWN, 'join')];
  // Bob joins over a gap, so that his join is provisional; the room's own join is full already.
  const origin = THERE;
  const assumedState = await room.state(...AUTH, 'join');
  await room.journal({ type: 'GapOpened', eventIds: [room.id('gap')], origin, assumedState, at: 3 });
  await room.push(member('bob', BOB, 'join', { prev: ['gap'], auth: AUTH }));
  const states = { stateBefore: before, stateAfter: after };
  await room.journal({
    type: 'EventUnPartialStated',
    eventId: room.id('join'),
    was: 'accepted',
    is: 'accepted',
    ...states,
  });
  expect(await room.event('join')).toMatchObject({ partial: false });

  const bans = { sender: ADMIN, prev: ['join'], auth: ['create', 'power', 'admin', 'bob'] };
  await room.push(member('ban', BOB, 'ban', bans));
  expect(await room.event('ban')).toMatchObject({ partial: true, verdict: 'accepted' });
  expect(await room.extremities()).toContain(room.id('ban'));
  await walk(room, 1);
  expect(await room.event('ban')).toMatchObject({ partial: false, verdict: 'accepted' });
});

test('of two joins of ours the refused one has failed, and the stay goes on for the other', async () => {
  const room = await roomWithRefusedJoin();
  // What cites it as an auth event falls with it, what builds on it does not.
  expect(await room.event('others')).toMatchObject({ verdict: 'rejected' });
  expect(await room.event('upon')).toMatchObject({ verdict: 'accepted' });
  const whole = await readRoom(store, room.roomId);
  expect(whole?.resync.refusedJoin).toContain(OTHER);
  expect(whole?.currentState).toBe(await room.state(...KNOWN, 'join', 'ban'));
});

test('a join that was told as failed and is accepted after all is told again, each time that it turns', async () => {
  const room = await roomWithRefusedJoin();
  const turnBan = async (is: 'accepted' | 'rejected'): Promise<void> => {
    const was = is === 'accepted' ? 'rejected' : 'accepted';
    const cause = await readHead(store);
    await room.journal({ type: 'VerdictChanged', eventId: room.id('ban'), was, is, cause });
    await room.correct();
  };
  const told = async () => {
    const journal = await readResyncEvents(store, room.roomId, 1, 0);
    return journal.flatMap(({ event }) =>
      event.type === 'JoinRejected' || event.type === 'JoinRestored' ? [[event.type, event.joinEventId]] : [],
    );
  };
  const second = room.id('second');
  expect(await told()).toEqual([['JoinRejected', second]]);

  await turnBan('rejected');
  expect(await room.event('second')).toMatchObject({ verdict: 'accepted' });
  expect(await told()).toEqual([
    ['JoinRejected', second],
    ['JoinRestored', second],
  ]);
  const restored = await readRoom(store, room.roomId);
  expect(restored).toMatchObject({ partial: false, resync: { phase: 'complete', refusedJoin: null } });
  expect(await readLocalMembers(store, room.roomId)).toMatchObject([
    { userId: ME },
    { userId: OTHER, eventId: second },
  ]);
  const { corrections } = await readCorrections({ store }, room.roomId, { after: 0, limit: 100 });
  expect(corrections.map(({ entry }) => explainEntry(entry.event))).toContain(`The state lets ${OTHER} in after all`);

  await turnBan('accepted');
  expect((await told()).at(-1)).toEqual(['JoinRejected', second]);
  expect((await readRoom(store, room.roomId))?.resync.refusedJoin).toContain(OTHER);
});

test('a stay that ended with its only join is not taken up again, whatever turns then: who wants in joins anew', async () => {
  const room = new PartialRoom(store);
  await room.join();
  await room.hold(member('ban', ME, 'ban', { sender: ADMIN, ...ADMINS }));
  await room.fetch(...KNOWN, 'ban');
  const progress = { signal: new AbortController().signal, heartbeat: () => undefined };
  await walkPartialEvents(room.context, room.roomId, 1, progress);
  const cause = await readHead(store);
  const turn = { was: 'accepted', is: 'rejected', rule: 'auth-event-rejected', reason: 'late', cause } as const;
  await room.journal({ type: 'VerdictChanged', eventId: room.id('ban'), ...turn });
  expect(await room.correct()).toMatchObject({ partial: false, resync: { phase: 'ended' } });
  expect(await room.event('join')).toMatchObject({ verdict: 'rejected' });
  const journal = await readResyncEvents(store, room.roomId, 1, 0);
  expect(journal.slice(-2).map(({ event }) => event.type)).toEqual(['JoinRejected', 'StayEnded']);
});

test('which joins turned is looked up without reading what else the stay has journalled', async () => {
  const room = new PartialRoom(store);
  await room.join();
  await room.fetch(...KNOWN);
  await walk(room, 1);
  const rowsRead = async (): Promise<number> => {
    let rows = 0;
    await withTransaction(store, async (tx) => {
      const counting: Transaction = Object.create(tx, {
        query: {
          value: async (...given: Parameters<Transaction['query']>) => {
            const read = await tx.query(...given);
            rows += read.length;
            return read;
          },
        },
      }) as Transaction;
      const locked = (await lockRoom(tx, room.roomId))!;
      await appendCurrentState(counting, locked, [], { isLast: true, at: 7 });
    });
    return rows;
  };
  const few = await rowsRead();
  const sought = Array.from(
    { length: 300 },
    () => ({ type: 'MissingSought', found: 0, left: 0, wakeAt: null, at: 7 }) as const,
  );
  await room.journal(...sought);
  expect(await rowsRead()).toBe(few);
});
