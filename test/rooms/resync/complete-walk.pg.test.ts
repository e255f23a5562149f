import { afterAll, describe, expect, test } from 'vitest';
import { type ServerName } from '../../../src/matrix/identifiers.ts';
import { type TimelineEvent } from '../../../src/resync/events.ts';
import { readEventFacts } from '../../../src/store/events/event-story.ts';
import { readJournal } from '../../../src/store/journal/journal.ts';
import { lockResync, readRoom, readStanding } from '../../../src/store/journal/rooms.ts';
import { type Store, withTransaction } from '../../../src/store/open-store.ts';
import { Completion } from '../../../src/rooms/resync/complete-walk.ts';
import { expectFoldsRebuilt } from '../../support/folds.ts';
import { openTestStore } from '../../support/postgres.ts';
import { ADMIN, type EventInTest, ME, PartialRoom, member, message } from './partial-room.ts';

const { store } = await openTestStore();
afterAll(() => expectFoldsRebuilt(store));

const BOB = '@bob:there.test';
const AUTH = ['create', 'power', 'rules'];
const KNOWN = ['create', 'admin', 'power', 'rules'];
const ADMINS = { auth: ['create', 'power', 'admin'] };
const BOBS = { auth: ['create', 'power', 'bob'] };

/** A room that we have joined, of which Bob was a member then. */
async function joined(policy: { readonly retroSoftFail?: boolean } = {}): Promise<PartialRoom> {
  const room = new PartialRoom(store, '10', policy);
  await room.join();
  await room.hold(member('bob', BOB, 'join', { auth: AUTH }));
  return room;
}

async function entries(room: PartialRoom): Promise<TimelineEvent[]> {
  const journal = await readJournal(store, { roomId: room.roomId, sincePosition: 0, limit: 1_000 });
  return journal.flatMap(({ stream, event }) => (stream === 'timeline' ? [event as TimelineEvent] : []));
}

/** A store over which something happens each time that the partial events were read outside of the room's lock. */
function afterEachLook(happens: (look: number) => Promise<void>): Store {
  let looks = 0;
  const query: Store['query'] = async (statement, values) => {
    const rows = await store.query(statement, values);
    if (statement.includes('RECURSIVE wanted')) await happens((looks += 1));
    return rows as never;
  };
  return { ...store, query };
}

describe('a room in which somebody speaks all the time', () => {
  test('is completed, though there is something partial whenever the walk looks', async () => {
    const room = await joined();
    await room.fetch(...KNOWN);
    let last = 'join';
    const speaking = afterEachLook(async (look) => {
      const next = `said-${look}`;
      await room.push(message(next, ADMIN, { prev: [last], ...ADMINS }));
      last = next;
    });
    expect(await room.walk(speaking)).toMatchObject({ partial: false, resync: { phase: 'complete' } });
    expect(await room.event(last)).toMatchObject({ partial: false, verdict: 'accepted' });
    expect(await room.extremities()).toEqual([room.id(last)]);
  });

  test('is completed, though its newest events are others whenever the walk is about to complete', async () => {
    for (const retroSoftFail of [true, false]) {
      const room = await joined({ retroSoftFail });
      await room.fetch(...KNOWN);
      let last = 'join';
      const speaking = afterEachLook(async (look) => {
        if (look === 1) return;
        const next = `said-${look}`;
        await room.push(message(next, ADMIN, { prev: [last], ...ADMINS }));
        last = next;
      });
      expect(await room.walk(speaking)).toMatchObject({ partial: false, resync: { phase: 'complete' } });
      expect(await room.extremities()).toEqual([room.id(last)]);
    }
  });

  test('has ever fewer partial events, when fewer come than are judged meanwhile', async () => {
    const room = await joined();
    let last = 'join';
    let said = 0;
    const say = async (count: number): Promise<void> => {
      const some: EventInTest[] = [];
      for (let i = 0; i < count; i += 1) {
        const next = `said-${(said += 1)}`;
        some.push(message(next, ADMIN, { prev: [last], ...ADMINS }));
        last = next;
      }
      await room.push(...some);
    };
    for (let i = 0; i < 12; i += 1) await say(50);
    await room.fetch(...KNOWN);
    await room.walk(afterEachLook(() => say(20)));
    const journal = await readJournal(store, { roomId: room.roomId, sincePosition: 0, limit: 10_000 });
    const left = journal.flatMap(({ event }) => (event.type === 'EventsWalked' ? [event.remaining] : []));
    expect(left.slice(0, 4)).toEqual([421, 241, 61, 20]);
    expect(left.at(-1)).toBe(0);
    expect(await room.event(last)).toMatchObject({ partial: false });
  });
});

test('the current state is resolved from the states of now, though so many corrections came that a replay is none of now', async () => {
  const room = await joined();
  await room.hold(member('carol', '@carol:there.test', 'join', { auth: AUTH }));
  await room.push(message('said', ADMIN, { prev: ['join'], ...ADMINS }));
  await room.fetch(...KNOWN);
  const [before, after] = [await room.state(...KNOWN), await room.state(...KNOWN, 'join')];
  const accepted = { type: 'EventUnPartialStated', was: 'accepted', is: 'accepted', stateAfter: after } as const;
  await room.journal(
    { ...accepted, eventId: room.id('join'), stateBefore: before },
    { ...accepted, eventId: room.id('said'), stateBefore: after },
  );
  const completion = new Completion(room.context, room.roomId, () => undefined);
  // A correction came before each of these, and comes before the last.
  const state = { replay: null };
  for (let version = 1; version <= 5; version += 1) {
    expect(await completion.prepare(store, { stateVersion: 1_000 + version, state })).toBe(true);
  }
  const corrected = await room.state(...KNOWN, 'join', 'carol');
  const states = { stateBefore: corrected, stateAfter: corrected, cause: 1, followed: true } as const;
  await room.journal({ type: 'StatesChanged', eventIds: [room.id('said')], ...states });
  await completion.prepare(store, { ...(await readStanding(store, room.roomId))!, state });
  const isDone = await withTransaction(store, async (tx) =>
    completion.append(tx, (await lockResync(tx, room.roomId, 1))!, 1_000),
  );
  expect(isDone).toBe(true);
  expect((await readRoom(store, room.roomId))?.currentState).toBe(corrected);
});

describe('check 6 at completion', () => {
  const ban = member('ban', BOB, 'ban', { sender: ADMIN, prev: ['join'], auth: ['create', 'power', 'admin', 'bob'] });
  const evading = message('evading', BOB, { prev: ['join'], ...BOBS });

  test('soft-fails what somebody said beside a ban that had come before: it is accepted, and no extremity', async () => {
    const room = await joined();
    await room.push(ban);
    expect(await room.push(evading)).toMatchObject([{ verdict: 'accepted' }]);
    await room.fetch(...KNOWN, 'bob');
    const whole = await room.walk();
    expect(await room.event('evading')).toMatchObject({ verdict: 'accepted', softFailed: true, partial: false });
    expect(await room.extremities()).toEqual([room.id('ban')]);
    expect(whole.currentState).toBe(await room.state(...KNOWN, 'join', 'ban'));
    expect((await entries(room)).filter(({ type }) => type === 'EventSoftFailed')).toMatchObject([
      { eventId: room.id('evading'), rule: 'sender-not-joined' },
    ]);
    const decidedBy = new Set((await readEventFacts(store, room.roomId, room.id('evading')))?.authState);
    expect(decidedBy).toContain(room.id('ban'));
  });

  test('lets pass what came before the ban', async () => {
    const room = await joined();
    await room.push(evading);
    await room.push(ban);
    await room.fetch(...KNOWN, 'bob');
    await room.walk();
    expect(await room.event('evading')).toMatchObject({ softFailed: false });
    expect(await room.extremities()).toEqual([room.id('ban'), room.id('evading')].sort());
  });

  test('counts what it refuses through those who build on it: the ban and what came after both stand', async () => {
    const room = await joined();
    await room.push(ban);
    await room.push(evading);
    await room.push(message('again', BOB, { prev: ['evading'], ...BOBS }));
    await room.push(message('unaware', ADMIN, { prev: ['again'], ...ADMINS }));
    await room.fetch(...KNOWN, 'bob');
    await room.walk();
    for (const name of ['evading', 'again']) expect(await room.event(name)).toMatchObject({ softFailed: true });
    expect(await room.event('unaware')).toMatchObject({ softFailed: false });
    expect(await room.extremities()).toEqual([room.id('ban'), room.id('unaware')].sort());
  });

  test('judges by the verdicts that full state gives: a ban that turns out to be refused fails nobody', async () => {
    const room = await joined();
    const carol = '@carol:there.test';
    await room.hold(member('carol', carol, 'join', { auth: AUTH }));
    // By full state Carol had left before she banned Bob.
    await room.hold({ ...member('left', carol, 'leave'), auth: ['create', 'power', 'carol'] });
    await room.hold({
      id: 'power2',
      type: 'm.room.power_levels',
      stateKey: '',
      content: { users: { [ADMIN]: 100, [carol]: 50 } },
      auth: ['create', 'admin', 'power'],
    });
    const auth = ['create', 'power2', 'carol', 'bob'];
    await room.push(member('ban', BOB, 'ban', { sender: carol, prev: ['join'], auth }));
    await room.push(evading);
    await room.fetch('create', 'admin', 'power2', 'rules', 'bob', 'left');
    await room.walk();
    expect(await room.event('ban')).toMatchObject({ verdict: 'rejected' });
    expect(await room.event('evading')).toMatchObject({ verdict: 'accepted', softFailed: false });
  });

  test('is not made again by a correction that comes later: what was soft-failed stays so, and nothing else becomes it', async () => {
    const room = await joined();
    await room.push(ban);
    await room.push(evading);
    await room.push(message('unmoved', ADMIN, { prev: ['join'], ...ADMINS }));
    await room.fetch(...KNOWN, 'bob');
    await room.walk();
    expect(await room.event('evading')).toMatchObject({ softFailed: true });
    const refused = { was: 'accepted', is: 'rejected', rule: 'late', reason: 'late', cause: 1 } as const;
    const { stateBefore } = (await room.event('ban'))!;
    const states = { stateBefore, stateAfter: stateBefore };
    await room.journal({ type: 'VerdictChanged', eventId: room.id('ban'), ...refused, ...states });
    await room.correct();
    // Without the ban it would pass; what did pass is asked about no more.
    expect(await room.event('evading')).toMatchObject({ verdict: 'accepted', softFailed: true });
    expect(await room.event('unmoved')).toMatchObject({ verdict: 'accepted', softFailed: false });
    expect((await entries(room)).filter(({ type }) => type === 'EventSoftFailed')).toHaveLength(1);
    expect(await room.extremities()).toEqual([room.id('unmoved')]);
  });

  test('leaves what we sent as it is', async () => {
    const room = await joined();
    // Somebody of us is to be in the room when the kick has come.
    const other = { prev: ['join'], auth: AUTH };
    await room.push(member('other', '@other:here.test', 'join', other));
    await room.push(
      member('kick', ME, 'leave', { sender: ADMIN, prev: ['join'], auth: ['create', 'power', 'admin', 'join'] }),
    );
    await room.push(message('mine', ME, { prev: ['join'], auth: ['create', 'power', 'join'] }));
    await room.fetch(...KNOWN);
    await room.walk();
    expect(await room.event('mine')).toMatchObject({ verdict: 'accepted', softFailed: false });
  });

  test('is made for what comes while it is made, too', async () => {
    const room = await joined();
    await room.push(ban);
    await room.fetch(...KNOWN, 'bob');
    // The second look finds nothing partial: the completion is being worked out.
    await room.walk(
      afterEachLook(async (look) => {
        if (look === 2) await room.push(evading);
      }),
    );
    expect(await room.event('evading')).toMatchObject({ softFailed: true });
    expect(await room.extremities()).toEqual([room.id('ban')]);
  });

  test('takes an event for reached that something reaches through one that came later', async () => {
    const room = await joined();
    const levels = { users: { [ADMIN]: 100 }, events_default: 0 };
    const power = {
      id: 'power2',
      type: 'm.room.power_levels',
      stateKey: '',
      content: levels,
      prev: ['join'],
      ...ADMINS,
    };
    const renamed = { membership: 'join', displayname: 'Bob' };
    // By the newer power levels: a resolution of the states after this and after the leave would prefer it.
    const again = member('again', BOB, 'join', {
      ...{ prev: ['power2'], auth: ['create', 'power2', 'rules', 'bob'], content: renamed },
    });
    await room.push(power, again);
    const origin = 'there.test' as ServerName;
    const assumedState = await room.state('create', 'power2', 'rules', 'join', 'again');
    await room.journal({ type: 'GapOpened', eventIds: [room.id('late')], origin, assumedState, at: 3 });
    await room.push(member('leave', BOB, 'leave', { prev: ['late'], auth: ['create', 'power', 'again'] }));
    await room.push(message('beside', BOB, { prev: ['again'], auth: ['create', 'power2', 'again'] }));
    await room.push(message('late', ADMIN, { prev: ['again'], ...ADMINS }));
    await room.fetch(...KNOWN, 'bob');
    await room.walk();
    expect(await room.event('leave')).toMatchObject({ verdict: 'accepted', softFailed: false });
    expect(await room.event('beside')).toMatchObject({ verdict: 'accepted', softFailed: true });
    expect(await room.extremities()).toEqual([room.id('leave')]);
  });

  test('is left out where the operator wants no event to be soft-failed late', async () => {
    const room = await joined({ retroSoftFail: false });
    await room.push(ban);
    await room.push(evading);
    await room.fetch(...KNOWN, 'bob');
    await room.walk();
    expect(await room.event('evading')).toMatchObject({ softFailed: false });
    expect(await room.extremities()).toEqual([room.id('ban'), room.id('evading')].sort());
  });

  test('a run that is cut off before the end loses nothing: the next one begins with what is journalled', async () => {
    const room = await joined();
    await room.push(ban);
    await room.push(evading);
    await room.fetch(...KNOWN, 'bob');
    const cut = afterEachLook((look) =>
      look === 2 ? Promise.reject(new Error('the worker was killed')) : Promise.resolve(),
    );
    await expect(room.walk(cut)).rejects.toThrow('killed');
    expect(await room.walk()).toMatchObject({ partial: false });
    expect(await room.event('evading')).toMatchObject({ softFailed: true });
  });

  describe('for hundreds of events', () => {
    /** After the ban Bob says something now and then, among all that the admin says. */
    async function chattering(): Promise<PartialRoom> {
      const room = await joined();
      await room.push(ban);
      let last = 'ban';
      for (let n = 0; n < 450; n += 50) {
        const some = Array.from({ length: 49 }, (_, i) => {
          const next = `said-${n + i}`;
          const said = message(next, ADMIN, { prev: [last], ...ADMINS });
          last = next;
          return said;
        });
        await room.push(...some, message(`evading-${n}`, BOB, { prev: ['join'], ...BOBS }));
      }
      await room.fetch(...KNOWN, 'bob');
      return room;
    }

    const evaders = Array.from({ length: 9 }, (_, i) => `evading-${i * 50}`);

    async function replayed(room: PartialRoom) {
      const journal = await readJournal(store, { roomId: room.roomId, sincePosition: 0, limit: 10_000 });
      return journal.flatMap(({ event }) => (event.type === 'Check6Replayed' ? [event] : []));
    }

    /** A worker that is killed when it has appended so many batches of the replay. */
    async function killedAfter(room: PartialRoom, batches: number): Promise<void> {
      const query: Store['query'] = async (statement, values) => {
        if ((await replayed(room)).length >= batches) throw new Error('the worker was killed');
        return store.query(statement, values);
      };
      await expect(room.walk({ ...store, query })).rejects.toThrow('killed');
    }

    test('is made in batches that say how far they are, each with what it found', async () => {
      const room = await chattering();
      await room.walk();
      const batches = await replayed(room);
      expect(batches.map(({ begun, softFailed, lifted }) => ({ begun, softFailed, lifted }))).toEqual([
        { begun: 1, softFailed: 3, lifted: 0 },
        { begun: 1, softFailed: 4, lifted: 0 },
      ]);
      const failed = (await entries(room)).flatMap((entry) =>
        entry.type === 'EventSoftFailed' ? [entry.eventId] : [],
      );
      expect(failed).toEqual(evaders.map((name) => room.id(name)));
      expect(await room.extremities()).toEqual([room.id('said-448')]);
    });

    test('goes on after a kill where the journal says that it was, and finds nothing twice', async () => {
      const room = await chattering();
      await killedAfter(room, 1);
      expect((await readRoom(store, room.roomId))?.resync.replay).toMatchObject({ begun: 1 });
      let judgedAgain = 0;
      const query: Store['query'] = async (statement, values) => {
        const rows = await store.query(statement, values);
        if (statement.includes('json::text') && JSON.stringify(values).includes(room.id('evading-0'))) judgedAgain += 1;
        return rows as never;
      };
      expect(await room.walk({ ...store, query })).toMatchObject({ partial: false, resync: { replay: null } });
      expect(judgedAgain).toBe(0);
      expect((await replayed(room)).map(({ begun, softFailed }) => [begun, softFailed])).toEqual([
        [1, 3],
        [1, 4],
      ]);
      const failed = (await entries(room)).flatMap((entry) =>
        entry.type === 'EventSoftFailed' ? [entry.eventId] : [],
      );
      expect(failed).toEqual(evaders.map((name) => room.id(name)));
      expect(await room.extremities()).toEqual([room.id('said-448')]);
    });

    test('is begun again when what lies below has changed, and lifts what it had soft-failed by it', async () => {
      const room = await chattering();
      await killedAfter(room, 1);
      expect(await room.event('evading-0')).toMatchObject({ softFailed: true });
      const { stateBefore } = (await room.event('ban'))!;
      const refused = { was: 'accepted', is: 'rejected', rule: 'late', reason: 'late', cause: 1 } as const;
      const states = { stateBefore, stateAfter: stateBefore };
      await room.journal({ type: 'VerdictChanged', eventId: room.id('ban'), ...refused, ...states });
      await room.walk();
      for (const name of evaders) expect(await room.event(name)).toMatchObject({ softFailed: false });
      const lifted = (await entries(room)).flatMap((entry) =>
        entry.type === 'SoftFailureLifted' ? [entry.eventId] : [],
      );
      expect(lifted).toEqual(evaders.slice(0, 3).map((name) => room.id(name)));
      const hidden = await store.query(
        `SELECT event_id FROM event_states WHERE room_id = $1 AND verdict = 'accepted' AND shown_at IS NULL`,
        [room.roomId],
      );
      expect(hidden).toEqual([]);
      expect((await replayed(room)).map(({ begun }) => begun)).toEqual([1, 2, 2]);
      expect(await room.extremities()).toEqual([...evaders, 'said-448'].map((name) => room.id(name)).sort());
    });

    test('goes on with verdicts that the walk itself reverses: these are on what comes later', async () => {
      const room = await chattering();
      await killedAfter(room, 1);
      const version = (await readStanding(store, room.roomId))!.stateVersion;
      const gap = { eventIds: [room.id('gap')], origin: 'there.test' as ServerName };
      await room.journal({ type: 'GapOpened', ...gap, assumedState: await room.state(...KNOWN, 'bob'), at: 3 });
      expect(await room.push(message('late', BOB, { prev: ['gap'], ...BOBS }))).toMatchObject([
        { verdict: 'accepted' },
      ]);
      await room.walk();
      expect(await room.event('late')).toMatchObject({ verdict: 'rejected' });
      expect((await readStanding(store, room.roomId))!.stateVersion).toBeGreaterThan(version);
      expect((await replayed(room)).map(({ begun }) => begun)).toEqual([1, 1]);
    });
  });

  test('costs no statement an event where all stand on the current state', async () => {
    const statements = async (count: number): Promise<number> => {
      const room = await joined();
      const names = Array.from({ length: count }, (_, i) => `said-${i}`);
      const said = names.map((name, i) => message(name, ADMIN, { prev: [names[i - 1] ?? 'join'], ...ADMINS }));
      for (let i = 0; i < count; i += 50) await room.push(...said.slice(i, i + 50));
      await room.fetch(...KNOWN);
      let sent = 0;
      const query: Store['query'] = (statement, values) => {
        sent += 1;
        return store.query(statement, values);
      };
      await room.walk({ ...store, query });
      return sent;
    };
    const [few, many] = [await statements(20), await statements(150)];
    expect(many).toBe(few);
  });
});
