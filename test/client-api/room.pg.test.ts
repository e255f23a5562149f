import { describe, expect, test, vi } from 'vitest';
import { type UserId } from '../../src/matrix/identifiers.ts';
import { endStay } from '../../src/rooms/resync/end-stay.ts';
import { readRoom } from '../../src/store/journal/rooms.ts';
import { type Store } from '../../src/store/open-store.ts';
import { ADMIN, type EventInTest, ME, PartialRoom, member, message } from '../rooms/resync/partial-room.ts';
import { openTestStore } from '../support/postgres.ts';
import { statementsOf } from '../support/statements.ts';
import { type Answer, LISTENERS, type TestClient, startClientApi } from './client.ts';

const V3 = '/_matrix/client/v3';
const BOB = '@bob:there.test';
const SECOND = '@second:here.test';

const { database, store } = await openTestStore();
let token: string;

/** A partial room, and what its resident will tell. */
async function partialRoom(...more: readonly EventInTest[]): Promise<PartialRoom> {
  const room = new PartialRoom(store);
  await room.join();
  await room.hold(member('bob', BOB, 'join', { content: { membership: 'join', displayname: 'Bob', avatar_url: 5 } }));
  await room.hold(member('gone', '@gone:there.test', 'leave'), ...more);
  return room;
}

const BEFORE = ['create', 'admin', 'power', 'rules', 'bob', 'gone'];

async function complete(room: PartialRoom, ...more: readonly string[]): Promise<void> {
  await room.fetch(...BEFORE, ...more);
  expect((await room.walk()).resync.phase).toBe('complete');
}

/** A listener, with the user who joined logged in. */
async function listener(over: Parameters<typeof startClientApi>[1] = {}, of: Store = store): Promise<TestClient> {
  const client = await startClientApi(of, over);
  token = await client.login('me');
  return client;
}

function get(client: TestClient, room: PartialRoom, path: string, as = token): Promise<Answer> {
  return client.ask('GET', `${V3}/rooms/${encodeURIComponent(room.roomId)}${path}`, undefined, as);
}

const waiting = (client: TestClient, count: number): Promise<void> =>
  vi.waitFor(() => expect(client.notifier.waiting).toBe(count), { timeout: 10_000, interval: 5 });

const keysOf = ({ body }: Answer): string[] =>
  ((body['chunk'] ?? body) as { state_key: string }[]).map(({ state_key: key }) => key).sort();

describe('in a partial room', () => {
  test('what needs no memberships of others is answered at once', async () => {
    const room = await partialRoom();
    const client = await listener();
    expect((await client.ask('GET', `${V3}/joined_rooms`, undefined, token)).body['joined_rooms']).toContain(
      room.roomId,
    );
    expect((await get(client, room, '/state/m.room.create')).body).toMatchObject({ creator: ADMIN });
    expect((await get(client, room, '/state/m.room.create/')).status).toBe(200);
    expect((await get(client, room, `/state/m.room.member/${ME}`)).body).toEqual({ membership: 'join' });
    expect((await get(client, room, `/state/m.room.member/${SECOND}`)).status).toBe(404);
    expect((await get(client, room, '/state/m.room.topic')).body).toMatchObject({ errcode: 'M_NOT_FOUND' });
    const event = await get(client, room, '/state/m.room.join_rules?format=event');
    expect(event.body).toEqual({
      ...{ content: { join_rule: 'public' }, event_id: room.id('rules'), origin_server_ts: 1, room_id: room.roomId },
      ...{ sender: ADMIN, state_key: '', type: 'm.room.join_rules' },
    });
    expect((await get(client, room, `/event/${encodeURIComponent(room.id('join'))}`)).body).toMatchObject({
      ...{ event_id: room.id('join'), sender: ME, unsigned: { age: client.clock.at - 1 } },
    });
  });

  test('everything else waits, and is answered when the room is whole', async () => {
    const room = await partialRoom();
    const client = await listener();
    const asked = ['/members', '/joined_members', '/state', `/state/m.room.member/${BOB}`, '/members?membership=leave'];
    const answers = asked.map((path) => get(client, room, path));
    await waiting(client, asked.length);
    await complete(room);
    const [members, joined, state, bob, left] = await Promise.all(answers);
    expect(keysOf(members!)).toEqual([ADMIN, BOB, '@gone:there.test', ME].sort());
    expect(joined!.body).toEqual({ joined: { [ADMIN]: {}, [BOB]: { display_name: 'Bob' }, [ME]: {} } });
    expect(keysOf(state!)).toHaveLength(7);
    expect(bob!.body).toMatchObject({ membership: 'join', displayname: 'Bob' });
    expect(keysOf(left!)).toEqual(['@gone:there.test']);
    expect(client.notifier.waiting).toBe(0);
  });

  test('however many wait, each change costs a process one look', async () => {
    const room = await partialRoom();
    const client = await listener();
    const answers = Array.from({ length: 40 }, () => get(client, room, '/members'));
    await waiting(client, 40);
    const statements = await statementsOf(async () => {
      await room.push(message('hello', ADMIN, { prev: ['join'], auth: ['create', 'power', 'admin'] }));
      // The one look is behind this one.
      await get(client, room, '/state/m.room.create');
    });
    const looks = statements.filter((text) => text.includes('LEFT JOIN resyncs'));
    expect(looks.length).toBeGreaterThan(0);
    expect(looks.length).toBeLessThanOrEqual(2 * LISTENERS);
    await complete(room);
    for (const { status } of await Promise.all(answers)) expect(status).toBe(200);
  });

  test('however many wait, who may read is looked up for all of them together', async () => {
    const room = await partialRoom();
    const client = await listener();
    const second = await client.login('second');
    await room.push(member('second', SECOND, 'join', { prev: ['join'], auth: ['create', 'power', 'rules'] }));
    const answers = Array.from({ length: 100 }, (_, i) => get(client, room, '/members', i % 2 === 0 ? token : second));
    await waiting(client, 100);
    await room.fetch(...BEFORE);
    const statements = await statementsOf(async () => {
      await room.walk();
      for (const { status } of await Promise.all(answers)) expect(status).toBe(200);
    });
    const looks = statements.filter((text) => text.includes('AS a(room_id, user_id, nth)'));
    expect(looks.length).toBeGreaterThan(0);
    expect(looks.length).toBeLessThanOrEqual(3);
  });

  test('whoever waits as long as is allowed is told how far the room is, and when to come back', async () => {
    const room = await partialRoom();
    const client = await listener({ stateWaitMaxMs: 0 });
    for (const path of ['/members', '/joined_members', '/state', `/state/m.room.member/${BOB}`]) {
      expect(await get(client, room, path)).toMatchObject({
        status: 503,
        body: {
          errcode: 'M_UNABLE_DUE_TO_PARTIAL_STATE',
          error: expect.stringContaining('resident'),
          retry_after_ms: 5000,
          'org.rejoinder.progress': { phase: 'fetching', attempts: 0, servers: 1 },
        },
      });
    }
    expect(client.notifier.waiting).toBe(0);
  });

  test('nobody waits any more when his connection is gone', async () => {
    const room = await partialRoom();
    const client = await listener();
    const gone = new AbortController();
    const url = `${client.url}${V3}/rooms/${encodeURIComponent(room.roomId)}/members`;
    const asked = fetch(url, { signal: gone.signal, headers: { authorization: `Bearer ${token}` } }).catch(
      () => 'gone',
    );
    await waiting(client, 1);
    gone.abort();
    expect(await asked).toBe('gone');
    await waiting(client, 0);
  });

  test('a listener of another process is woken by what it did not write', async () => {
    const room = await partialRoom();
    const other = await listener({}, database.openStore());
    const answer = get(other, room, '/members');
    await waiting(other, 1);
    await complete(room);
    expect(keysOf(await answer)).toContain(BOB);
  });

  test('so is one whose connection that listens was cut, and cannot be made again', async () => {
    const room = await partialRoom();
    const others = database.openStore();
    const other = await listener({}, others);
    const answer = get(other, room, '/members');
    await waiting(other, 1);
    Object.assign(others.connection, { connectionString: 'postgres://127.0.0.1:1/nothing' });
    const [cut] = await store.query<{ cut: number }>(
      `SELECT count(pg_terminate_backend(pid)) AS cut FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE 'LISTEN%'`,
    );
    expect(cut?.cut).toBeGreaterThan(0);
    await complete(room);
    expect(keysOf(await answer)).toContain(BOB);
  });

  test('a definite word comes at once when our join turns out to be refused', async () => {
    const room = await partialRoom();
    const client = await listener();
    const answers = ['/members', '/joined_members', '/state'].map((path) => get(client, room, path));
    await waiting(client, 3);
    const refused = {
      joinEventId: room.id('join'),
      userId: ME as UserId,
      rule: 'join-banned',
      reason: 'banned',
      at: 5,
    };
    await room.journal({ type: 'JoinRejected', ...refused }, { type: 'StayEnded', because: 'join-rejected', at: 5 });
    for (const answer of await Promise.all(answers)) {
      expect(answer).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } });
    }
  });
});

describe('a user', () => {
  test('who is not in a room, or was only invited, is told nothing of it, as of a room that is not here', async () => {
    const room = await partialRoom();
    const client = await listener();
    const stranger = await client.user('stranger');
    await room.push({
      ...member('invite', '@stranger:here.test', 'invite', {
        prev: ['join'],
        auth: ['create', 'power', 'rules', 'admin'],
      }),
      sender: ADMIN,
    });
    const absent = new PartialRoom(store);
    for (const path of [
      '/members',
      '/joined_members',
      '/state',
      '/state/m.room.create',
      `/state/m.room.member/${BOB}`,
    ]) {
      for (const each of [room, absent]) {
        const answer = await get(client, each, path, stranger);
        expect([path, answer]).toMatchObject([path, { status: 403, body: { errcode: 'M_FORBIDDEN' } }]);
      }
    }
    const event = await get(client, room, `/event/${encodeURIComponent(room.id('join'))}`, stranger);
    expect(event).toMatchObject({ status: 404, body: { errcode: 'M_NOT_FOUND' } });
    expect(client.notifier.waiting).toBe(0);
  });

  test('who left reads the state as he left it, once that is known', async () => {
    const room = await partialRoom();
    const client = await listener();
    await room.push(member('second', SECOND, 'join', { prev: ['join'], auth: ['create', 'power', 'rules'] }));
    await room.push(member('leave', ME, 'leave', { prev: ['second'], auth: ['create', 'power', 'join'] }));
    const topic = { type: 'm.room.topic', stateKey: '', content: { topic: 'later' }, prev: ['leave'] };
    await room.push({ id: 'topic', ...topic, auth: ['create', 'power', 'admin'] });
    const answer = get(client, room, '/members');
    await waiting(client, 1);
    expect((await get(client, room, '/joined_members')).status).toBe(403);
    expect((await get(client, room, '/state/m.room.topic')).status).toBe(404);
    expect((await get(client, room, '/state/m.room.create')).status).toBe(200);
    await complete(room);
    expect(keysOf(await answer)).toEqual([ADMIN, BOB, '@gone:there.test', ME, SECOND].sort());
    expect(keysOf(await get(client, room, '/members?membership=join'))).toEqual([ADMIN, BOB, SECOND]);
    expect(keysOf(await get(client, room, '/state'))).toHaveLength(8);
    for (const [name, status] of [
      ['join', 200],
      ['leave', 200],
      ['topic', 404],
    ] as const) {
      expect((await get(client, room, `/event/${encodeURIComponent(room.id(name))}`)).status).toBe(status);
    }
  });

  test('who was banned and pardoned after he left still reads what he left', async () => {
    const room = await partialRoom();
    const client = await listener();
    await room.push(member('second', SECOND, 'join', { prev: ['join'], auth: ['create', 'power', 'rules'] }));
    await room.push(
      member('kick', ME, 'leave', { sender: ADMIN, prev: ['second'], auth: ['create', 'power', 'admin', 'join'] }),
    );
    await room.push(
      member('ban', ME, 'ban', { sender: ADMIN, prev: ['kick'], auth: ['create', 'power', 'admin', 'kick'] }),
    );
    await room.push(
      member('pardon', ME, 'leave', { sender: ADMIN, prev: ['ban'], auth: ['create', 'power', 'admin', 'ban'] }),
    );
    await complete(room);
    const { body } = await get(client, room, '/members');
    expect((body['chunk'] as { event_id: string }[]).map((event) => event.event_id)).toContain(room.id('kick'));
    expect((await get(client, room, `/event/${encodeURIComponent(room.id('pardon'))}`)).status).toBe(404);
  });

  test('whose stay ended before the state was known is told so at once', async () => {
    const room = await partialRoom();
    const client = await listener();
    await room.push(member('leave', ME, 'leave', { prev: ['join'], auth: ['create', 'power', 'join'] }));
    const answer = get(client, room, '/members');
    await waiting(client, 1);
    await room.journal({ type: 'StayEnded', because: 'left', at: 5 });
    expect(await answer).toMatchObject({ status: 404, body: { errcode: 'M_NOT_FOUND' } });
    expect((await get(client, room, '/members')).status).toBe(404);
    expect((await get(client, room, '/state/m.room.create')).status).toBe(200);
  });

  test('who is put out as the last of us while he waits is given what he left, by the last round', async () => {
    const room = await partialRoom();
    const client = await listener();
    const answers = [get(client, room, '/members'), get(client, room, '/state')];
    await waiting(client, 2);
    await room.push(
      member('kick', ME, 'leave', { sender: ADMIN, prev: ['join'], auth: ['create', 'power', 'admin', 'join'] }),
    );
    answers.push(get(client, room, '/members'));
    await waiting(client, 3);
    await room.fetch(...BEFORE);
    expect((await room.walk()).resync.phase).toBe('ended');
    const [members, state, asKicked] = await Promise.all(answers);
    expect(keysOf(members!)).toEqual([ADMIN, BOB, '@gone:there.test', ME].sort());
    expect(asKicked!.body).toEqual(members!.body);
    expect(keysOf(state!)).toHaveLength(7);
    expect((await get(client, room, '/members')).status).toBe(200);
  });

  test('is told at once when the last round ended without the state', async () => {
    const room = await partialRoom();
    const other = await listener({}, database.openStore());
    const answers = ['/members', '/joined_members', '/state'].map((path) => get(other, room, path));
    await waiting(other, 3);
    await room.push(member('leave', ME, 'leave', { prev: ['join'], auth: ['create', 'power', 'join'] }));
    const closesAt = (await readRoom(store, room.roomId))?.resync.closesAt ?? 0;
    await endStay({ ...room.context, clock: { now: () => closesAt } }, { roomId: room.roomId, epoch: 1 });
    const statuses = (await Promise.all(answers)).map(({ status }) => status);
    expect(statuses.every((status) => status === 403 || status === 404)).toBe(true);
  });

  test('who left an earlier stay reads what he left, while the next one is partial and says nothing of him', async () => {
    const room = await partialRoom();
    const client = await listener();
    const second = await client.login('second');
    await room.push(member('second', SECOND, 'join', { prev: ['join'], auth: ['create', 'power', 'rules'] }));
    await complete(room);
    await room.push(member('leave', SECOND, 'leave', { prev: ['second'], auth: ['create', 'power', 'second'] }));
    await room.push(member('leave2', ME, 'leave', { prev: ['leave'], auth: ['create', 'power', 'join'] }));
    const before = await get(client, room, '/members', second);
    expect(keysOf(before)).toEqual([ADMIN, BOB, '@gone:there.test', ME, SECOND].sort());
    await room.joinAgain();
    expect(await readRoom(store, room.roomId)).toMatchObject({ partial: true, epoch: 2 });
    expect((await get(client, room, '/members', second)).body).toEqual(before.body);
    expect((await get(client, room, `/event/${encodeURIComponent(room.id('leave'))}`, second)).status).toBe(200);
    expect((await get(client, room, '/joined_members', second)).status).toBe(403);
  });

  test('who is put out while he waits is given what he left, and no more', async () => {
    const room = await partialRoom();
    const client = await listener();
    const second = await client.login('second');
    await room.push(member('second', SECOND, 'join', { prev: ['join'], auth: ['create', 'power', 'rules'] }));
    const answer = get(client, room, '/members', second);
    await waiting(client, 1);
    const auth = ['create', 'power', 'admin', 'second'];
    await room.push(member('kick', SECOND, 'leave', { sender: ADMIN, prev: ['second'], auth }));
    await room.push(member('late', '@late:there.test', 'join', { prev: ['kick'], auth: ['create', 'power', 'rules'] }));
    await complete(room);
    expect(keysOf(await answer)).toEqual([ADMIN, BOB, '@gone:there.test', ME, SECOND].sort());
    expect(keysOf(await get(client, room, '/members'))).toContain('@late:there.test');
  });

  test('reads a room that anybody may read, as long as one of us is in it', async () => {
    const room = await partialRoom();
    const client = await listener();
    const reader = await client.user('reader');
    await room.push({
      ...{ id: 'open', type: 'm.room.history_visibility', stateKey: '', prev: ['join'] },
      ...{ content: { history_visibility: 'world_readable' }, auth: ['create', 'power', 'admin'] },
    });
    await complete(room);
    expect(keysOf(await get(client, room, '/members', reader))).toContain(BOB);
    expect((await get(client, room, '/joined_members', reader)).status).toBe(403);
    expect((await get(client, room, `/event/${encodeURIComponent(room.id('open'))}`, reader)).status).toBe(200);
    await room.push(member('leave', ME, 'leave', { prev: ['open'], auth: ['create', 'power', 'join'] }));
    expect((await get(client, room, '/members', reader)).status).toBe(403);
  });
});

describe('an event', () => {
  const visibility = (id: string, value: string, prev: string): EventInTest => ({
    ...{ id, type: 'm.room.history_visibility', stateKey: '', prev: [prev] },
    ...{ content: { history_visibility: value }, auth: ['create', 'power', 'admin'] },
  });
  const said = (id: string, prev: string): EventInTest =>
    message(id, ADMIN, { prev: [prev], auth: ['create', 'power', 'admin'] });
  const eventOf = (client: TestClient, room: PartialRoom, name: string, as?: string): Promise<Answer> =>
    get(client, room, `/event/${encodeURIComponent(room.id(name))}`, as);

  test('that is not held, rejected, of another room or no event at all is not found', async () => {
    const [room, other] = [await partialRoom(), await partialRoom()];
    const client = await listener();
    await room.push(message('refused', '@nobody:there.test', { prev: ['join'], auth: ['create', 'power'] }));
    for (const id of [room.id('nothing'), room.id('refused'), other.id('join'), room.id('before')]) {
      const answer = await get(client, room, `/event/${encodeURIComponent(id)}`);
      expect(answer).toMatchObject({ status: 404, body: { errcode: 'M_NOT_FOUND' } });
    }
    for (const id of ['rubbish', '%24a%00b']) {
      expect((await get(client, room, `/event/${id}`)).body).toMatchObject({ errcode: 'M_INVALID_PARAM' });
    }
  });

  test('of the state is found where it stands there, though it is in no timeline', async () => {
    const room = await partialRoom();
    const client = await listener();
    expect((await eventOf(client, room, 'power')).status).toBe(200);
    expect((await eventOf(client, room, 'bob')).status).toBe(404);
    await complete(room);
    expect((await eventOf(client, room, 'bob')).status).toBe(200);
  });

  test('from before a user joined is seen as the room allowed it then', async () => {
    const room = await partialRoom();
    const client = await listener();
    const second = await client.user('newcomer');
    await room.push(said('shared', 'join'));
    await room.push(visibility('closed', 'joined', 'shared'), said('joined', 'closed'));
    await room.push(visibility('open', 'world_readable', 'joined'), said('world', 'open'));
    await room.push(visibility('shut', 'joined', 'world'));
    const join = { prev: ['shut'], auth: ['create', 'power', 'rules'] };
    await room.push(member('newcomer', '@newcomer:here.test', 'join', join), said('after', 'newcomer'));
    const seen = async (name: string, as: string) => (await eventOf(client, room, name, as)).status;
    for (const [name, status] of [
      ['shared', 200],
      ['closed', 200],
      ['joined', 404],
      ['open', 200],
      ['world', 200],
      ['shut', 200],
      ['newcomer', 200],
      ['after', 200],
    ] as const) {
      expect([name, await seen(name, second), await seen(name, token)]).toEqual([name, status, 200]);
    }
    expect(client.notifier.waiting).toBe(0);
  });

  test('waits where an invite that is not known decides, and for nothing else', async () => {
    const invite = {
      ...member('invite', '@guest:here.test', 'invite'),
      sender: ADMIN,
      auth: ['create', 'power', 'rules', 'admin'],
    };
    const room = await partialRoom(invite);
    const client = await listener();
    const guest = await client.user('guest');
    const uninvited = await client.user('uninvited');
    await room.push(visibility('invited', 'invited', 'join'), said('said', 'invited'));
    const auth = ['create', 'power', 'rules'];
    await room.push(member('guest', '@guest:here.test', 'join', { prev: ['said'], auth }));
    await room.push(member('uninvited', '@uninvited:here.test', 'join', { prev: ['guest'], auth }));
    expect((await eventOf(client, room, 'said')).status).toBe(200);
    expect((await eventOf(client, room, 'guest', guest)).status).toBe(200);
    const answers = [eventOf(client, room, 'said', guest), eventOf(client, room, 'said', uninvited)];
    await waiting(client, 2);
    await complete(room, 'invite');
    expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([200, 404]);
  });
});

describe('a list of members', () => {
  test('is of those with a membership, or of all but these, as they are or were at a position', async () => {
    const room = await partialRoom();
    const client = await listener();
    await complete(room);
    const [head] = await store.query<{ position: number }>(`SELECT position FROM journal_head`);
    await room.push(member('late', '@late:there.test', 'join', { prev: ['join'], auth: ['create', 'power', 'rules'] }));
    const keys = async (query: string) => keysOf(await get(client, room, `/members${query}`));
    expect(await keys('?not_membership=join')).toEqual(['@gone:there.test']);
    expect(await keys('?membership=join&not_membership=leave')).toEqual([ADMIN, BOB, '@late:there.test', ME].sort());
    expect(await keys(`?at=s1_${head!.position}&membership=join`)).toEqual([ADMIN, BOB, ME].sort());
    expect(await keys('?at=s1_1&membership=join')).toEqual([ADMIN, BOB, ME].sort());
    // As a sync gives it whose next response has something to put right.
    expect(await keys(`?at=s1_${head!.position}_1&membership=join`)).toEqual([ADMIN, BOB, ME].sort());
  });

  test('at a position are told to who may see the history of then', async () => {
    const room = await partialRoom();
    const client = await listener();
    const second = await client.login('second');
    await complete(room);
    const content = { history_visibility: 'joined' };
    const auth = ['create', 'power', 'admin'];
    await room.push({ id: 'closed', type: 'm.room.history_visibility', stateKey: '', content, prev: ['join'], auth });
    const [before] = await store.query<{ position: number }>(`SELECT position FROM journal_head`);
    await room.push(member('second', SECOND, 'join', { prev: ['closed'], auth: ['create', 'power', 'rules'] }));
    const [since] = await store.query<{ position: number }>(`SELECT position FROM journal_head`);
    const statusAt = async (position: number, token?: string): Promise<number> =>
      (await get(client, room, `/members?at=s1_${position}`, token)).status;
    expect(await statusAt(before!.position)).toBe(200);
    expect(await statusAt(before!.position, second)).toBe(403);
    expect(await statusAt(since!.position, second)).toBe(200);
  });

  test.each([
    '?membership=friend',
    '?not_membership=',
    '?membership=join&membership=ban',
    '?at=t1_5',
    '?at=s1_999999999999',
  ])('is refused for %s', async (query) => {
    const room = await partialRoom();
    const client = await listener();
    expect(await get(client, room, `/members${query}`)).toMatchObject({
      status: 400,
      body: { errcode: 'M_INVALID_PARAM' },
    });
    expect(client.notifier.waiting).toBe(0);
  });

  test('of a user who calls himself anything whatever is whole', async () => {
    const room = await partialRoom();
    const client = await listener();
    await complete(room);
    const odd = { membership: 'join', displayname: 'a \u0000 "and" \\ \u2028', __proto__: null };
    await room.push(
      member('odd', '@odd:there.test', 'join', { prev: ['join'], auth: ['create', 'power', 'rules'], content: odd }),
    );
    const { body } = await get(client, room, '/joined_members');
    expect((body['joined'] as Record<UserId, unknown>)['@odd:there.test' as UserId]).toEqual({
      display_name: odd.displayname,
    });
  });
});
