import { afterAll, describe, expect, test } from 'vitest';
import { type ServerName, type UserId } from '../../../src/matrix/identifiers.ts';
import { roomVersionRules } from '../../../src/matrix/room-versions.ts';
import { type SnapshotId } from '../../../src/resync/events.ts';
import { resolveInSteps } from '../../../src/rooms/judge/resolve-in-steps.ts';
import { resolveSnapshots } from '../../../src/rooms/judge/resolve.ts';
import { walkPartialEvents } from '../../../src/rooms/resync/walk.ts';
import { readSnapshot } from '../../../src/store/snapshots/snapshots.ts';
import { type Store } from '../../../src/store/open-store.ts';
import { readPartialAnchors } from '../../../src/store/events/anchors.ts';
import { countPartial } from '../../../src/store/events/event-states.ts';
import { readEventFacts } from '../../../src/store/events/event-story.ts';
import { readJournal } from '../../../src/store/journal/journal.ts';
import { isAnybodyIn, readRoom } from '../../../src/store/journal/rooms.ts';
import { expectFoldsRebuilt } from '../../support/folds.ts';
import { openTestStore } from '../../support/postgres.ts';
import { ADMIN, ME, PartialRoom, member, message } from './partial-room.ts';

const { store } = await openTestStore();
afterAll(() => expectFoldsRebuilt(store));

const BOB = '@bob:there.test';
const AUTH = ['create', 'power', 'rules'];
const KNOWN = ['create', 'admin', 'power', 'rules'];

async function joined(version?: string): Promise<PartialRoom> {
  const room = new PartialRoom(store, version);
  await room.join();
  return room;
}

test('an event made beside our join has its parents, and so has everything after it', async () => {
  const room = await joined();
  const admin = { auth: ['create', 'power', 'admin'] };
  const pushed = await room.push(
    message('beside', ADMIN, { prev: ['before'], ...admin }),
    message('after', ADMIN, { prev: ['join', 'beside'], ...admin }),
  );
  expect(pushed).toMatchObject([{ verdict: 'accepted' }, { verdict: 'accepted' }]);
  await room.fetch(...KNOWN);
  expect(await room.walk()).toMatchObject({ partial: false, resync: { phase: 'complete', walked: 3, corrected: 0 } });
  expect(await room.extremities()).toEqual([room.id('after')]);
  const decidedBy = new Set((await readEventFacts(store, room.roomId, room.id('beside')))?.authState);
  expect(decidedBy).toEqual(new Set([room.id('create'), room.id('power'), room.id('admin')]));
  expect(await room.push(message('later', ADMIN, { prev: ['before'], ...admin }))).toMatchObject([
    { verdict: 'accepted' },
  ]);
});

test('the state after an event that the full state refuses is the one before it, and what builds on it goes on from there', async () => {
  const room = await joined();
  await room.hold(
    member('bob', BOB, 'join', { auth: AUTH }),
    member('ban', BOB, 'ban', { sender: ADMIN, auth: ['create', 'power', 'admin', 'bob'] }),
  );
  const content = { membership: 'join', displayname: 'Bob' };
  const renamed = member('renamed', BOB, 'join', { prev: ['join'], auth: [...AUTH, 'bob'], content });
  expect(await room.push(renamed)).toMatchObject([{ verdict: 'accepted' }]);
  await room.push(message('after', ADMIN, { prev: ['renamed'], auth: ['create', 'power', 'admin'] }));
  expect(await room.event('after')).toMatchObject({ stateBefore: (await room.event('renamed'))?.stateAfter });
  await room.fetch(...KNOWN, 'ban');
  await room.walk();
  const state = await room.state(...KNOWN, 'ban', 'join');
  expect(await room.event('renamed')).toMatchObject({ verdict: 'rejected', stateBefore: state, stateAfter: state });
  expect(await room.event('after')).toMatchObject({ verdict: 'accepted', stateBefore: state });
});

test("a partial event of another room, cited as auth event, freezes nobody's walk", async () => {
  const [room, other] = [await joined(), await joined()];
  const foreign = other.id('join');
  await room.push(message('citing', ADMIN, { prev: ['join'], auth: ['create', 'power', 'admin', foreign] }));
  await room.fetch(...KNOWN);
  expect(await room.walk()).toMatchObject({ partial: false, resync: { phase: 'complete' } });
  expect((await room.event('citing'))?.verdict).not.toBe('accepted');
});

test("an event of another room is no parent, whatever that room's state allows", async () => {
  const [room, other] = [await joined(), await joined()];
  const pushed = await room.push(message('dodging', ADMIN, { prev: [other.id('join')], auth: AUTH }));
  expect(pushed).toMatchObject([{ outcome: 'waits', missingParents: [other.id('join')] }]);
});

test('in versions with chosen ids, events that cite each other end in a verdict with a reason, and freeze nothing', async () => {
  const room = await joined('1');
  // Held as an auth event of the first before it is pushed itself, after the first.
  await room.hold(member('bob', BOB, 'join', { prev: ['first'], auth: AUTH }));
  await room.push(message('first', BOB, { prev: ['join'], auth: ['create', 'power', 'bob'] }));
  await room.push(member('bob', BOB, 'join', { prev: ['first'], auth: AUTH }));
  await room.push(message('honest', ADMIN, { prev: ['bob'], auth: ['create', 'power', 'admin'] }));
  await room.fetch(...KNOWN);
  expect(await room.walk()).toMatchObject({ partial: false, resync: { phase: 'complete' } });
  expect(await room.event('bob')).toMatchObject({ partial: false, verdict: 'rejected', rule: 'graph-cycle' });
  expect(await room.event('first')).toMatchObject({ partial: false, verdict: 'rejected', rule: 'auth-event-rejected' });
  expect(await room.event('honest')).toMatchObject({ partial: false, verdict: 'accepted' });
});

test('events over a gap that stays open are judged by what is known, and the room does not wait for them', async () => {
  const room = await joined();
  const assumedState = await room.state(...AUTH, 'join');
  await room.journal({
    type: 'GapOpened',
    eventIds: [room.id('gap')],
    origin: 'there.test' as ServerName,
    assumedState,
    at: 3,
  });
  const admin = { auth: ['create', 'power', 'admin'] };
  await room.push(
    message('over', ADMIN, { prev: ['gap'], ...admin }),
    message('next', ADMIN, { prev: ['over'], ...admin }),
  );
  await room.push(message('apart', ADMIN, { prev: ['join'], ...admin }));
  await room.fetch(...KNOWN);
  expect(await room.walk()).toMatchObject({ partial: false, resync: { phase: 'complete', walked: 4 } });
  expect(await countPartial(store, room.roomId)).toBe(0);
  expect(await room.extremities()).toEqual([room.id('apart'), room.id('next')].sort());
});

describe('where the state at our join names what builds on a gap', () => {
  async function leaving(): Promise<PartialRoom> {
    const room = await joined();
    await room.hold(member('bob', BOB, 'join', { auth: AUTH }));
    const assumedState = await room.state(...AUTH, 'join');
    const origin = 'there.test' as ServerName;
    await room.journal({ type: 'GapOpened', eventIds: [room.id('gap')], origin, assumedState, at: 3 });
    await room.push({ ...member('left', BOB, 'leave', { prev: ['gap'] }), auth: ['create', 'power', 'bob'] });
    return room;
  }

  async function turns(room: PartialRoom): Promise<readonly string[]> {
    const journal = await readJournal(store, { roomId: room.roomId, sincePosition: 0, limit: 1_000 });
    return journal.map(({ event }) => event.type).filter((type) => type === 'VerdictChanged');
  }

  test('it is judged by what it cites as having been there before, and not by itself', async () => {
    const room = await leaving();
    await room.fetch(...KNOWN, 'left');
    expect(await room.walk()).toMatchObject({ partial: false, resync: { phase: 'complete' } });
    expect(await room.event('left')).toMatchObject({ verdict: 'accepted', partial: false });
    expect(await turns(room)).toEqual([]);
  });

  test('nor by what cites it', async () => {
    const room = await leaving();
    const ban = { sender: ADMIN, auth: ['create', 'power', 'admin', 'left'] };
    await room.hold(member('ban', BOB, 'ban', ban));
    await room.fetch(...KNOWN, 'ban');
    expect(await room.walk()).toMatchObject({ partial: false, resync: { phase: 'complete' } });
    expect(await room.event('left')).toMatchObject({ verdict: 'accepted', partial: false });
    expect(await turns(room)).toEqual([]);
  });

  test('what has nothing before it at its place is judged without it', async () => {
    const room = await joined();
    const assumedState = await room.state(...AUTH, 'join');
    const origin = 'there.test' as ServerName;
    await room.journal({ type: 'GapOpened', eventIds: [room.id('gap')], origin, assumedState, at: 3 });
    await room.push(member('bob', BOB, 'join', { prev: ['gap'], auth: AUTH }));
    await room.fetch(...KNOWN, 'bob');
    await room.walk();
    expect(await room.event('bob')).toMatchObject({ verdict: 'accepted', partial: false });
    const { stateBefore } = (await room.event('bob'))!;
    expect(await readSnapshot(store, room.roomId, stateBefore, { userIds: [BOB as UserId] })).toEqual([]);
  });
});

describe('a gap at which nothing stands yet', () => {
  const opened = async (room: PartialRoom, ...names: readonly string[]) => {
    const assumedState = await room.state(...AUTH, 'join');
    const eventIds = names.map((name) => room.id(name));
    await room.journal({ type: 'GapOpened', eventIds, origin: 'there.test' as ServerName, assumedState, at: 3 });
  };
  const over = (name: string, gap: string) => message(name, ADMIN, { prev: [gap], auth: ['create', 'power', 'admin'] });

  test('leaves nothing partial behind: what comes to stand on it in the whole room is full', async () => {
    const room = await joined();
    await room.fetch(...KNOWN);
    await opened(room, 'gap');
    expect(await room.walk()).toMatchObject({ partial: false, resync: { phase: 'complete' } });
    expect(await readPartialAnchors(store, room.roomId)).toEqual([]);
    await room.push(over('over', 'gap'), over('next', 'over'));
    expect(await room.event('over')).toMatchObject({ verdict: 'accepted', partial: false });
    expect(await room.event('next')).toMatchObject({ verdict: 'accepted', partial: false });
  });

  test('and which others cite as auth event, keeps none of these from being judged by its verdict', async () => {
    const room = await joined();
    await room.hold(member('bob', BOB, 'join', { prev: ['elsewhere'], auth: AUTH }));
    await room.push(message('said', BOB, { prev: ['join'], auth: ['create', 'power', 'bob'] }));
    await room.fetch(...KNOWN, 'bob');
    // The walk has come as far as these.
    const [before, after] = [await room.state(...KNOWN, 'bob'), await room.state(...KNOWN, 'bob', 'join')];
    const accepted = { type: 'EventUnPartialStated', was: 'accepted', is: 'accepted', stateAfter: after } as const;
    await room.journal(
      { ...accepted, eventId: room.id('join'), stateBefore: before },
      { ...accepted, eventId: room.id('said'), stateBefore: after },
    );
    await opened(room, 'bob');
    await room.push(over('stranger', 'bob'));
    const why = { cause: 1, rule: 'auth-event-rejected', reason: 'it cites what is rejected' };
    await room.journal({ type: 'VerdictChanged', eventId: room.id('bob'), was: 'accepted', is: 'rejected', ...why });
    const ended = new AbortController();
    let beats = 0;
    const heartbeat = (): void => {
      if ((beats += 1) > 500) ended.abort();
    };
    await walkPartialEvents(room.context, room.roomId, 1, { signal: ended.signal, heartbeat });
    expect(await room.event('said')).toMatchObject({ verdict: 'rejected', partial: false });
    expect(await room.event('stranger')).toMatchObject({ verdict: 'accepted', partial: false });
    expect(await readRoom(store, room.roomId)).toMatchObject({ partial: false, resync: { phase: 'complete' } });
  });

  test('is assumed something of first, where it is opened while the completion is worked out', async () => {
    const room = await joined();
    await room.fetch(...KNOWN);
    let isOpened = false;
    const query: Store['query'] = async (statement, values) => {
      if (!isOpened && statement.includes('e.epoch = r.epoch')) {
        isOpened = true;
        await opened(room, 'gap');
      }
      return store.query(statement, values);
    };
    expect(await room.walk({ ...store, query })).toMatchObject({ partial: false, resync: { phase: 'complete' } });
    expect(isOpened).toBe(true);
    expect(await readPartialAnchors(store, room.roomId)).toEqual([]);
  });

  test('keeps the room from no end, though another one is opened whenever the walk looks', async () => {
    const room = await joined();
    await room.fetch(...KNOWN);
    let looks = 0;
    const query: Store['query'] = async (statement, values) => {
      const rows = await store.query(statement, values);
      if (statement.includes('RECURSIVE wanted')) await opened(room, `gap-${(looks += 1)}`);
      return rows as never;
    };
    expect(await room.walk({ ...store, query })).toMatchObject({ partial: false, resync: { phase: 'complete' } });
    expect(looks).toBeGreaterThan(1);
    expect(await readPartialAnchors(store, room.roomId)).toEqual([]);
  });
});

test('a join that the full state refuses has failed: the stay ends, and the state is the one that was fetched', async () => {
  const room = await joined();
  await room.hold(member('ban', ME, 'ban', { sender: ADMIN, auth: ['create', 'power', 'admin'] }));
  await room.push(message('child', ADMIN, { prev: ['join'], auth: ['create', 'power', 'admin'] }));
  await room.fetch(...KNOWN, 'ban');
  const after = await room.walk();
  expect(after).toMatchObject({ partial: false, resync: { phase: 'ended', nextWakeAt: null } });
  expect(after.resync.refusedJoin).toContain(ME);
  expect(await room.event('join')).toMatchObject({ verdict: 'rejected' });
  expect(await room.event('child')).toMatchObject({ verdict: 'accepted' });
  expect(after.currentState).toBe(await room.state(...KNOWN, 'ban'));
  expect(await isAnybodyIn(store, room.roomId)).toBe(false);
});

test('where the join is all there is and is refused, the current state is the fetched one and not an empty one', async () => {
  const room = await joined();
  await room.hold(member('ban', ME, 'ban', { sender: ADMIN, auth: ['create', 'power', 'admin'] }));
  await room.fetch(...KNOWN, 'ban');
  expect((await room.walk()).currentState).toBe(await room.state(...KNOWN, 'ban'));
});

test('an event that cites a refused join as auth event is rejected with it', async () => {
  const room = await joined();
  await room.hold(member('ban', ME, 'ban', { sender: ADMIN, auth: ['create', 'power', 'admin'] }));
  await room.push(message('mine', ME, { prev: ['join'], auth: ['create', 'power', 'join'] }));
  await room.fetch(...KNOWN, 'ban');
  await room.walk();
  expect(await room.event('mine')).toMatchObject({ verdict: 'rejected' });
});

test('an auth event that comes into the timeline while a batch is judged makes no cycle of what cites it', async () => {
  const room = await joined();
  const bob = member('bob', BOB, 'join', { prev: ['join'], auth: AUTH });
  await room.hold(bob);
  await room.push(message('bobs', BOB, { prev: ['join'], auth: ['create', 'power', 'bob'] }));
  await room.fetch(...KNOWN, 'bob');
  let isPushed = false;
  const query: Store['query'] = async (statement, values) => {
    const rows = await store.query(statement, values);
    if (!isPushed && statement.includes('RECURSIVE wanted')) {
      isPushed = true;
      await room.push(bob);
    }
    return rows as never;
  };
  expect(await room.walk({ ...store, query })).toMatchObject({ partial: false });
  expect(isPushed).toBe(true);
  expect(await room.event('bobs')).toMatchObject({ verdict: 'accepted' });
});

test('more extremities than are resolved at once are resolved in steps: the room is completed all the same', async () => {
  const room = await joined();
  await room.fetch(...KNOWN);
  const rules = roomVersionRules('10')!;
  const topics = Array.from({ length: 520 }, (_, i) => `topic-${i}`);
  await room.hold(
    ...topics.map((id, i) => ({ id, type: 'x', stateKey: String(i), auth: ['create', 'power', 'admin'] })),
  );
  const states: SnapshotId[] = [];
  for (const id of topics) states.push(await room.state(...KNOWN, id));
  await expect(resolveSnapshots(store, room.roomId, rules, states)).rejects.toThrow('too much to resolve');
  const resolved = await resolveInSteps(store, room.roomId, rules, states);
  expect(await resolveInSteps(store, room.roomId, rules, states.toReversed())).toBe(resolved);
  expect(await readSnapshot(store, room.roomId, resolved)).toHaveLength(KNOWN.length + topics.length);
});
