/**
 * Two who work at one room at once, in every order that matters: what one of them does is put between any two statements of the
 * other, one place after the next, or both are let go at once from a lock that they wait for. At the end nothing is decided
 * twice, nothing is lost, and the tables hold what the journal says. (Notifications that are lost: test/store/notify.pg.test.ts.)
 */
import { afterAll, describe, expect, test, vi } from 'vitest';
import { type FederationClient } from '../../../src/federation/contract.ts';
import { type EventId, type ServerName } from '../../../src/matrix/identifiers.ts';
import { fetchGaps } from '../../../src/rooms/resync/fetch-gaps.ts';
import { readParents } from '../../../src/store/events/anchors.ts';
import { countCorrectionsDue } from '../../../src/store/events/corrections.ts';
import { countPartial } from '../../../src/store/events/event-states.ts';
import { type Store, withTransaction } from '../../../src/store/open-store.ts';
import { readPdus, recordOutlierVerdicts } from '../../../src/store/events/pdus.ts';
import { prepareAdmission } from '../../../src/rooms/judge/prepare-admission.ts';
import { readStanding, standsStill } from '../../../src/store/journal/rooms.ts';
import { readSnapshot } from '../../../src/store/snapshots/snapshots.ts';
import { expectFoldsRebuilt } from '../../support/folds.ts';
import { openTestStore } from '../../support/postgres.ts';
import { A, honestScript, smallRoom, startScripted } from '../../support/scripted-room.ts';
import { ADMIN, PartialRoom, member, message } from './partial-room.ts';

const { store } = await openTestStore({ poolSizeMax: 25 });
afterAll(() => expectFoldsRebuilt(store));

const TIMEOUT = 240_000;
const THERE = 'there.test' as ServerName;
const BOB = '@bob:there.test';
const CAROL = '@carol:there.test';
const AUTH = ['create', 'power', 'rules'];
const KNOWN = ['create', 'admin', 'power', 'rules'];
const FROM_ADMIN = { auth: ['create', 'power', 'admin'] };
const FROM_BOB = { auth: ['create', 'power', 'bob'] };

/** Walking: its full state has come, with a ban of Bob that the partial one lacks; a message of his and one of the admin's. */
async function walkingRoom(): Promise<PartialRoom> {
  const room = new PartialRoom(store);
  await room.join();
  await room.hold(
    member('bob', BOB, 'join', { auth: AUTH }),
    member('ban', BOB, 'ban', { sender: ADMIN, ...FROM_ADMIN }),
  );
  await room.push(message('of-bob', BOB, { prev: ['join'], ...FROM_BOB }));
  await room.push(message('of-admin', ADMIN, { prev: ['of-bob'], ...FROM_ADMIN }));
  await room.fetch(...KNOWN, 'ban');
  return room;
}

/** A store whose user is interrupted before its `at`th statement or transaction, counted from 0, by `work`. */
function interrupted(
  at: number,
  work: () => Promise<unknown>,
): { readonly store: Store; readonly wasReached: () => boolean } {
  let passed = 0;
  const pass = async (): Promise<void> => {
    passed += 1;
    if (passed === at + 1) await work();
  };
  const pool = Object.create(store.pool, {
    connect: { value: async () => pass().then(() => store.pool.connect()) },
  }) as Store['pool'];
  const query: Store['query'] = async (text, values) => pass().then(() => store.query(text, values));
  const through: Store = { ...store, pool, query, inTransaction: (work) => withTransaction(through, work) };
  return { store: through, wasReached: () => passed > at };
}

/** Runs `race` with the interruption at the first place, the second, and so on, until there is none any more. */
async function atEveryPlace(race: (at: number) => Promise<boolean>): Promise<void> {
  let places = 0;
  while (await race(places)) places += 1;
  expect(places).toBeGreaterThan(3);
}

/** Lets `works` go at once, when all of them wait for the lock on the room's row. */
async function atOnce<Result>(room: PartialRoom, works: readonly (() => Promise<Result>)[]): Promise<Result[]> {
  return await heldBack(store, `SELECT FROM rooms WHERE room_id = '${room.roomId}' FOR UPDATE`, works);
}

async function heldBack<Result>(
  held: Store,
  lock: string,
  works: readonly (() => Promise<Result>)[],
): Promise<Result[]> {
  const running = await withTransaction(held, async (tx) => {
    await tx.query(lock);
    const started = works.map((work) => work());
    started.forEach((work) => void work.catch(() => undefined));
    await vi.waitFor(
      async () => {
        const waiting = await held.query(
          `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
        );
        expect(waiting.length).toBeGreaterThanOrEqual(works.length);
      },
      { timeout: 10_000 },
    );
    return { started };
  });
  return Promise.all(running.started);
}

/** How many entries of a type there are; of verdicts an event's. */
async function countEntries(room: PartialRoom, type: string, name?: string): Promise<number> {
  const [row] = await store.query<{ n: number }>(
    `SELECT count(*) AS n FROM journal WHERE room_id = $1 AND type = $2 AND ($3::text IS NULL OR event_id = $3)`,
    [room.roomId, type, name === undefined ? null : room.id(name)],
  );
  return row!.n;
}

async function expectWhole(room: PartialRoom, extremities: readonly string[]): Promise<void> {
  expect(await room.walk()).toMatchObject({ partial: false, resync: { phase: 'complete' } });
  expect(await countPartial(store, room.roomId)).toBe(0);
  expect(await countCorrectionsDue(store, room.roomId)).toBe(0);
  expect(await countEntries(room, 'ResyncCompleted')).toBe(1);
  expect(await countEntries(room, 'EventUnPartialStated', 'of-bob')).toBe(1);
  expect(await room.event('of-bob')).toMatchObject({ verdict: 'rejected', partial: false });
  expect(await room.event('of-admin')).toMatchObject({ verdict: 'accepted', partial: false });
  expect(await room.extremities()).toEqual(extremities.map((name): EventId => room.id(name)).sort());
}

const late = message('late', BOB, { prev: ['of-admin'], ...FROM_BOB });
const latest = message('latest', ADMIN, { prev: ['of-admin'], ...FROM_ADMIN });

describe('an event that is pushed while the room is walked and completed', { timeout: TIMEOUT }, () => {
  test('is judged by full state in the end, wherever the walk is then', async () => {
    await atEveryPlace(async (at) => {
      const room = await walkingRoom();
      const walk = interrupted(at, () => room.push(late, latest));
      await room.walk(walk.store);
      if (!walk.wasReached()) return false;
      await expectWhole(room, ['latest']);
      expect(await room.event('late')).toMatchObject({ verdict: 'rejected', partial: false });
      return true;
    });
  });

  test('and is completed while its admission is under way, is judged by the full state', async () => {
    await atEveryPlace(async (at) => {
      const room = await walkingRoom();
      const push = interrupted(at, () => room.walk());
      Object.assign(room.context, { store: push.store });
      await room.push(late, latest);
      Object.assign(room.context, { store });
      if (!push.wasReached()) return false;
      await expectWhole(room, ['latest']);
      expect(await room.event('late')).toMatchObject({ verdict: 'rejected', partial: false });
      expect(await countEntries(room, 'PduAccepted', 'latest')).toBe(1);
      return true;
    });
  });

  test('and a hundred others with it, keeps the walk from no end', async () => {
    const room = await walkingRoom();
    const chatter = Array.from({ length: 100 }, (_, i) =>
      message(`said-${i}`, ADMIN, { prev: ['of-admin'], ...FROM_ADMIN }),
    );
    const pushes = chatter.map(async (said) => room.push(said));
    await Promise.all([room.walk(), ...pushes]);
    await expectWhole(
      room,
      chatter.map(({ id }) => id),
    );
  });
});

describe('two workers that both believe they own the room', { timeout: TIMEOUT }, () => {
  test('judge each event once and complete it once, wherever the second comes in between', async () => {
    await atEveryPlace(async (at) => {
      const room = await walkingRoom();
      const first = interrupted(at, () => room.walk());
      await room.walk(first.store);
      if (!first.wasReached()) return false;
      await expectWhole(room, ['of-admin']);
      return true;
    });
  });

  test('do so when both wait for its lock with what they have decided', async () => {
    const room = await walkingRoom();
    await atOnce(room, [() => room.walk(), () => room.walk(), () => room.walk()]);
    await expectWhole(room, ['of-admin']);
  });

  test('do so when both wait with an event that was pushed', async () => {
    const room = await walkingRoom();
    await atOnce<unknown>(room, [() => room.walk(), () => room.push(latest), () => room.walk()]);
    await expectWhole(room, ['latest']);
  });
});

describe('a gap that is closed while the room completes', { timeout: TIMEOUT }, () => {
  test('counts for what builds on it, whether its state came before, in between or after', async () => {
    await atEveryPlace(async (at) => {
      const room = await walkingRoom();
      const assumedState = await room.state(...AUTH, 'join');
      await room.journal({ type: 'GapOpened', eventIds: [room.id('gap')], origin: THERE, assumedState, at: 3 });
      await room.push(message('over', ADMIN, { prev: ['gap'], ...FROM_ADMIN }));
      await room.hold({ id: 'topic', type: 'm.room.topic', stateKey: '', ...FROM_ADMIN });
      const snapshotId = await room.state(...KNOWN, 'ban', 'join', 'topic');
      const counts = { state: 6, authChain: 0, members: 2, fetched: 0, alreadyHeld: 6, dropped: 0 };
      const closed = { eventId: room.id('gap'), resident: THERE, snapshotId, counts, digest: 'd'.repeat(64), at: 4 };
      const walk = interrupted(at, () => room.journal({ type: 'GapClosed', ...closed }));
      await room.walk(walk.store);
      if (!walk.wasReached()) return false;
      await room.correct();
      await expectWhole(room, ['of-admin', 'over']);
      expect(await room.event('over')).toMatchObject({ stateBefore: snapshotId, verdict: 'accepted' });
      return true;
    });
  });
});

test('a first verdict that somebody else records by what has turned since is a change then', async () => {
  await atEveryPlace(async (at) => {
    const room = new PartialRoom(store);
    await room.join();
    await room.hold(member('bob', BOB, 'join', { auth: AUTH }));
    await room.fetch(...KNOWN, 'bob');
    await room.walk();
    await room.insert(member('invite', CAROL, 'invite', { sender: BOB, auth: [...AUTH, 'bob'] }));
    const [head] = await store.query<{ position: number }>('SELECT position FROM journal_head');
    const turned = { eventId: room.id('bob'), was: 'accepted', is: 'rejected', cause: head!.position } as const;
    await room.journal({ type: 'VerdictChanged', ...turned });
    const first = { eventId: room.id('invite'), verdict: 'accepted', authDepth: null } as const;
    const correction = interrupted(at, () => recordOutlierVerdicts(store, room.roomId, [first]));
    await room.correct(correction.store);
    if (!correction.wasReached()) return false;
    const [invite] = await readPdus(store, room.roomId, [room.id('invite')]);
    expect(invite?.verdict).toBe('rejected');
    return true;
  });
});

test('what was worked out by an anchor’s state is void once the walk moves it, though no verdict turns', async () => {
  const room = new PartialRoom(store);
  await room.join();
  await room.hold(member('carol', CAROL, 'join', { auth: AUTH }));
  const assumedState = await room.state(...AUTH, 'join');
  await room.fetch(...KNOWN);
  const counts = { state: 6, authChain: 0, members: 3, fetched: 0, alreadyHeld: 6, dropped: 0 };
  const closed = { resident: THERE, snapshotId: await room.state(...KNOWN, 'join', 'carol'), counts, at: 4 };
  await room.journal(
    { type: 'GapOpened', eventIds: [room.id('gap')], origin: THERE, assumedState, at: 3 },
    { type: 'GapClosed', eventId: room.id('gap'), ...closed, digest: 'd'.repeat(64) },
  );
  await room.push(message('gap', ADMIN, { prev: ['join'], ...FROM_ADMIN }));
  const before = (await readStanding(store, room.roomId))!;
  await room.insert(message('late', ADMIN, { prev: ['gap'], ...FROM_ADMIN }));
  const { entries } = await prepareAdmission(store, before, [room.id('late')]);
  expect(entries).toHaveLength(1);

  const stateBefore = await room.state(...KNOWN);
  const stateAfter = await room.state(...KNOWN, 'join');
  const stated = { type: 'EventUnPartialStated', stateAfter, was: 'accepted', is: 'accepted' } as const;
  await room.journal(
    { ...stated, eventId: room.id('join'), stateBefore },
    { ...stated, eventId: room.id('gap'), stateBefore: stateAfter },
  );
  expect(standsStill(before, (await readStanding(store, room.roomId))!)).toBe(false);
});

describe('a verdict that turns while a state is fetched', { timeout: TIMEOUT }, () => {
  test.each(['rejected', 'accepted'] as const)('counts for what was judged by the other one: %s', async (is) => {
    const was = is === 'accepted' ? 'rejected' : 'accepted';
    await atEveryPlace(async (at) => {
      const room = new PartialRoom(store);
      await room.join();
      await room.hold(
        member('bob', BOB, 'join', { auth: AUTH }),
        message('gap', ADMIN, { prev: ['join'], ...FROM_ADMIN }),
      );
      await room.fetch(...KNOWN);
      await room.walk();
      const turn = async (to: 'accepted' | 'rejected', from: 'accepted' | 'rejected'): Promise<void> => {
        const [head] = await store.query<{ position: number }>('SELECT position FROM journal_head');
        const about = { eventId: room.id('bob'), was: from, is: to, cause: head!.position } as const;
        await room.journal({ type: 'VerdictChanged', ...about });
        await room.correct();
      };
      if (was === 'rejected') await turn('rejected', 'accepted');
      await room.hold(member('invite', CAROL, 'invite', { sender: BOB, auth: [...AUTH, 'bob'] }));
      await store.query(`DELETE FROM outlier_verdicts WHERE event_nid = (SELECT nid FROM pdus WHERE event_id = $1)`, [
        room.id('invite'),
      ]);
      await room.journal({ type: 'GapOpened', eventIds: [room.id('gap')], origin: THERE, assumedState: null, at: 3 });
      const ids = (...names: string[]): EventId[] => names.map((name): EventId => room.id(name));
      const stateIds = ids(...KNOWN, 'bob', 'join', 'invite');
      const answer = { stateIds, authChainIds: ids(...KNOWN) };
      const federation = { stateIds: () => Promise.resolve(answer) } as Partial<FederationClient> as FederationClient;

      const fetch = interrupted(at, () => turn(is, was));
      const progress = { signal: new AbortController().signal, heartbeat: () => undefined };
      const context = { ...room.context, store: fetch.store, federation };
      await fetchGaps(context, { roomId: room.roomId, epoch: 1 }, progress);
      expect(await countEntries(room, 'GapClosed')).toBe(1);
      if (!fetch.wasReached()) return false;
      await room.correct();
      expect(await countCorrectionsDue(store, room.roomId)).toBe(0);
      const [invite] = await readPdus(store, room.roomId, ids('invite'));
      expect(invite?.verdict).toBe(is);
      const anchor = (await readParents(store, room.roomId, ids('gap'))).get(room.id('gap'))!;
      const state = await readSnapshot(store, room.roomId, anchor.stateAfter);
      const expected = is === 'accepted' ? stateIds : ids(...KNOWN, 'join');
      expect(state.map(({ eventId }) => eventId).sort()).toEqual([...expected].sort());
      return true;
    });
  });
});

test('two users who join at once, with both joins held back at the end, are in one stay with one resync', async () => {
  const small = smallRoom();
  const here = await startScripted(small.room, honestScript(small));
  const users = ['@me:us.test', '@you:us.test'] as const;
  await heldBack(
    here.store,
    'SELECT FROM journal_head FOR UPDATE',
    users.map((user) => () => here.join(user as never, [A])),
  );
  const types = await here.store.query<{ type: string }>(
    `SELECT type FROM journal WHERE stream = 'resync' ORDER BY position`,
  );
  expect(types.map(({ type }) => type)).toEqual(['PartialStateJoined', 'ResidentsLearned']);
  expect(await here.resync()).toMatchObject({ phase: 'complete', members: 4 });
  const members = await here.store.query<{ userId: string }>(
    `SELECT user_id AS "userId" FROM local_members WHERE membership = 'join' ORDER BY 1`,
  );
  expect(members.map(({ userId }) => userId)).toEqual(users);
});
