import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { progressOf } from '../../src/client-api/progress.ts';
import { type RoomId, type UserId } from '../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { type Notifier, createNotifier } from '../../src/store/notify.ts';
import { upsertAccountData } from '../../src/store/tables/account-data.ts';
import { type RoomPart, type Sync } from '../../src/sync/contract.ts';
import { createSync } from '../../src/sync/sync.ts';
import { parseToken } from '../../src/sync/token.ts';
import { ADMIN, ME, PartialRoom, member, message } from '../rooms/resync/partial-room.ts';
import { openTestStore } from '../support/postgres.ts';
import { statementsOf } from '../support/statements.ts';
import { FoldingClient, type FoldingOptions } from './folding-client.ts';

const { store } = await openTestStore();
let notifier: Notifier;
let sync: Sync;
beforeEach(() => {
  notifier = createNotifier(store);
  sync = createSync({ store, notifier, clock: { now: () => 5_000 } });
});
afterEach(() => notifier.close());

const AUTH = ['create', 'power', 'rules'];
const BOB = '@bob:there.test';
const BY_ADMIN = { auth: ['create', 'power', 'admin'] };
const FULL = ['create', 'admin', 'power', 'rules'];

const clientIn = (room: PartialRoom, options: Partial<FoldingOptions> = {}): FoldingClient =>
  new FoldingClient(sync, { userId: ME, rooms: [room.roomId], ...options });
const idsOf = (events: readonly JsonObject[]): unknown[] => events.map((event) => event['event_id']);
const partOf = (answer: { readonly joined: ReadonlyMap<RoomId, RoomPart> }, room: PartialRoom): RoomPart | undefined =>
  answer.joined.get(room.roomId);

/** Joined, and whole. */
async function wholeRoom(...state: string[]): Promise<PartialRoom> {
  const room = new PartialRoom(store);
  await room.join();
  await room.fetch(...FULL, ...state);
  expect(await room.walk()).toMatchObject({ partial: false });
  return room;
}

/** The four ways in which a client may follow a room. */
const WAYS = [
  { lazy: false, stateAfter: false },
  { lazy: false, stateAfter: true },
  { lazy: true, stateAfter: false },
  { lazy: true, stateAfter: true },
] as const;

describe('a partial room', () => {
  test('is shown at once to a lazy client, with the memberships of those who speak, and marked as partial', async () => {
    const room = new PartialRoom(store);
    await room.join();
    await room.hold(member('bob', BOB, 'join', { auth: AUTH }));
    await room.push(message('said', BOB, { prev: ['join'], auth: ['create', 'power', 'bob'] }));
    const client = clientIn(room, { lazy: true });
    const part = partOf(await client.sync(), room)!;
    expect(idsOf(part.timeline)).toEqual([room.id('join'), room.id('said')]);
    expect(idsOf(part.state)).toContain(room.id('bob'));
    expect(idsOf(part.state)).toEqual(expect.arrayContaining(AUTH.map((name) => room.id(name))));
    expect(part.resync?.phase).toBe('fetching');
    expect(part.isLimited).toBe(true);
    await client.expectTrue(store, room.roomId);
  });

  test('is left out for an eager client, and comes once, whole, when it is: a long poll is woken by that', async () => {
    const room = new PartialRoom(store);
    await room.join();
    const client = clientIn(room);
    expect((await client.sync()).joined.size).toBe(0);
    const woken = client.sync({ timeoutMs: 600_000 });
    await room.push(message('meanwhile', ADMIN, { prev: ['join'], ...BY_ADMIN }));
    await room.fetch(...FULL);
    await room.walk();
    const part = partOf(await woken, room)!;
    expect(part.resync).toBeNull();
    expect(idsOf(part.timeline)).toEqual([room.id('join'), room.id('meanwhile')]);
    expect(idsOf(part.state)).toContain(room.id('admin'));
    await client.expectTrue(store, room.roomId);
    expect((await client.sync()).joined.size).toBe(0);
  });

  test('that has become whole but for what no server has is marked as lacking it, for who begins as well', async () => {
    const room = new PartialRoom(store);
    await room.join();
    const client = clientIn(room, { lazy: true });
    expect(partOf(await client.sync(), room)!.resync).toMatchObject({ phase: 'fetching', degraded: null });
    const listed = [{ eventId: room.id('lost'), why: 'not-delivered' } as const];
    await room.fetchLacking({ missing: { listed, count: 3, fell: 0 } }, ...FULL);
    await room.walk();
    for (const told of [client, clientIn(room), clientIn(room, { lazy: true })]) {
      const { resync } = partOf(await told.sync(), room)!;
      expect(progressOf(resync!)).toMatchObject({ phase: 'degraded', missing: 3 });
    }
  });

  test('that the user leaves before it is whole is never shown to an eager client', async () => {
    const room = new PartialRoom(store);
    await room.join();
    const client = clientIn(room);
    await client.sync();
    await room.push(member('left', ME, 'leave', { prev: ['join'], auth: ['create', 'power', 'join'] }));
    await room.fetch(...FULL);
    await room.walk();
    const answer = await client.sync();
    expect([answer.joined.size, answer.left.size]).toEqual([0, 0]);
  });
});

describe('a client that folds what it is told has the state of the room', () => {
  test.each(WAYS)('at each token, through completion and its corrections: %o', async (way) => {
    const room = new PartialRoom(store);
    await room.join();
    await room.hold(
      member('bob', BOB, 'join', { auth: AUTH }),
      member('bob-ban', BOB, 'ban', { sender: ADMIN, auth: ['create', 'power', 'admin'] }),
    );
    const client = clientIn(room, way);
    const check = async (): Promise<void> => {
      await client.catchUp();
      if (client.rooms.has(room.roomId)) await client.expectTrue(store, room.roomId);
    };
    await check();
    await room.push(message('banned', BOB, { prev: ['join'], auth: ['create', 'power', 'bob'] }));
    await check();
    await room.push({
      ...{ id: 'topic', type: 'm.room.topic', stateKey: '', sender: ADMIN, content: { topic: 'x' } },
      ...{ prev: ['banned'], ...BY_ADMIN },
    });
    await check();
    await room.fetch(...FULL, 'bob-ban');
    await room.walk();
    await check();
    expect(client.rooms.has(room.roomId)).toBe(true);
    await room.push(message('after', ADMIN, { prev: ['topic'], ...BY_ADMIN }));
    await check();
  });

  test.each(WAYS)('also where an event of the timeline is not the current one of its place: %o', async (way) => {
    const room = await wholeRoom();
    const client = clientIn(room, way);
    await client.catchUp();
    // Three names on three branches, of the same time: the greatest id wins, and another is the last one of the timeline.
    const name = (id: string) => ({
      ...{ id, type: 'm.room.name', stateKey: '', sender: ADMIN, content: { name: id } },
      ...{ prev: ['join'], ...BY_ADMIN },
    });
    for (const id of ['one', 'two', 'three']) await room.push(name(id));
    const answer = await client.sync();
    expect(idsOf(partOf(answer, room)!.timeline)).toEqual(['one', 'two', 'three'].map((id) => room.id(id)));
    if (!way.stateAfter) {
      expect(client.rooms.get(room.roomId)!.state.get('m.room.name ')).toBe(room.id('three'));
      const { position } = parseToken(answer.nextBatch);
      const next = await client.sync({ timeoutMs: 600_000 });
      // At once, though nothing has happened since.
      expect(parseToken(next.nextBatch).position).toBe(position);
      expect(partOf(next, room)!.timeline).toEqual([]);
      expect(idsOf(partOf(next, room)!.state)).toEqual([room.id('two')]);
    }
    expect((await client.sync()).joined.size).toBe(0);
    expect(client.rooms.get(room.roomId)!.state.get('m.room.name ')).toBe(room.id('two'));
    await client.expectTrue(store, room.roomId);
  });

  test('a key that was there through an event that is rejected now is taken away', async () => {
    const room = new PartialRoom(store);
    await room.join();
    await room.hold(
      member('bob', BOB, 'join', { auth: AUTH }),
      member('bob-ban', BOB, 'ban', { sender: ADMIN, auth: ['create', 'power', 'admin'] }),
    );
    const state = { type: 'm.test', stateKey: BOB, sender: BOB };
    const power = {
      ...{ id: 'low', type: 'm.room.power_levels', stateKey: '', sender: ADMIN },
      ...{ content: { users: { [ADMIN]: 100 }, state_default: 0 }, prev: ['join'], ...BY_ADMIN },
    };
    await room.push(power);
    await room.push({ id: 'his', ...state, prev: ['low'], auth: ['create', 'low', 'bob'] });
    expect(await room.event('his')).toMatchObject({ verdict: 'accepted' });
    const client = clientIn(room, { lazy: true });
    await client.sync();
    expect(client.rooms.get(room.roomId)?.state.get(`m.test ${BOB}`)).toBe(room.id('his'));
    await room.fetch(...FULL, 'bob-ban');
    await room.walk();
    expect(await room.event('his')).toMatchObject({ verdict: 'rejected' });
    const part = partOf(await client.sync(), room)!;
    expect(part.removed).toContainEqual({ type: 'm.test', stateKey: BOB });
    await client.expectTrue(store, room.roomId);
  });
});

test.each(WAYS)(
  'a long poll is answered by the commit that changes something, and no tick is waited for: %o',
  async (way) => {
    const room = new PartialRoom(store);
    await room.join();
    await room.hold(
      member('bob', BOB, 'join', { auth: AUTH }),
      member('bob-ban', BOB, 'ban', { sender: ADMIN, auth: ['create', 'power', 'admin'] }),
    );
    const hearing = createNotifier(store);
    onTestFinished(() => hearing.close());
    await new Promise<void>((resolve) => hearing.subscribe((news) => (news === null ? resolve() : undefined)));
    const client = new FoldingClient(createSync({ store, notifier: hearing, clock: { now: () => 5_000 } }), {
      ...{ userId: ME, rooms: [room.roomId], ...way },
    });
    await client.catchUp();
    // What is waited for by time from here on never comes.
    vi.useFakeTimers({ toFake: ['setTimeout', 'setInterval'] });
    onTestFinished(() => void vi.useRealTimers());
    const told = async (act: () => Promise<unknown>): Promise<void> => {
      const answer = client.ask({ timeoutMs: 600_000 });
      while (hearing.waiting === 0) await new Promise(setImmediate);
      await act();
      await client.take(await answer);
    };
    if (way.lazy) {
      await told(() => room.push(message('banned', BOB, { prev: ['join'], auth: ['create', 'power', 'bob'] })));
      expect(client.rooms.get(room.roomId)!.state.get(`m.room.member ${BOB}`)).toBe(room.id('bob'));
    }
    await told(async () => {
      await room.fetch(...FULL, 'bob-ban');
      await room.walk();
    });
    // What completion wrote in two commits may be told in two responses.
    await client.catchUp();
    await client.expectTrue(store, room.roomId);
    expect(client.rooms.get(room.roomId)!.state.get(`m.room.member ${BOB}`)).toBe(room.id('bob-ban'));
  },
);

describe('a client whose user left and came back between two syncs', () => {
  const leave = member('leave', ME, 'leave', { prev: ['bob'], auth: ['create', 'power', 'join'] });
  const bob = member('bob', BOB, 'join', { prev: ['join'], auth: AUTH });

  test.each(WAYS)('is told of the leave, and then of a room that it does not know: %o', async (way) => {
    const room = await wholeRoom();
    await room.push(bob);
    const client = clientIn(room, { ...way, limit: 20 });
    await client.catchUp();
    await room.push(leave);
    await room.hold(member('bob-left', BOB, 'leave', { prev: ['leave'], auth: ['create', 'power', 'bob'] }));
    await room.joinAgain();
    await room.push(message('hello', ADMIN, { prev: ['join2'], ...BY_ADMIN }));

    const out = await client.sync({ timeoutMs: 600_000 });
    expect(out.joined.size).toBe(0);
    expect(idsOf(out.left.get(room.roomId)!.timeline)).toEqual([room.id('leave')]);
    const back = await client.sync();
    expect(idsOf(partOf(back, room)?.timeline ?? [])).toEqual(way.lazy ? [room.id('join2'), room.id('hello')] : []);
    if (way.lazy) expect(partOf(back, room)).toMatchObject({ isLimited: true });

    await room.fetchAgain(...FULL, 'bob-left');
    expect(await room.walk(store, 2)).toMatchObject({ partial: false });
    await client.catchUp();
    const held = client.rooms.get(room.roomId)!;
    expect(held.timeline).toEqual([room.id('join2'), room.id('hello')]);
    expect(held.state.get(`m.room.member ${BOB}`)).toBe(way.lazy ? undefined : room.id('bob-left'));
    await client.expectTrue(store, room.roomId);
  });

  test.each(WAYS)('and the room became whole meanwhile, has the state that it has: %o', async (way) => {
    const room = await wholeRoom();
    await room.push(bob);
    const client = clientIn(room, way);
    await client.catchUp();
    await room.push(leave);
    await room.hold(member('bob-left', BOB, 'leave', { prev: ['leave'], auth: ['create', 'power', 'bob'] }));
    await room.joinAgain();
    await room.fetchAgain(...FULL, 'bob-left');
    expect(await room.walk(store, 2)).toMatchObject({ partial: false });
    expect((await client.sync()).left.size).toBe(1);
    expect(partOf(await client.sync(), room)).toMatchObject({ isLimited: true });
    await client.expectTrue(store, room.roomId);
    expect((await client.sync()).joined.size).toBe(0);
  });

  test.each(WAYS)(
    'and is in again by the join of then, as far as a next stay of others knows, is told of the leave: %o',
    async (way) => {
      const room = await wholeRoom();
      await room.push(bob);
      const client = clientIn(room, way);
      await client.catchUp();
      await room.push(leave);
      await room.joinAgainAs('@you:here.test' as UserId, 'join');
      const out = await client.sync();
      expect([out.joined.size, idsOf(out.left.get(room.roomId)!.timeline)]).toEqual([0, [room.id('leave')]]);
      const back = partOf(await client.sync(), room);
      expect(idsOf(back?.timeline ?? [])).toEqual(way.lazy ? [room.id('join2')] : []);
      await room.fetchAgain(...FULL, 'join');
      expect(await room.walk(store, 2)).toMatchObject({ partial: false });
      await client.catchUp();
      await client.expectTrue(store, room.roomId);
    },
  );

  test('is told of other rooms up to the leave, and of the rest with the next response', async () => {
    const [room, other] = [await wholeRoom(), await wholeRoom()];
    await room.push(bob);
    const client = new FoldingClient(sync, { userId: ME, rooms: [room.roomId, other.roomId] });
    await client.catchUp();
    const say = (id: string, prev: string) => other.push(message(id, ADMIN, { prev: [prev], ...BY_ADMIN }));
    await say('early', 'join');
    await room.push(leave);
    await room.joinAgain();
    await say('late', 'early');
    expect(idsOf(partOf(await client.sync(), other)!.timeline)).toEqual([other.id('early')]);
    expect(idsOf(partOf(await client.sync(), other)!.timeline)).toEqual([other.id('late')]);
    await client.expectTrue(store, other.roomId);
  });

  test('to whom nothing of the room is told is told of the rest at once', async () => {
    const [room, other] = [await wholeRoom(), await wholeRoom()];
    await room.push(bob);
    const client = clientIn(other);
    await client.catchUp();
    await room.push(leave);
    await room.joinAgain();
    await other.push(message('said', ADMIN, { prev: ['join'], ...BY_ADMIN }));
    expect(idsOf(partOf(await client.sync(), other)!.timeline)).toEqual([other.id('said')]);
  });
});

describe('timelines', () => {
  test('more than was asked for is limited, and the state says what lies between', async () => {
    const room = await wholeRoom();
    const client = clientIn(room, { limit: 2 });
    await client.catchUp();
    await room.push({
      ...{ id: 'topic', type: 'm.room.topic', stateKey: '', sender: ADMIN, content: {} },
      ...{ prev: ['join'], ...BY_ADMIN },
    });
    for (const [id, prev] of [
      ['a', 'topic'],
      ['b', 'a'],
      ['c', 'b'],
    ] as const) {
      await room.push(message(id, ADMIN, { prev: [prev], ...BY_ADMIN }));
    }
    const part = partOf(await client.sync(), room)!;
    expect(idsOf(part.timeline)).toEqual([room.id('b'), room.id('c')]);
    expect(part.isLimited).toBe(true);
    expect(part.prevBatch).toMatch(/^s1_\d+$/);
    expect(idsOf(part.state)).toEqual([room.id('topic')]);
    await client.expectTrue(store, room.roomId);
  });

  test('events say how old they are, what they replaced and what the user was then', async () => {
    const room = await wholeRoom();
    const name = (id: string, prev: string) => ({
      ...{ id, type: 'm.room.name', stateKey: '', sender: ADMIN, content: { name: id } },
      ...{ prev: [prev], ...BY_ADMIN },
    });
    await room.push(name('old', 'join'));
    const client = clientIn(room);
    await client.catchUp();
    await room.push(name('new', 'old'));
    const [event] = partOf(await client.sync(), room)!.timeline;
    expect(event).toMatchObject({
      event_id: room.id('new'),
      room_id: room.roomId,
      unsigned: { age: 4_999, membership: 'join', prev_content: { name: 'old' }, replaces_state: room.id('old') },
    });
    expect(event).not.toHaveProperty('auth_events');
  });

  test('filters of types and senders count before the limit, and an ignored user says nothing', async () => {
    const room = await wholeRoom();
    await room.hold(member('bob', BOB, 'join', { auth: AUTH }));
    const client = clientIn(room, { limit: 1, timeline: { types: ['m.room.mes*'], not_senders: ['@x:y.test'] } });
    await client.catchUp();
    await room.push(message('wanted', ADMIN, { prev: ['join'], ...BY_ADMIN }));
    await room.push({ id: 'other', type: 'm.other', sender: ADMIN, prev: ['wanted'], ...BY_ADMIN });
    expect(idsOf(partOf(await client.sync(), room)!.timeline)).toEqual([room.id('wanted')]);
    await store.inTransaction((tx) => {
      const content = JSON.stringify({ ignored_users: { [ADMIN]: {} } });
      upsertAccountData(tx, ME as UserId, { roomId: null, type: 'm.ignored_user_list', content });
      return Promise.resolve();
    });
    await room.push(message('unheard', ADMIN, { prev: ['other'], ...BY_ADMIN }));
    const answer = await client.sync();
    expect(answer.accountData).toEqual([expect.objectContaining({ type: 'm.ignored_user_list' })]);
    expect(answer.joined.size).toBe(0);
    await store.query(`DELETE FROM account_data WHERE user_id = $1`, [ME]);
  });
});

describe('a lazy client of a partial room', () => {
  const BY_BOB = ['create', 'power', 'bob'];
  const kick = member('kick', BOB, 'leave', { sender: ADMIN, auth: ['create', 'power', 'admin', 'bob'] });
  const leave = member('leave', ME, 'leave', { auth: ['create', 'power', 'join'] });
  /** A room without one is called after its members, who are told of for that. */
  const named = {
    ...{ id: 'name', type: 'm.room.name', stateKey: '', sender: ADMIN, content: { name: 'Room' } },
    ...{ prev: ['join'], ...BY_ADMIN },
  };

  test.each([
    { how: 'with state_after', stateAfter: true, limit: 10 },
    { how: 'by a gappy response', stateAfter: false, limit: 1 },
  ])('is told $how that somebody was put out of whom it knows by what he said', async (way) => {
    const room = new PartialRoom(store);
    await room.join();
    await room.hold(member('bob', BOB, 'join', { auth: AUTH }));
    await room.push(named, message('said', BOB, { prev: ['name'], auth: BY_BOB }));
    const client = clientIn(room, { lazy: true, ...way });
    await client.sync();
    expect(client.rooms.get(room.roomId)?.state.get(`m.room.member ${BOB}`)).toBe(room.id('bob'));
    await room.push({ ...kick, prev: ['said'] }, message('after', ADMIN, { prev: ['kick'], ...BY_ADMIN }));
    await client.sync();
    expect(client.rooms.get(room.roomId)?.state.get(`m.room.member ${BOB}`)).toBe(room.id('kick'));
    await client.expectTrue(store, room.roomId);
  });

  test('is told once more who speaks when it has left and come back', async () => {
    const room = new PartialRoom(store);
    await room.join();
    await room.hold(member('bob', BOB, 'join', { auth: AUTH }));
    await room.push(message('said', BOB, { prev: ['join'], auth: BY_BOB }));
    const client = clientIn(room, { lazy: true, limit: 1 });
    await client.sync();
    await room.push({ ...leave, prev: ['said'] });
    expect((await client.sync()).left.size).toBe(1);
    await room.joinAgain();
    await client.sync();
    await room.push(message('again', BOB, { prev: ['join2'], auth: BY_BOB }));
    expect(idsOf(partOf(await client.sync(), room)!.state)).toContain(room.id('bob'));
  });

  test('is not told to forget who speaks, though the state of the new stay does not name him', async () => {
    const room = await wholeRoom();
    await room.push(member('bob', BOB, 'join', { prev: ['join'], auth: AUTH }));
    await room.push(message('said', BOB, { prev: ['bob'], auth: BY_BOB }));
    const client = clientIn(room, { lazy: true });
    await client.sync();
    await room.push({ ...leave, prev: ['said'] });
    await room.joinAgain();
    await room.push(message('again', BOB, { prev: ['join2'], auth: BY_BOB }));
    await client.sync();
    const part = partOf(await client.sync(), room)!;
    expect(part.resync).not.toBeNull();
    expect(part.removed).not.toContainEqual({ type: 'm.room.member', stateKey: BOB });
    expect(client.rooms.get(room.roomId)?.state.get(`m.room.member ${BOB}`)).toBe(room.id('bob'));
  });
});

test('a timeline begins with the stay, whoever asks: what lies between two stays would be missing in its midst', async () => {
  const room = await wholeRoom();
  await room.push(message('said', ADMIN, { prev: ['join'], ...BY_ADMIN }));
  await room.push(member('leave', ME, 'leave', { prev: ['said'], auth: ['create', 'power', 'join'] }));
  await room.joinAgain();
  await room.push(message('again', ADMIN, { prev: ['join2'], ...BY_ADMIN }));
  const part = partOf(await clientIn(room, { lazy: true, limit: 100 }).sync(), room)!;
  expect(idsOf(part.timeline)).toEqual([room.id('join2'), room.id('again')]);
  expect(part.isLimited).toBe(true);
});

test('a lazy client gets a membership once, or with each event if it asks for that', async () => {
  const room = await wholeRoom();
  // A room without a name is called after its members, who are told at once.
  const named = { id: 'name', type: 'm.room.name', stateKey: '', sender: ADMIN, content: { name: 'Room' } };
  await room.push({ ...named, prev: ['join'], ...BY_ADMIN });
  for (let i = 0; i < 10; i += 1) {
    await room.push(
      message(`m${i}`, ME, { prev: [i === 0 ? 'name' : `m${i - 1}`], auth: ['create', 'power', 'join'] }),
    );
  }
  const once = clientIn(room, { lazy: true });
  const always = clientIn(room, { lazy: true, deviceId: 'OTHER', state: { include_redundant_members: true } });
  const members = async (client: FoldingClient, since?: string): Promise<unknown[]> =>
    idsOf(partOf(await client.sync(since === undefined ? {} : { since }), room)?.state ?? []);
  await once.catchUp();
  await always.catchUp();
  await room.push(message('first', ADMIN, { prev: ['m9'], ...BY_ADMIN }));
  const before = once.token!;
  expect(await members(once)).toEqual([room.id('admin')]);
  // A response that was lost is asked for again.
  expect(await members(once, before)).toEqual([room.id('admin')]);
  expect(await members(always)).toEqual(expect.arrayContaining([room.id('admin')]));
  await room.push(message('second', ADMIN, { prev: ['first'], ...BY_ADMIN }));
  expect(await members(once)).toEqual([]);
  expect(await members(always)).toEqual(expect.arrayContaining([room.id('admin')]));
});

test('who leaves is told so, up to his leave and no further, and who is put out too', async () => {
  const room = await wholeRoom();
  const client = clientIn(room);
  await client.catchUp();
  await room.push(
    member('kick', ME, 'leave', { sender: ADMIN, prev: ['join'], auth: ['create', 'power', 'admin', 'join'] }),
  );
  const answer = await client.sync();
  expect(answer.joined.size).toBe(0);
  expect(idsOf(answer.left.get(room.roomId)!.timeline)).toEqual([room.id('kick')]);
  expect((await client.sync()).left.size).toBe(0);
});

test('who was only invited, or kept out, is told of his leave and nothing of the state; who was there, as it was when he left', async () => {
  const room = await wholeRoom();
  const [guest, banned] = ['@declines:here.test', '@banned:here.test'];
  const by = { sender: ADMIN, auth: ['create', 'power', 'admin', 'rules'] };
  await room.push(member('ban', banned, 'ban', { ...by, ...BY_ADMIN, prev: ['join'] }));
  await room.push(member('invite', guest, 'invite', { ...by, prev: ['ban'] }));
  const invited = new FoldingClient(sync, { userId: guest });
  expect((await invited.sync()).invited.size).toBe(1);
  await room.push(member('no', guest, 'leave', { prev: ['invite'], auth: ['create', 'power', 'invite'] }));
  const declined = (await invited.sync()).left.get(room.roomId)!;
  expect(idsOf(declined.timeline)).toContain(room.id('no'));
  expect(declined.state).toEqual([]);
  await room.push(member('left', ME, 'leave', { prev: ['no'], auth: ['create', 'power', 'join'] }));
  const asked = { filter: { room: { include_leave: true, rooms: [room.roomId], timeline: { limit: 1 } } } };
  const stateOf = async (userId: string): Promise<unknown[]> =>
    idsOf((await new FoldingClient(sync, { userId }).sync(asked)).left.get(room.roomId)!.state);
  expect(await stateOf(banned)).toEqual([]);
  expect(await stateOf(guest)).toEqual([]);
  expect(await stateOf(ME)).toEqual(expect.arrayContaining([room.id('admin'), room.id('ban'), room.id('no')]));
});

test('who was kept out while none of us was there is told nothing of what the room is now', async () => {
  const room = await wholeRoom();
  const second = '@second:here.test';
  await room.push(member('second', second, 'join', { prev: ['join'], auth: AUTH }));
  await room.push(member('second-left', second, 'leave', { prev: ['second'], auth: ['create', 'power', 'second'] }));
  await room.push(member('left', ME, 'leave', { prev: ['second-left'], auth: ['create', 'power', 'join'] }));
  await room.hold(member('away', second, 'ban', { sender: ADMIN, prev: ['left'], auth: BY_ADMIN.auth }));
  await room.joinAgain('admin', 'away');
  const asked = { filter: { room: { include_leave: true, rooms: [room.roomId] } } };
  const part = (await new FoldingClient(sync, { userId: second }).sync(asked)).left.get(room.roomId)!;
  expect([part.state, part.timeline]).toEqual([[], []]);
});

test('an invitation is told with what the user needs to know of the room, once', async () => {
  const room = await wholeRoom();
  const guest = '@guest:here.test';
  const client = new FoldingClient(sync, { userId: guest });
  expect((await client.sync()).invited.size).toBe(0);
  const woken = client.sync({ timeoutMs: 600_000 });
  await room.push(
    member('invite', guest, 'invite', { sender: ADMIN, prev: ['join'], auth: ['create', 'power', 'admin', 'rules'] }),
  );
  const { invited } = await woken;
  const types = invited.get(room.roomId)!.map((event) => event['type']);
  expect(types).toEqual(expect.arrayContaining(['m.room.create', 'm.room.join_rules', 'm.room.member']));
  expect(invited.get(room.roomId)![0]).not.toHaveProperty('event_id');
  expect((await client.sync()).invited.size).toBe(0);
});

test('an invitation into a partial room is told once, and that it was taken back', async () => {
  const room = new PartialRoom(store);
  await room.join();
  await room.hold(member('there', ADMIN, 'join', { auth: ['create'] }));
  const guest = '@invited:here.test';
  const client = new FoldingClient(sync, { userId: guest });
  await client.sync();
  const by = { sender: ADMIN, auth: ['create', 'power', 'there', 'rules'] };
  await room.push(member('invite', guest, 'invite', { ...by, prev: ['join'] }));
  expect((await client.sync()).invited.size).toBe(1);
  expect((await client.sync()).invited.size).toBe(0);
  await room.push(
    member('no', guest, 'leave', { ...by, auth: ['create', 'power', 'there', 'invite'], prev: ['invite'] }),
  );
  expect((await client.sync()).left.size).toBe(1);
});

test('a sync takes as many statements for thirty rooms as for one, and locks no room', async () => {
  const first = await wholeRoom();
  const others = await Promise.all(Array.from({ length: 29 }, () => wholeRoom()));
  const roomIds = [first, ...others].map(({ roomId }) => roomId);
  const cost = async (rooms: readonly RoomId[]): Promise<string[]> => {
    const client = new FoldingClient(createSync({ store, notifier, clock: { now: () => 1 } }), {
      userId: ME,
      rooms,
      lazy: true,
    });
    return statementsOf(() => client.sync());
  };
  await cost(roomIds);
  const [one, many] = [await cost(roomIds.slice(0, 1)), await cost(roomIds)];
  expect(many.length).toBeLessThanOrEqual(one.length);
  expect(many.length).toBeLessThanOrEqual(27);
  expect(many.filter((text) => /FOR (NO KEY )?(UPDATE|SHARE)|FOR KEY SHARE/.test(text))).toEqual([]);
});

test('tokens of another kind, from the future or malformed are refused, and so are filters of another form', async () => {
  const room = await wholeRoom();
  const client = clientIn(room);
  for (const since of ['', 't1_2', 's2_1', 's1_-1', 's1_1_2', 's1_99999999', 's1_1\0', 'x'.repeat(10_000)]) {
    await expect(client.sync({ since }), since).rejects.toMatchObject({ kind: 'invalid' });
  }
  for (const filter of [{ room: [] }, { room: { timeline: { limit: '1' } } }, { room: { state: { types: [1] } } }]) {
    await expect(client.sync({ filter: filter as unknown as JsonObject })).rejects.toMatchObject({ kind: 'invalid' });
  }
  expect(notifier.waiting).toBe(0);
});

test('a long poll ends with nothing after its time, and with the client', async () => {
  const room = await wholeRoom();
  const client = clientIn(room);
  await client.catchUp();
  const gone = new AbortController();
  const waiting = client.sync({ timeoutMs: 600_000, signal: gone.signal });
  await expect.poll(() => notifier.waiting).toBe(1);
  gone.abort(new Error('the client went away'));
  await expect(waiting).rejects.toThrow('went away');
  expect(notifier.waiting).toBe(0);
});
