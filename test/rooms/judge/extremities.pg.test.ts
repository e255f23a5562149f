import { afterAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { type ServerName, type UserId } from '../../../src/matrix/identifiers.ts';
import { admitEvents } from '../../../src/rooms/judge/admit.ts';
import { prepareGround, sendEvent } from '../../../src/rooms/send/send-event.ts';
import { stateOfExtremities } from '../../../src/rooms/resync/state-of-extremities.ts';
import { readRoom } from '../../../src/store/journal/rooms.ts';
import { resolutionName } from '../../../src/store/snapshots/resolution-cache.ts';
import { keyOf } from '../../matrix/sample-event.ts';
import { expectFoldsRebuilt } from '../../support/folds.ts';
import { openTestStore } from '../../support/postgres.ts';
import { statementsOf } from '../../support/statements.ts';
import { ADMIN, ME, PartialRoom, member, message } from '../resync/partial-room.ts';

const THERE = 'there.test' as ServerName;
const SPEAKER = '@speaker:there.test' as UserId;
const AUTH = ['create', 'power', 'admin'];
const KNOWN = ['create', 'power', 'rules', 'admin'];

const { store } = await openTestStore({ serverName: 'here.test' });
afterAll(() => expectFoldsRebuilt(store));

async function wholeRoom(): Promise<PartialRoom> {
  const room = new PartialRoom(store);
  await room.join();
  await room.fetch(...KNOWN);
  await room.walk();
  return room;
}

/** What the current state has to be. */
async function resolved(room: PartialRoom): Promise<string> {
  return stateOfExtremities(store, room.roomId, await room.extremities());
}

test('a rejected event that connects what is before it with what is after it leaves one current state', async () => {
  const room = await wholeRoom();
  const topic = (id: string, prev: string) => ({
    ...{ id, type: 'm.room.topic', stateKey: '', sender: ADMIN, content: { topic: id }, prev: [prev], auth: AUTH },
  });
  await room.push(topic('zzz', 'join'));
  const snapshotId = await room.state(...KNOWN, 'join', 'zzz');
  const counts = { state: 6, authChain: 0, members: 2, fetched: 0, alreadyHeld: 0, dropped: 0 };
  const closed = { resident: THERE, snapshotId, counts, digest: 'd'.repeat(64), at: 4 };
  await room.journal(
    { type: 'GapOpened', eventIds: [room.id('between')], origin: THERE, assumedState: null, at: 3 },
    { type: 'GapClosed', eventId: room.id('between'), ...closed },
  );
  await room.push(topic('aaa', 'between'));
  await room.push(message('between', '@nobody:there.test', { prev: ['zzz'], auth: ['create', 'power'] }));
  expect(await room.extremities()).toEqual([room.id('aaa')]);
  expect((await readRoom(store, room.roomId))?.currentState).toBe(await resolved(room));
});

test('an event that comes after what builds on it is none of the newest, and the current state is the one after these', async () => {
  const room = await wholeRoom();
  const levels = { users: { [ADMIN]: 100 }, events_default: 0 };
  const power = {
    id: 'power2',
    type: 'm.room.power_levels',
    stateKey: '',
    content: levels,
    prev: ['join'],
    auth: AUTH,
  };
  await room.push(power);
  const snapshotId = await room.state('create', 'power2', 'rules', 'admin', 'join');
  const counts = { state: 5, authChain: 0, members: 2, fetched: 0, alreadyHeld: 0, dropped: 0 };
  const closed = { resident: THERE, snapshotId, counts, digest: 'd'.repeat(64), at: 4 };
  await room.journal(
    { type: 'GapOpened', eventIds: [room.id('missed')], origin: THERE, assumedState: null, at: 3 },
    { type: 'GapClosed', eventId: room.id('missed'), ...closed },
  );
  const topic = (id: string, prev: string, levelsId: string) => ({
    ...{ id, type: 'm.room.topic', stateKey: '', sender: ADMIN, content: { topic: id } },
    ...{ prev: [prev], auth: ['create', levelsId, 'admin'] },
  });
  // A resolution of the states after both would prefer the first one, which cites the newer power levels.
  await room.push(topic('over', 'missed', 'power'));
  await room.push(topic('missed', 'power2', 'power2'));
  expect(await room.extremities()).toEqual([room.id('over')]);
  expect((await readRoom(store, room.roomId))?.currentState).toBe(await resolved(room));
});

test('a topic behind more rejected events than anybody counts gives way to the one that comes after them', async () => {
  const room = await wholeRoom();
  const topic = (id: string, prev: string) => ({
    ...{ id, type: 'm.room.topic', stateKey: '', sender: ADMIN, content: { topic: id }, prev: [prev], auth: AUTH },
  });
  await room.push(topic('old', 'join'));
  for (let batch = 0; batch < 11; batch += 1) {
    const refused = Array.from({ length: 50 }, (_, i) => {
      const prev = batch + i === 0 ? 'old' : `refused-${batch * 50 + i - 1}`;
      return message(`refused-${batch * 50 + i}`, '@nobody:there.test', { prev: [prev], auth: ['create', 'power'] });
    });
    const admissions = await room.push(...refused);
    expect(new Set(admissions.map((admission) => 'verdict' in admission && admission.verdict))).toEqual(
      new Set(['rejected']),
    );
  }
  await room.push(topic('new', 'refused-549'));
  expect(await room.extremities()).toEqual([room.id('new')]);
  const current = await readRoom(store, room.roomId);
  expect(current?.currentState).toBe(await room.state(...KNOWN, 'join', 'new'));
  expect(current?.currentState).toBe(await resolved(room));
}, 60_000);

test('hundreds of branches by somebody who may speak keep nobody else from it', async () => {
  const room = await wholeRoom();
  const auth = ['create', 'power', 'rules'];
  await room.push(member('speaker', SPEAKER, 'join', { prev: ['join'], auth }));
  for (let batch = 0; batch < 13; batch += 1) {
    const branches = Array.from({ length: 40 }, (_, i) => {
      const content = { membership: 'join', displayname: `${batch} ${i}` };
      return member(`${batch}-${i}`, SPEAKER, 'join', { prev: ['speaker'], auth: [...auth, 'speaker'], content });
    });
    const admissions = await room.push(...branches);
    expect(new Set(admissions.map(({ outcome }) => outcome))).toEqual(new Set(['admitted']));
  }
  for (const prev of ['join', 'speaker']) {
    const [said] = await room.push(message(`after ${prev}`, ADMIN, { prev: [prev], auth: AUTH }));
    expect(said).toMatchObject({ outcome: 'admitted', verdict: 'accepted' });
  }
  expect((await room.extremities()).length).toBeGreaterThan(500);
  expect((await readRoom(store, room.roomId))?.currentState).toBe(await resolved(room));

  // What one more of them costs does not grow with the others.
  const resolutions = vi.spyOn(store.caches.resolutions, 'set');
  const content = { membership: 'join', displayname: 'one more' };
  await room.push(member('more', SPEAKER, 'join', { prev: ['speaker'], auth: [...auth, 'speaker'], content }));
  const states = resolutions.mock.calls.map(([, snapshots]) => snapshots.length);
  expect(states.reduce((sum, each) => sum + each, 0)).toBeLessThanOrEqual(200);
}, 60_000);

test('ten thousand branches keep nobody from speaking, and an event costs no more statements after them', async () => {
  const room = await wholeRoom();
  const auth = ['create', 'power', 'rules'];
  await room.push(member('speaker', SPEAKER, 'join', { prev: ['join'], auth }));
  const say = (id: string) => message(id, SPEAKER, { prev: ['speaker'], auth: ['create', 'power', 'speaker'] });
  const sayOne = async (id: string): Promise<number> => {
    const statements = await statementsOf(async () => {
      expect(await room.push(say(id))).toMatchObject([{ outcome: 'admitted', verdict: 'accepted' }]);
    });
    return statements.length;
  };
  const ofFirst = await sayOne('first');
  for (let batch = 0; batch < 200; batch += 1) {
    await room.push(...Array.from({ length: 50 }, (_, i) => say(`${batch}-${i}`)));
  }
  expect((await room.extremities()).length).toBe(10_001);
  expect(await sayOne('last')).toBeLessThanOrEqual(ofFirst);
  const [said] = await room.push(message('after', ADMIN, { prev: ['join'], auth: AUTH }));
  expect(said).toMatchObject({ outcome: 'admitted', verdict: 'accepted' });
  expect((await readRoom(store, room.roomId))?.currentState).toBe(await resolved(room));
}, 240_000);

test('events for which a batch has no time left are as they were before, and are decided with the next', async () => {
  const room = await wholeRoom();
  const said = ['one', 'two', 'three'].map((id, i, all) =>
    message(id, ADMIN, { prev: [all[i - 1] ?? 'join'], auth: AUTH }),
  );
  await room.insert(...said);
  const ids = said.map(({ id }) => room.id(id));
  let now = 0;
  const context = { ...room.context, clock: { now: () => (now += 600) } };
  const outcomes = async () => [...(await admitEvents(context, room.roomId, ids, { msMax: 1_000 })).values()];
  expect(await outcomes()).toMatchObject([{ outcome: 'admitted' }, { outcome: 'admitted' }, { outcome: 'left' }]);
  expect(await room.event('three')).toBeUndefined();
  expect(await room.extremities()).toEqual([room.id('two')]);
  expect(await outcomes()).toMatchObject([{ outcome: 'known' }, { outcome: 'known' }, { outcome: 'left' }]);
  expect([...(await admitEvents(context, room.roomId, ids.slice(2), { msMax: 0 })).values()]).toMatchObject([
    { outcome: 'admitted' },
  ]);
  expect(await room.extremities()).toEqual([room.id('three')]);
});

test('an event upon a missed one is judged by the current state alone, also where both come together', async () => {
  const room = await wholeRoom();
  const auth = ['create', 'power', 'rules'];
  const rules = { type: 'm.room.join_rules', stateKey: '', sender: ADMIN, prev: ['speaker'], auth: AUTH };
  await room.push(member('speaker', SPEAKER, 'join', { prev: ['join'], auth }));
  await room.push({ ...rules, id: 'a-rules', content: { join_rule: 'invite' } });
  await room.push(member('went', SPEAKER, 'leave', { prev: ['a-rules'], auth: ['create', 'power', 'speaker'] }));
  // What others have beside that, and would stand above it.
  await room.hold({ ...rules, id: 'z-rules', content: { join_rule: 'knock' } });
  const snapshotId = await room.state('create', 'power', 'admin', 'join', 'speaker', 'z-rules');
  const counts = { state: 6, authChain: 0, members: 3, fetched: 0, alreadyHeld: 0, dropped: 0 };
  for (const name of ['z-rules', 'missed']) {
    await room.journal(
      { type: 'GapOpened', eventIds: [room.id(name)], origin: THERE, assumedState: null, at: 3 },
      {
        ...{ type: 'GapClosed', eventId: room.id(name), resident: THERE, snapshotId, counts },
        ...{ digest: 'd'.repeat(64), at: 4 },
      },
    );
  }
  const knocker = '@knocker:there.test' as UserId;
  const softFailed = { outcome: 'admitted', verdict: 'softFailed' };
  expect(
    await room.push(
      message('missed', SPEAKER, { prev: ['z-rules'], auth: ['create', 'power', 'speaker'] }),
      member('knock', knocker, 'knock', { prev: ['missed'], auth: ['create', 'power', 'z-rules'] }),
    ),
  ).toEqual([softFailed, softFailed]);
});

test('for an event of ours in a room of many ends nothing is left to be resolved under the lock', async () => {
  const room = await wholeRoom();
  const ends = Array.from({ length: 30 }, (_, i) => ({
    ...{ id: `end-${i}`, type: 'm.room.topic', stateKey: '', sender: ADMIN, content: { topic: `${i}` } },
    ...{ prev: ['join'], auth: AUTH },
  }));
  await room.push(...ends);
  expect((await room.extremities()).length).toBe(30);
  const context = { ...room.context, signingKey: keyOf(store.serverName) };
  const said = { sender: ME as UserId, type: 'm.room.message', content: { body: 'x' } };
  await prepareGround(context, room.roomId, said);
  const resolutions = vi.spyOn(store.caches.resolutions, 'set').mockClear();
  onTestFinished(() => resolutions.mockRestore());
  await sendEvent(context, room.roomId, said);
  expect(resolutions).not.toHaveBeenCalled();
  expect((await room.extremities()).length).toBe(11);
});

describe('where the ends of a room take long to resolve', () => {
  const topic = (id: string) => ({
    ...{ id, type: 'm.room.topic', stateKey: '', sender: ADMIN, content: { topic: id }, prev: ['join'], auth: AUTH },
  });

  test('an event that adds to them waits, and those beside it do not', async () => {
    const room = await wholeRoom();
    await room.push(topic('aaa'));
    await room.insert(topic('zzz'), message('after', ADMIN, { prev: ['aaa'], auth: AUTH }));
    const states = [await room.state(...KNOWN, 'join', 'aaa'), await room.state(...KNOWN, 'join', 'zzz')].sort();
    const ids = [room.id('zzz'), room.id('after')];
    const outcomes = async () => [...(await admitEvents(room.context, room.roomId, ids, { msMax: 60_000 })).entries()];
    // As a process is that is at it.
    store.caches.longResolution.name = resolutionName(room.roomId, states);
    onTestFinished(() => void (store.caches.longResolution.name = null));
    expect(new Map(await outcomes())).toEqual(
      new Map([
        [room.id('zzz'), { outcome: 'unresolved', reason: 'its states are still being resolved' }],
        [room.id('after'), { outcome: 'admitted', verdict: 'accepted' }],
      ]),
    );
    expect(await room.extremities()).toEqual([room.id('after')]);
    store.caches.longResolution.name = null;
    expect(new Map(await outcomes()).get(room.id('zzz'))).toEqual({ outcome: 'admitted', verdict: 'accepted' });
    expect((await room.extremities()).toSorted()).toEqual([room.id('after'), room.id('zzz')].sort());
    expect((await readRoom(store, room.roomId))?.currentState).toBe(await resolved(room));
  });

  test('whoever loses to others again and again holds the room no longer than its time', async () => {
    const room = await wholeRoom();
    await room.push(topic('aaa'));
    await room.insert(topic('zzz'));
    let begun = 0;
    const pool = new Proxy(store.pool, {
      get: (target, name) => {
        if (name !== 'connect') return Reflect.get(target, name, target) as unknown;
        return async () => {
          begun += 1;
          // Others are always there first; the last time it is under the lock, and all of its time has passed.
          await room.push(topic(`other-${String(begun)}`));
          if (begun === 4) vi.spyOn(AbortSignal, 'timeout').mockReturnValue(AbortSignal.abort());
          return target.connect();
        };
      },
    });
    onTestFinished(() => void vi.restoreAllMocks());
    const losing = { ...room.context, store: { ...store, pool } };
    const waits = { outcome: 'unresolved', reason: 'its states take long to resolve' };
    expect([...(await admitEvents(losing, room.roomId, [room.id('zzz')], { msMax: 60_000 })).values()]).toEqual([
      waits,
    ]);
    expect(begun).toBe(4);
    vi.restoreAllMocks();
    await room.push(topic('zzz'));
    expect((await room.extremities()).length).toBe(6);
    expect((await readRoom(store, room.roomId))?.currentState).toBe(await resolved(room));
  });
});
