/** Under a room's lock no states are resolved that take long to: here, none that are not at hand. */
import pg from 'pg';
import { afterAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { type ServerName, type UserId } from '../../../src/matrix/identifiers.ts';
import { resolvingOutside } from '../../../src/rooms/judge/outside-the-lock.ts';
import { ResolutionTakesLong } from '../../../src/rooms/judge/resolve-in-time.ts';
import { correctSome } from '../../../src/rooms/resync/correct-events.ts';
import { stateOfExtremities } from '../../../src/rooms/resync/state-of-extremities.ts';
import { sendEvent } from '../../../src/rooms/send/send-event.ts';
import { createCaches } from '../../../src/store/caches.ts';
import { countCorrectionsDue, isCurrentStateDue } from '../../../src/store/events/corrections.ts';
import { readRoom } from '../../../src/store/journal/rooms.ts';
import { type Store } from '../../../src/store/open-store.ts';
import { keyOf } from '../../matrix/sample-event.ts';
import { expectFoldsRebuilt } from '../../support/folds.ts';
import { openTestStore } from '../../support/postgres.ts';
import { ADMIN, type EventInTest, ME, PartialRoom, member, message } from '../resync/partial-room.ts';

const AUTH = ['create', 'power', 'admin'];
const KNOWN = ['create', 'power', 'rules', 'admin'];

const { store } = await openTestStore({ serverName: 'here.test' });
afterAll(() => expectFoldsRebuilt(store));

/** Whatever is resolved by a deadline is late, unless it is at hand. */
beforeEach(() => {
  const late = vi.spyOn(AbortSignal, 'timeout').mockImplementation(() => AbortSignal.abort());
  return () => {
    late.mockRestore();
  };
});

function topic(id: string, prev = 'join'): EventInTest {
  return { id, type: 'm.room.topic', stateKey: '', sender: ADMIN, content: { topic: id }, prev: [prev], auth: AUTH };
}

async function partialRoom(retroSoftFail = true): Promise<PartialRoom> {
  const room = new PartialRoom(store, '10', { retroSoftFail });
  await room.join();
  await room.fetch(...KNOWN);
  return room;
}

async function wholeRoom(): Promise<PartialRoom> {
  const room = await partialRoom();
  await room.walk();
  return room;
}

/** The store of another process, in which something happens before each transaction of its. */
function beforeEachLock(happens: (transaction: number) => Promise<void>): Store {
  let begun = 0;
  const pool = new Proxy(store.pool, {
    get: (target, name) => {
      if (name !== 'connect') return Reflect.get(target, name, target) as unknown;
      return async () => {
        await happens((begun += 1));
        return target.connect();
      };
    },
  });
  return { ...store, pool, caches: createCaches() };
}

/** How often a process resolved something while a connection held the lock of a room's row, and while none did. */
async function resolvedWhile(
  { caches: { resolutions } }: Store,
  work: () => Promise<unknown>,
): Promise<{ readonly held: number; readonly free: number }> {
  const holding = new Set<unknown>();
  const resolved = { held: 0, free: 0 };
  const set = resolutions.set.bind(resolutions);
  const setting = vi.spyOn(resolutions, 'set').mockImplementation((...outcome) => {
    resolved[holding.size > 0 ? 'held' : 'free'] += 1;
    set(...outcome);
  });
  const prototype = pg.Client.prototype as unknown as { query: (...args: unknown[]) => unknown };
  const { query } = prototype;
  prototype.query = function (this: pg.Client, ...args: unknown[]) {
    const [first] = args;
    const text = typeof first === 'string' ? first : ((first as { text?: string } | null)?.text ?? '');
    if (text.includes('FROM rooms WHERE room_id = $1 FOR NO KEY UPDATE')) holding.add(this);
    return query.apply(this, args);
  };
  const released = (_error: unknown, client: pg.PoolClient): void => void holding.delete(client);
  store.pool.on('release', released);
  try {
    await work();
  } finally {
    store.pool.off('release', released);
    prototype.query = query;
    setting.mockRestore();
  }
  return resolved;
}

async function expectResolved(room: PartialRoom): Promise<void> {
  const expected = await stateOfExtremities(store, room.roomId, await room.extremities());
  expect((await readRoom(store, room.roomId))?.currentState).toBe(expected);
}

describe('an event of ours', () => {
  const said = { sender: ME as UserId, type: 'm.room.message', content: { body: 'x' } };
  const named = {
    ...{ sender: ME as UserId, type: 'm.room.member', stateKey: ME },
    content: { membership: 'join', displayname: 'Me' },
  };

  test.each([
    ['a message', said],
    ['state', named],
  ])('(%s) is taken in where others add to the ends of the room before its lock', async (_kind, draft) => {
    const room = await wholeRoom();
    // More than an event cites.
    await room.push(...Array.from({ length: 25 }, (_, i) => topic(`end-${i}`)));
    const ours = beforeEachLock(async (transaction) => {
      if (transaction <= 2) await room.push(topic(`other-${transaction}`));
    });
    const context = { ...room.context, store: ours, signingKey: keyOf(store.serverName) };
    const resolved = await resolvedWhile(ours, async () => {
      const eventId = await sendEvent(context, room.roomId, draft);
      expect(await room.extremities()).toContain(eventId);
    });
    expect(resolved).toMatchObject({ held: 0 });
    expect(resolved.free).toBeGreaterThan(0);
    await expectResolved(room);
  });

  test('is put off where others do so again and again, and leaves nothing in the room', async () => {
    const room = await wholeRoom();
    await room.push(topic('one'), topic('two'));
    const ours = beforeEachLock(async (transaction) => {
      await room.push(topic(`other-${transaction}`));
    });
    const context = { ...room.context, store: ours, signingKey: keyOf(store.serverName) };
    const resolved = await resolvedWhile(ours, async () => {
      await expect(sendEvent(context, room.roomId, said)).rejects.toMatchObject({ kind: 'busy' });
    });
    expect(resolved).toMatchObject({ held: 0 });
    expect(await room.extremities()).toHaveLength(6);
    await sendEvent({ ...context, store }, room.roomId, said);
    expect(await room.extremities()).toHaveLength(1);
  });
});

describe('a room that is walked while somebody speaks all the time', () => {
  /** Somebody speaks whenever partial events were looked for outside of the lock, so many times. */
  function speaking(times: number, speak: (time: number) => Promise<void>): Store {
    let looks = 0;
    const query: Store['query'] = async (statement, values) => {
      const rows = await store.query(statement, values);
      if (statement.includes('RECURSIVE wanted') && (looks += 1) <= times) await speak(looks);
      return rows as never;
    };
    return { ...store, query, caches: createCaches() };
  }

  test.each([true, false])('is completed (check 6: %s), its ends resolved before the lock', async (retroSoftFail) => {
    const room = await partialRoom(retroSoftFail);
    const ours = beforeEachLock(async (transaction) => {
      if (transaction <= 9) await room.push(topic(`said-${transaction}`));
    });
    const resolved = await resolvedWhile(ours, async () => {
      expect(await room.walk(ours)).toMatchObject({ partial: false, resync: { phase: 'complete' } });
    });
    expect(resolved).toMatchObject({ held: 0 });
    expect(await room.extremities()).toHaveLength(9);
    await expectResolved(room);
  });

  test('counts no verdict as reversed where that was undone: the replay of check 6 sees what turns below it then', async () => {
    const [bob, eve] = ['@bob:there.test', '@eve:there.test'];
    const room = new PartialRoom(store, '10');
    await room.join();
    await room.hold(member('bob', bob, 'join', { auth: AUTH }), member('eve', eve, 'join', { auth: AUTH }));
    await room.fetch(...KNOWN, 'bob');
    const banned = { sender: ADMIN, prev: ['join'], auth: [...AUTH, 'bob'] };
    await room.push(member('ban', bob, 'ban', banned));
    await room.push(message('evading', bob, { prev: ['join'], auth: ['create', 'power', 'bob'] }));
    const gap = { eventIds: [room.id('gap')], origin: 'there.test' as ServerName };
    const assumedState = await room.state(...KNOWN, 'bob');
    const undone = vi.fn();
    Object.assign(room.context, { logger: { warn: undone } });
    await room.journal({ type: 'GapOpened', ...gap, assumedState, at: 3 });
    let isTurned = false;
    let last = 'join';
    const ours = speaking(20, async (time) => {
      if (undone.mock.calls.length === 0) {
        const eves = { prev: [last], auth: ['create', 'power', 'eve'] };
        last = `said-${time}`;
        await room.push(message(last, ADMIN, { prev: eves.prev, auth: AUTH }), topic(`topic-${time}`, eves.prev[0]));
        // The full state does not have her.
        await room.push(message(`late-${time}`, eve, eves));
      } else if (!isTurned) {
        isTurned = true;
        const { stateBefore } = (await room.event('ban'))!;
        const refused = { was: 'accepted', is: 'rejected', rule: 'late', reason: 'late', cause: 1 } as const;
        const states = { stateBefore, stateAfter: stateBefore };
        await room.journal({ type: 'VerdictChanged', eventId: room.id('ban'), ...refused, ...states });
      }
    });
    expect(await room.walk(ours)).toMatchObject({ partial: false, resync: { phase: 'complete' } });
    expect(isTurned).toBe(true);
    expect(await room.event('evading')).toMatchObject({ verdict: 'accepted', softFailed: false });
  });

  test('is judged outside of the lock where what came has states that are to be resolved', async () => {
    const room = await partialRoom();
    let last = 'join';
    const ours = speaking(8, async (time) => {
      const [left, right] = [topic(`left-${time}`, last), topic(`right-${time}`, last)];
      last = `merge-${time}`;
      await room.push(left, right, message(last, ADMIN, { prev: [left.id, right.id], auth: AUTH }));
    });
    const resolved = await resolvedWhile(ours, async () => {
      expect(await room.walk(ours)).toMatchObject({ partial: false, resync: { phase: 'complete' } });
    });
    expect(resolved).toMatchObject({ held: 0 });
    expect(await room.event('merge-8')).toMatchObject({ partial: false, verdict: 'accepted' });
    await expectResolved(room);
  });
});

test('the current state that is to be corrected is resolved before the lock, however often others come in between', async () => {
  const room = await wholeRoom();
  await room.push(
    topic('one'),
    topic('two'),
    member('dave', '@dave:there.test', 'join', { prev: ['join'], auth: KNOWN }),
  );
  const states = {
    stateBefore: (await room.event('join'))!.stateAfter,
    stateAfter: (await room.event('one'))!.stateAfter,
  };
  await room.journal({ type: 'StatesChanged', eventIds: [room.id('two')], ...states, cause: 1, followed: true });
  const stay = { roomId: room.roomId, epoch: 1 };
  const progress = { signal: new AbortController().signal, heartbeat: () => undefined };
  while ((await countCorrectionsDue(store, room.roomId)) > 1) await correctSome(room.context, stay, progress);
  expect(await isCurrentStateDue(store, room.roomId)).toBe(true);
  const ours = beforeEachLock(async (transaction) => {
    await room.push(topic(`other-${transaction}`));
  });
  const resolved = await resolvedWhile(ours, async () => {
    const step = await correctSome({ ...room.context, store: ours }, stay, progress, { tried: 5 });
    expect(step).toBe('in vain');
  });
  expect(resolved).toMatchObject({ held: 0 });
  expect(await isCurrentStateDue(store, room.roomId)).toBe(true);
  await room.correct();
  expect(await isCurrentStateDue(store, room.roomId)).toBe(false);
  await expectResolved(room);
});

test('a walk that meets another end each time that it has let the lock go ends all the same', async () => {
  const room = await partialRoom();
  let locks = 0;
  const ours = beforeEachLock(async (transaction) => {
    locks = transaction;
    if (transaction <= 100) await room.push(topic(`said-${transaction}`));
  });
  expect(await room.walk(ours)).toMatchObject({ partial: false });
  expect(locks).toBeLessThan(60);
  await expectResolved(room);
});

test('what took long under a lock is resolved outside, and the lock taken again; anything else that fails does so at once', async () => {
  const done: string[] = [];
  const locked = (times: number, error: Error) => () => {
    done.push('locked');
    return done.length > times ? Promise.resolve('taken in') : Promise.reject(error);
  };
  const resolve = (): Promise<void> => Promise.resolve(void done.push('resolved'));
  expect(await resolvingOutside(locked(2, new ResolutionTakesLong('long')), resolve)).toBe('taken in');
  expect(done.splice(0)).toEqual(['locked', 'resolved', 'locked']);
  await expect(resolvingOutside(locked(100, new ResolutionTakesLong('long')), resolve)).rejects.toMatchObject({
    kind: 'busy',
    message: 'the room cannot take the event now: long',
  });
  expect(done.splice(0).filter((what) => what === 'locked')).toHaveLength(4);
  await expect(resolvingOutside(locked(100, new Error('refused')), resolve)).rejects.toThrow('refused');
  expect(done).toEqual(['locked']);
});
