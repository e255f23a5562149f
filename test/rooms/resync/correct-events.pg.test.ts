import { afterAll, describe, expect, test } from 'vitest';
import { type EventId, type RoomId, type ServerName } from '../../../src/matrix/identifiers.ts';
import { type Journalled, type ResyncEvent, type TimelineEvent } from '../../../src/resync/events.ts';
import { countCorrectionsDue } from '../../../src/store/events/corrections.ts';
import { readParents } from '../../../src/store/events/anchors.ts';
import { recordOmissions } from '../../../src/store/events/left-out.ts';
import { readPdus, recordOutlierVerdicts } from '../../../src/store/events/pdus.ts';
import { readJournal } from '../../../src/store/journal/journal.ts';
import { type Store, type Transaction, withTransaction } from '../../../src/store/open-store.ts';
import { readSnapshot } from '../../../src/store/snapshots/snapshots.ts';
import { operatorReads } from '../../../src/rooms/read/for-operators.ts';
import { correctSome } from '../../../src/rooms/resync/correct-events.ts';
import { awaitedBy, judgeOutliers } from '../../../src/rooms/judge/judge-outliers.ts';
import { rulesOfJoined } from '../../../src/rooms/judge/load-pdus.ts';
import { expectFoldsRebuilt } from '../../support/folds.ts';
import { setStagedAside, stagePdus } from '../../../src/store/tables/staged-pdus.ts';
import { openTestStore } from '../../support/postgres.ts';
import { ADMIN, type EventInTest, ME, PartialRoom, member, message } from './partial-room.ts';

/** Rooms of which the store's observer was told that something is to be corrected that no entry says. */
const told: RoomId[] = [];
const { store } = await openTestStore({ onCorrectionDue: (roomId) => told.push(roomId) });
afterAll(() => expectFoldsRebuilt(store));

const BOB = '@bob:there.test';
const CAROL = '@carol:there.test';
const AUTH = ['create', 'power', 'rules'];
const KNOWN = ['create', 'admin', 'power', 'rules'];
const bob = member('bob', BOB, 'join', { prev: ['elsewhere'], auth: AUTH });
const ofBob = { auth: ['create', 'power', 'bob'] };
const LEVELS = { users: { [ADMIN]: 100, [BOB]: 50 } };
const ofAdmin = { auth: ['create', 'power', 'admin'] };

const invite = member('invite', CAROL, 'invite', { sender: BOB, auth: [...AUTH, 'bob'] });

/** Holds an event with a verdict that judging alone would not give it now, or with none. */
async function insertOutlier(room: PartialRoom, event: EventInTest, verdict: 'rejected' | 'unjudged'): Promise<void> {
  await room.insert(event);
  if (verdict === 'unjudged') return;
  await recordOutlierVerdicts(store, room.roomId, [{ eventId: room.id(event.id), verdict, authDepth: null }]);
}

/** A whole room whose state at the join, as it was fetched, holds Bob's membership. */
async function wholeRoom(version?: string): Promise<PartialRoom> {
  const room = new PartialRoom(store, version);
  await room.join();
  await room.hold(bob);
  await room.fetch(...KNOWN, 'bob');
  await room.walk();
  return room;
}

/** The verdict on an outlier turns, as a correction of something that it cites would turn it. */
async function turn(room: PartialRoom, name: string, is: 'accepted' | 'rejected'): Promise<void> {
  const was = is === 'accepted' ? 'rejected' : 'accepted';
  const why = is === 'rejected' ? { rule: 'auth-event-rejected', reason: 'it cites what is rejected' } : {};
  await room.journal({ type: 'VerdictChanged', eventId: room.id(name), was, is, cause: await positionOf(), ...why });
}

/** Judges events as whoever fetched something judges them. */
function judgeAnswer(room: PartialRoom, ...names: readonly string[]) {
  return judgeOutliers(store, room.roomId, rulesOfJoined('10'), ids(room, ...names), () => undefined);
}

async function positionOf(): Promise<number> {
  const [head] = await store.query<{ position: number }>('SELECT position FROM journal_head');
  return head!.position;
}

async function entries(room: PartialRoom): Promise<Journalled[]> {
  return readJournal(store, { roomId: room.roomId, sincePosition: 0, limit: 10_000 });
}

async function entriesOf<Type extends (ResyncEvent | TimelineEvent)['type']>(room: PartialRoom, type: Type) {
  return (await entries(room)).flatMap(({ event }) =>
    event.type === type ? [event as Extract<ResyncEvent | TimelineEvent, { readonly type: Type }>] : [],
  );
}

async function stateAfter(room: PartialRoom, name: string): Promise<EventId[]> {
  const parents = await readParents(store, room.roomId, [room.id(name)]);
  return idsIn(room, parents.get(room.id(name))!.stateAfter);
}

async function idsIn(room: PartialRoom, snapshot: string): Promise<EventId[]> {
  const state = await readSnapshot(store, room.roomId, snapshot as never);
  return state.map(({ eventId }) => eventId).sort();
}

async function outlier(room: PartialRoom, name: string): Promise<string | undefined> {
  return (await readPdus(store, room.roomId, [room.id(name)]))[0]?.verdict;
}

/** A store that a kill takes away at the `n`th statement outside a transaction. */
function killedAt(n: number): Store {
  let statements = 0;
  const query: Store['query'] = (text, values) => {
    statements += 1;
    return statements === n ? Promise.reject(new Error('killed')) : store.query(text, values);
  };
  return { ...store, query };
}

/** A store whose first append takes effect, and nobody hears of it. */
function losesAnAnswer(): Store {
  let isLost = false;
  return {
    ...store,
    onAppended: (appended) => {
      if (!isLost && appended.entries.some(({ event }) => event.type === 'EventsCorrected')) {
        isLost = true;
        throw new Error('lost');
      }
    },
  };
}

const ids = (room: PartialRoom, ...names: readonly string[]): EventId[] => names.map((name) => room.id(name)).sort();

describe('an event that an anchor’s state holds and that is rejected after all', () => {
  test('is taken out of the state, what stands on it is judged again, and comes back with its verdict', async () => {
    const room = await wholeRoom();
    await room.push(message('said', BOB, { prev: ['join'], ...ofBob }));
    await room.push(message('later', ADMIN, { prev: ['said'], ...ofAdmin }));
    expect(await room.event('said')).toMatchObject({ verdict: 'accepted', partial: false });

    await turn(room, 'bob', 'rejected');
    expect(await countCorrectionsDue(store, room.roomId)).toBeGreaterThan(0);
    const after = await room.correct();
    expect(await countCorrectionsDue(store, room.roomId)).toBe(0);
    expect(await stateAfter(room, 'before')).toEqual(ids(room, ...KNOWN));
    expect(await room.event('said')).toMatchObject({ verdict: 'rejected', rule: 'auth-event-rejected' });
    expect(await room.event('later')).toMatchObject({ verdict: 'accepted' });
    expect(await stateAfter(room, 'later')).toEqual(ids(room, ...KNOWN, 'join'));
    expect(await idsIn(room, after.currentState!)).toEqual(ids(room, ...KNOWN, 'join'));
    expect(after).toMatchObject({ partial: false, resync: { phase: 'complete', members: 2 } });
    expect(await entriesOf(room, 'AnchorCorrected')).toMatchObject([
      { eventId: room.id('before'), because: 'verdict-changed', putIn: [], takenOut: [room.id('bob')] },
    ]);

    await turn(room, 'bob', 'accepted');
    const again = await room.correct();
    expect(await stateAfter(room, 'before')).toEqual(ids(room, ...KNOWN, 'bob'));
    expect(await room.event('said')).toMatchObject({ verdict: 'accepted', rule: null });
    expect(await idsIn(room, again.currentState!)).toEqual(ids(room, ...KNOWN, 'join', 'bob'));
    expect(again.resync.members).toBe(3);
  });
});

describe('what cites an event whose verdict turns when it is walked', () => {
  test('is rejected with it, as an outlier too', async () => {
    const room = new PartialRoom(store);
    await room.join();
    await room.hold(member('ban', BOB, 'ban', { sender: ADMIN, auth: ['create', 'power', 'admin'] }));
    await room.push({ ...bob, prev: ['join'] });
    await room.hold(invite);
    await room.fetch(...KNOWN, 'ban');
    expect(await room.walk()).toMatchObject({ partial: false, resync: { phase: 'complete' } });
    expect(await room.event('bob')).toMatchObject({ verdict: 'rejected' });
    expect(await outlier(room, 'invite')).toBe('rejected');
    const [first] = await entriesOf(room, 'VerdictChanged');
    expect(first).toMatchObject({
      eventId: room.id('invite'),
      was: 'accepted',
      is: 'rejected',
      through: room.id('bob'),
    });
    const [cause] = (await entries(room)).filter(({ position }) => position === first?.cause);
    expect(cause?.event).toMatchObject({ type: 'EventUnPartialStated', eventId: room.id('bob') });
  });

  test('is accepted with it, as an outlier too', async () => {
    const room = new PartialRoom(store);
    await room.join();
    await room.hold(member('left', ADMIN, 'leave', { auth: ['create', 'power', 'admin'] }));
    await room.push(member('ban', BOB, 'ban', { sender: ADMIN, prev: ['join'], ...ofAdmin }));
    await room.push({ ...bob, prev: ['ban'] });
    await insertOutlier(room, invite, 'rejected');
    await room.fetch('create', 'left', 'power', 'rules');
    expect(await room.event('bob')).toMatchObject({ verdict: 'rejected', partial: true });
    await room.walk();
    expect(await room.event('bob')).toMatchObject({ verdict: 'accepted', partial: false });
    expect(await outlier(room, 'invite')).toBe('accepted');
  });
});

test('an outlier that is taken into the timeline with another verdict turns what was judged by it', async () => {
  const room = new PartialRoom(store);
  await room.join();
  await room.hold(member('ban', BOB, 'ban', { sender: ADMIN, auth: ['create', 'power', 'admin'] }));
  await room.hold({ ...bob, prev: ['join'] }, invite);
  await room.fetch(...KNOWN, 'ban');
  await room.walk();
  expect(room.rings).toBe(0);
  await room.push({ ...bob, prev: ['join'] });
  expect(await room.event('bob')).toMatchObject({ verdict: 'rejected', partial: false });
  expect(room.rings).toBe(1);
  await room.correct();
  expect(await outlier(room, 'invite')).toBe('rejected');
});

describe('what a state lacks', () => {
  test('gets its places when it is found, with what waited for it, and the room is whole then', async () => {
    const room = new PartialRoom(store);
    await room.join();
    await insertOutlier(room, invite, 'unjudged');
    await room.fetch(...KNOWN);
    const omissions = { leftOut: [room.id('bob'), room.id('invite')], awaited: [room.id('bob')] };
    await recordOmissions(store, room.roomId, room.id('before'), omissions);
    await room.walk();
    await room.push(message('said', ADMIN, { prev: ['join'], ...ofAdmin }));

    await room.hold(bob);
    await room.journal({ type: 'MissingSought', found: 1, foundIds: [room.id('bob')], left: 0, wakeAt: null, at: 9 });
    const after = await room.correct();
    expect(await outlier(room, 'invite')).toBe('accepted');
    expect(await stateAfter(room, 'before')).toEqual(ids(room, ...KNOWN, 'bob', 'invite'));
    expect(await stateAfter(room, 'said')).toEqual(ids(room, ...KNOWN, 'bob', 'invite', 'join'));
    expect(await idsIn(room, after.currentState!)).toEqual(ids(room, ...KNOWN, 'bob', 'invite', 'join'));
    expect(after).toMatchObject({ partial: false, resync: { phase: 'complete', members: 3 } });
    const corrected = await entriesOf(room, 'AnchorCorrected');
    expect(corrected.map(({ because, putIn }) => [because, putIn])).toEqual([
      ['found', [room.id('bob')]],
      ['found', [room.id('invite')]],
    ]);
  });

  test('gets its place when whoever fetches something else judges it first', async () => {
    const room = new PartialRoom(store);
    await room.join();
    await insertOutlier(room, invite, 'unjudged');
    await room.fetch(...KNOWN);
    const omissions = { leftOut: [room.id('bob'), room.id('invite')], awaited: [room.id('bob')] };
    await recordOmissions(store, room.roomId, room.id('before'), omissions);
    await room.walk();
    await insertOutlier(room, bob, 'unjudged');
    const fetched = ids(room, ...KNOWN, 'bob', 'invite');
    const judge = (tx: Store | Transaction) =>
      judgeOutliers(tx, room.roomId, rulesOfJoined('10'), fetched, () => undefined);
    const undone = withTransaction(store, async (tx) => {
      await judge(tx);
      throw new Error('undone');
    });
    await expect(undone).rejects.toThrow('undone');
    expect(told).not.toContain(room.roomId);
    await judge(store);
    expect(told.filter((roomId) => roomId === room.roomId)).toHaveLength(1);
    const after = await room.correct();
    expect(await stateAfter(room, 'before')).toEqual(fetched);
    expect(await idsIn(room, after.currentState!)).toEqual(ids(room, ...KNOWN, 'bob', 'invite', 'join'));
    expect(await countCorrectionsDue(store, room.roomId)).toBe(0);
  });

  test('gets its place when whoever fetches something else judges what it waits for, and not the event', async () => {
    const room = new PartialRoom(store);
    await room.join();
    const joined = member('carol', CAROL, 'join', { auth: [...AUTH, 'invite'] });
    await insertOutlier(room, invite, 'unjudged');
    await insertOutlier(room, joined, 'unjudged');
    await room.fetch(...KNOWN);
    const answer = await judgeAnswer(room, ...KNOWN, 'invite', 'carol');
    const omissions = { leftOut: [room.id('carol')], awaited: awaitedBy(answer) };
    await recordOmissions(store, room.roomId, room.id('before'), omissions);
    await room.walk();
    await insertOutlier(room, bob, 'unjudged');
    const fetched = ids(room, ...KNOWN, 'bob', 'invite');
    await judgeOutliers(store, room.roomId, rulesOfJoined('10'), fetched, () => undefined);
    await room.correct();
    expect(await stateAfter(room, 'before')).toEqual(ids(room, ...KNOWN, 'carol'));
  });

  test('gets its place when what it waits for comes first without its proof, and whoever has that judges it alone', async () => {
    const room = new PartialRoom(store);
    await room.join();
    const joined = member('carol', CAROL, 'join', { auth: [...AUTH, 'invite'] });
    await insertOutlier(room, joined, 'unjudged');
    await room.fetch(...KNOWN);
    const answer = await judgeAnswer(room, ...KNOWN, 'carol');
    const omissions = { leftOut: [room.id('carol')], awaited: awaitedBy(answer) };
    expect(omissions.awaited).toEqual([room.id('invite')]);
    await recordOmissions(store, room.roomId, room.id('before'), omissions);
    await room.walk();
    await insertOutlier(room, invite, 'unjudged');
    await judgeAnswer(room, ...KNOWN, 'invite');
    await insertOutlier(room, bob, 'unjudged');
    await judgeAnswer(room, ...KNOWN, 'bob');
    await room.correct();
    expect(await stateAfter(room, 'before')).toEqual(ids(room, ...KNOWN, 'carol'));
  });

  test('gets its places when it is pushed, too', async () => {
    const room = new PartialRoom(store);
    await room.join();
    await insertOutlier(room, invite, 'unjudged');
    await room.fetch(...KNOWN);
    const omissions = { leftOut: [room.id('invite')], awaited: [room.id('bob')] };
    await recordOmissions(store, room.roomId, room.id('before'), omissions);
    await room.walk();
    await room.push({ ...bob, prev: ['join'] });
    expect(room.rings).toBe(1);
    const after = await room.correct();
    expect(await stateAfter(room, 'before')).toEqual(ids(room, ...KNOWN, 'invite'));
    expect(await idsIn(room, after.currentState!)).toEqual(ids(room, ...KNOWN, 'bob', 'invite', 'join'));
  });
});

test('our join, rejected with what it rested on after the room was whole, has failed, and the stay ends', async () => {
  const room = await wholeRoom();
  await turn(room, 'rules', 'rejected');
  const after = await room.correct();
  expect(await room.event('join')).toMatchObject({ verdict: 'rejected' });
  expect(after).toMatchObject({ partial: false, resync: { phase: 'ended', nextWakeAt: null } });
  expect(after.resync.refusedJoin).toContain(ME);
  expect(await entriesOf(room, 'JoinRejected')).toMatchObject([{ joinEventId: room.id('join'), userId: ME }]);
});

describe('a gap whose state was assumed', () => {
  async function assumed(): Promise<PartialRoom> {
    const room = new PartialRoom(store);
    await room.join();
    const assumedState = await room.state(...AUTH, 'join');
    const origin = 'there.test' as ServerName;
    await room.journal({ type: 'GapOpened', eventIds: [room.id('gap')], origin, assumedState, at: 3 });
    await room.hold(bob);
    await room.push(message('over', BOB, { prev: ['gap'], ...ofBob }));
    await room.push(message('next', ADMIN, { prev: ['over'], ...ofAdmin }));
    await room.fetch(...KNOWN);
    await room.walk();
    expect(await entriesOf(room, 'GapsAssumed')).toHaveLength(1);
    expect(await room.event('over')).toMatchObject({ verdict: 'rejected', partial: false });
    return room;
  }

  test('and turns out otherwise is a correction of what builds on it', async () => {
    const room = await assumed();
    const snapshotId = await room.state(...KNOWN, 'bob', 'join');
    const counts = { state: 6, authChain: 0, members: 3, fetched: 0, alreadyHeld: 6, dropped: 0 };
    const resident = 'there.test' as ServerName;
    const closed = { type: 'GapClosed', eventId: room.id('gap'), resident, snapshotId, counts } as const;
    await room.journal({ ...closed, digest: 'd'.repeat(64), at: 9 });
    const after = await room.correct();
    expect(await room.event('over')).toMatchObject({ verdict: 'accepted' });
    expect(await stateAfter(room, 'next')).toEqual(ids(room, ...KNOWN, 'bob', 'join'));
    expect(await room.extremities()).toEqual([room.id('join'), room.id('next')].sort());
    expect(after).toMatchObject({ partial: false, resync: { phase: 'complete' } });
    expect(await idsIn(room, after.currentState!)).toEqual(ids(room, ...KNOWN, 'bob', 'join'));
  });

  test('is filled by its event, whose own state counts then', async () => {
    const room = await assumed();
    await room.push(member('gap', CAROL, 'join', { prev: ['join'], auth: AUTH }));
    expect(await room.event('gap')).toMatchObject({ verdict: 'accepted', partial: false });
    await room.correct();
    expect(await stateAfter(room, 'next')).toEqual(ids(room, ...KNOWN, 'gap', 'join'));
  });
});

test('an event that turns with one that it cites is due to that one, and to an entry', async () => {
  const room = await wholeRoom();
  const renamed = { membership: 'join', displayname: 'b' };
  await room.push(member('bob2', BOB, 'join', { prev: ['join'], auth: [...AUTH, 'bob'], content: renamed }));
  await room.push(member('kick', BOB, 'ban', { sender: ADMIN, prev: ['bob2'], ...ofAdmin }));
  await room.push(message('between', ADMIN, { prev: ['kick'], ...ofAdmin }));
  const again = { sender: ADMIN, prev: ['between'], auth: ['create', 'power', 'admin', 'bob2'] };
  await room.push(member('unban', BOB, 'leave', again));
  await turn(room, 'bob', 'rejected');
  await room.correct();
  const turned = await entriesOf(room, 'VerdictChanged');
  const ofUnban = turned.filter(({ eventId }) => eventId === room.id('unban'));
  expect(ofUnban).toMatchObject([{ is: 'rejected', through: room.id('bob2') }]);
  expect(turned.filter(({ cause }) => cause === 0)).toEqual([]);
});

test('states are resolved again where a verdict turns that decided between them', async () => {
  const room = await wholeRoom();
  const topic = { type: 'x', stateKey: '' };
  await room.push({
    id: 'levels',
    type: 'm.room.power_levels',
    stateKey: '',
    content: LEVELS,
    prev: ['join'],
    ...ofAdmin,
  });
  const levelled = (who: string) => ({ auth: ['create', 'levels', who] });
  await room.push({ id: 'one', ...topic, sender: BOB, content: { ts: 2 }, prev: ['levels'], ...levelled('bob') });
  await room.push({ id: 'two', ...topic, sender: ADMIN, content: { ts: 1 }, prev: ['levels'], ...levelled('admin') });
  await room.push(message('merge', ADMIN, { prev: ['one', 'two'], ...levelled('admin') }));
  await room.push(message('after', ADMIN, { prev: ['merge'], ...levelled('admin') }));
  const before = await stateAfter(room, 'after');
  await turn(room, 'bob', 'rejected');
  await room.correct();
  expect(await room.event('one')).toMatchObject({ verdict: 'rejected' });
  expect(await stateAfter(room, 'after')).toEqual(ids(room, 'create', 'admin', 'levels', 'rules', 'join', 'two'));
  await turn(room, 'bob', 'accepted');
  await room.correct();
  expect(await stateAfter(room, 'after')).toEqual(before);
});

describe('a long chain that stands on what is corrected', () => {
  const LENGTH = 450;

  async function chain(): Promise<PartialRoom> {
    const room = await wholeRoom();
    for (let start = 0; start < LENGTH; start += 50) {
      await room.push(
        ...Array.from({ length: 50 }, (_, i) => {
          const prev = start + i === 0 ? 'join' : `link-${start + i - 1}`;
          const state = (start + i) % 10 === 0 ? { type: 'x', stateKey: String((start + i) % 7) } : {};
          return { ...message(`link-${start + i}`, ADMIN, { prev: [prev], ...ofAdmin }), ...state };
        }),
      );
    }
    await turn(room, 'bob', 'rejected');
    return room;
  }

  async function isCorrectedOnce(room: PartialRoom): Promise<void> {
    expect(await countCorrectionsDue(store, room.roomId)).toBe(0);
    expect(await stateAfter(room, `link-${LENGTH - 1}`)).not.toContain(room.id('bob'));
    const changed = (await entriesOf(room, 'StatesChanged')).flatMap(({ eventIds }) => eventIds);
    // The join and all links, each once.
    expect(changed).toHaveLength(LENGTH + 1);
    expect(new Set(changed).size).toBe(LENGTH + 1);
    const { currentState } = await room.correct();
    expect(await idsIn(room, currentState!)).not.toContain(room.id('bob'));
  }

  test('is told as due to the operator while it is corrected: what is left, since when, and how far it is', async () => {
    const room = await chain();
    const due = async () => (await operatorReads(room.context).describeRoom(room.roomId)).corrections;
    const begun = await due();
    // The verdict itself, and the current state.
    expect(begun).toMatchObject({ changes: 2, events: 0, judged: 0, changed: 0 });
    expect(Math.abs(begun.oldestSince! - Date.now())).toBeLessThan(60_000);
    const progress = { signal: new AbortController().signal, heartbeat: () => undefined };
    // The state at the anchor, what rests on it, and the first batch.
    for (let taken = 0; taken < 4; taken += 1) {
      await correctSome(room.context, { roomId: room.roomId, epoch: 1 }, progress, { taken });
    }
    const halfWay = await due();
    expect(halfWay.changes + halfWay.events).toBeGreaterThan(0);
    expect(halfWay).toMatchObject({ judged: 200, changed: 200 });
    await room.correct();
    expect(await due()).toEqual({ changes: 0, events: 0, oldestSince: null, judged: 0, changed: 0 });
  });

  test('is corrected in batches that say how far they are, with fewer statements than events', async () => {
    const room = await chain();
    let statements = 0;
    const query: Store['query'] = (text, values) => {
      statements += 1;
      return store.query(text, values);
    };
    await room.correct({ ...store, query });
    expect(statements).toBeLessThan(LENGTH);
    await isCorrectedOnce(room);
    const progress = (await entriesOf(room, 'EventsCorrected')).filter(({ judged }) => judged > 0);
    expect(progress.length).toBeGreaterThanOrEqual(3);
    expect(progress.every(({ judged }) => judged <= 200)).toBe(true);
  });

  test('is corrected whatever is killed in between', async () => {
    const room = await chain();
    let kills = 0;
    for (let isDone = false, n = 3; !isDone; n += 2) {
      isDone = await room.correct(killedAt(n)).then(
        () => true,
        () => false,
      );
      kills += isDone ? 0 : 1;
    }
    expect(kills).toBeGreaterThan(3);
    await room.correct();
    await isCorrectedOnce(room);
  });

  test('is corrected once when two workers believe that they do it', async () => {
    const room = await chain();
    await Promise.all([room.correct(), room.correct()]);
    await isCorrectedOnce(room);
  });

  test('is corrected once when a commit takes effect and nobody hears of it', async () => {
    const room = await chain();
    await expect(room.correct(losesAnAnswer())).rejects.toThrow('lost');
    await room.correct();
    await isCorrectedOnce(room);
  });
});

test('what the own event of an anchor replaces comes back whenever that event turns', async () => {
  const room = new PartialRoom(store);
  await room.join();
  const levels = {
    id: 'before',
    type: 'm.room.power_levels',
    sender: ADMIN,
    stateKey: '',
    content: LEVELS,
    ...ofAdmin,
  };
  await room.hold(levels);
  const omissions = { leftOut: [room.id('power')], awaited: [] };
  await recordOmissions(store, room.roomId, room.id('before'), omissions);
  await room.fetch('create', 'admin', 'rules', 'before');
  await room.walk();
  for (const is of ['rejected', 'accepted', 'rejected', 'accepted'] as const) {
    await turn(room, 'before', is);
    await room.correct();
    const holder = is === 'accepted' ? 'before' : 'power';
    expect(await stateAfter(room, 'before')).toEqual(ids(room, 'create', 'admin', holder, 'rules'));
  }
});

test('the states at many anchors are corrected a hundred under the lock at a time, and each', async () => {
  const room = await wholeRoom();
  const gaps = Array.from({ length: 250 }, (_, i) => room.id(`gap${i}`));
  const origin = 'there.test' as ServerName;
  const snapshotId = await room.state(...KNOWN, 'bob', 'join');
  const counts = { state: 6, authChain: 0, members: 3, fetched: 0, alreadyHeld: 6, dropped: 0 };
  const closed = { type: 'GapClosed', resident: origin, snapshotId, counts, digest: 'd'.repeat(64), at: 4 } as const;
  await room.journal(
    { type: 'GapOpened', eventIds: gaps, origin, assumedState: null, at: 3 },
    ...gaps.map((eventId) => ({ ...closed, eventId })),
  );
  await turn(room, 'bob', 'rejected');
  const appended: number[] = [];
  const onAppended: Store['onAppended'] = ({ entries: all }) => {
    appended.push(all.filter(({ event }) => event.type === 'AnchorCorrected').length);
  };
  await room.correct({ ...store, onAppended });
  expect(Math.max(...appended)).toBe(100);
  expect(await entriesOf(room, 'AnchorCorrected')).toHaveLength(gaps.length + 1);
  const after = await readParents(store, room.roomId, gaps);
  const states = new Set([...after.values()].map(({ stateAfter }) => stateAfter));
  expect([...states]).toEqual([await room.state(...KNOWN, 'join')]);
  const [omitted] = await store.query<{ n: number }>(
    `SELECT count(*) AS n FROM left_out WHERE room_id = $1 AND event_id = $2`,
    [room.roomId, room.id('bob')],
  );
  expect(omitted?.n).toBe(gaps.length + 1);
  expect(await countCorrectionsDue(store, room.roomId)).toBe(0);
});

test('an event follows the turns of what it rests on, however many, and is not taken for one that rests on itself', async () => {
  const room = await wholeRoom();
  await room.push(message('said', BOB, { prev: ['join'], ...ofBob }));
  for (let turns = 0; turns < 24; turns += 1) {
    const is = turns % 2 === 0 ? 'rejected' : 'accepted';
    await turn(room, 'bob', is);
    await room.correct();
    expect(await room.event('said')).toMatchObject({ verdict: is });
  }
});

describe('in versions with chosen ids', () => {
  test('verdicts that go round come to an end, with a reason', async () => {
    const room = new PartialRoom(store, '1');
    await room.join();
    await room.fetch(...KNOWN);
    await room.walk();
    // Her leave rests on power levels that rest on her not having left.
    const levels = { id: 'levels', type: 'm.room.power_levels', stateKey: '', content: LEVELS, ...ofAdmin };
    await room.hold({ ...levels, prev: ['leave'] });
    await room.push(member('leave', ADMIN, 'leave', { prev: ['join'], auth: ['create', 'levels', 'admin'] }));
    await room.push({ ...levels, prev: ['leave'] });
    await room.correct();
    expect(await countCorrectionsDue(store, room.roomId)).toBe(0);
    const verdicts = [await room.event('leave'), await room.event('levels')];
    expect(verdicts.map((event) => event?.rule)).toContain('graph-cycle');
    const changes = await entriesOf(room, 'VerdictChanged');
    expect(changes.length).toBeLessThan(50);
    const named = changes.map(({ eventId, cause }) => `${eventId} ${cause}`);
    expect(new Set(named).size).toBe(named.length);
  });

  test('an event that is refused for its place stays refused, whatever turns', async () => {
    const room = new PartialRoom(store, '1');
    await room.join();
    await room.hold(member('bob', BOB, 'join', { prev: ['first'], auth: AUTH }));
    await room.push(message('first', BOB, { prev: ['join'], ...ofBob }));
    await room.push(member('bob', BOB, 'join', { prev: ['first'], auth: AUTH }));
    await room.fetch(...KNOWN);
    await room.walk();
    expect(await room.event('bob')).toMatchObject({ verdict: 'rejected', rule: 'graph-cycle' });
    await turn(room, 'rules', 'rejected');
    await room.correct();
    await turn(room, 'rules', 'accepted');
    await room.correct();
    expect(await room.event('bob')).toMatchObject({ verdict: 'rejected', rule: 'graph-cycle' });
  });
});

test('an event that was too much for us has another turn once what was to be corrected before it is', async () => {
  const room = await wholeRoom();
  const { roomId } = room;
  const eventId = room.id('wide');
  await stagePdus(store, 'there.test' as ServerName, [{ roomId, eventId, raw: Buffer.from('{}'), waitsFor: [] }]);
  const rows = () =>
    store.query<{ nid: number; isDue: boolean }>(
      `SELECT nid, not_before <= extract(epoch FROM clock_timestamp()) * 1000 AS "isDue" FROM staged_pdus WHERE event_id = $1`,
      [eventId],
    );
  const [{ nid } = { nid: 0 }] = await rows();
  await setStagedAside(store, [{ nid, reason: 'too large', waitsFor: [eventId], delayMs: 900_000 }]);
  await room.correct();
  expect(await rows()).toMatchObject([{ isDue: false }]);
  await turn(room, 'bob', 'rejected');
  await room.correct();
  expect(await rows()).toMatchObject([{ isDue: true }]);
});
