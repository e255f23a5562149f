import { describe, expect, test } from 'vitest';
import { PartialRoom } from '../rooms/resync/partial-room.ts';
import { openTestStore } from '../support/postgres.ts';
import { resumeUpgrades } from '../../src/rooms/send/finish-upgrades.ts';
import { type Answer, type TestClient, roomsContextOf, startClientApi } from './client.ts';

const V3 = '/_matrix/client/v3';
const { store } = await openTestStore();

interface Stage {
  readonly client: TestClient;
  readonly token: string;
  readonly userId: string;
  readonly roomId: string;
  ask(method: string, path: string, body?: object, as?: string): Promise<Answer>;
  /** Somebody else, and his token. */
  other(): Promise<{ readonly token: string; readonly userId: string }>;
}

let made = 0;

async function stage(body: object = {}): Promise<Stage> {
  const client = await startClientApi(store);
  const name = `maker${(made += 1)}`;
  const token = await client.login(name);
  const ask: Stage['ask'] = (method, path, content, as = token) => client.ask(method, V3 + path, content, as);
  const created = await ask('POST', '/createRoom', { preset: 'public_chat', ...body });
  expect([created.status, created.body]).toEqual([200, created.body]);
  return {
    ...{ client, token, ask, userId: `@${name}:here.test`, roomId: created.body['room_id'] as string },
    other: async () => {
      const called = `guest${(made += 1)}`;
      return { token: await client.login(called), userId: `@${called}:here.test` };
    },
  };
}

const encoded = encodeURIComponent;

describe('a room that is forgotten', () => {
  const left = encoded(JSON.stringify({ room: { include_leave: true } }));
  const leftRooms = async (here: Stage, as: string): Promise<string[]> => {
    const { body } = await here.ask('GET', `/sync?filter=${left}`, undefined, as);
    return Object.keys((body as { rooms?: { leave?: object } }).rooms?.leave ?? {});
  };

  test('is read no more and told to no new client, until its user is in again', async () => {
    const here = await stage();
    const { token } = await here.other();
    const room = `/rooms/${encoded(here.roomId)}`;
    await here.ask('POST', `${room}/join`, {}, token);
    expect(await here.ask('POST', `${room}/forget`, {}, token)).toMatchObject({
      ...{ status: 400, body: { errcode: 'M_UNKNOWN' } },
    });
    await here.ask('POST', `${room}/leave`, {}, token);
    expect(await leftRooms(here, token)).toEqual([here.roomId]);
    expect((await here.ask('GET', `${room}/messages?dir=b`, undefined, token)).status).toBe(200);
    expect((await here.ask('POST', `${room}/forget`, {}, token)).status).toBe(200);
    expect((await here.ask('POST', `${room}/forget`, {}, token)).status).toBe(200);
    expect(await leftRooms(here, token)).toEqual([]);
    expect((await here.ask('GET', `${room}/messages?dir=b`, undefined, token)).status).toBe(403);
    expect((await here.ask('GET', `${room}/state`, undefined, token)).status).toBe(403);

    await here.ask('POST', `${room}/join`, {}, token);
    expect((await here.ask('GET', `${room}/messages?dir=b`, undefined, token)).status).toBe(200);
    await here.ask('POST', `${room}/leave`, {}, token);
    expect(await leftRooms(here, token)).toEqual([here.roomId]);
  });

  test('is told as left to a client that has it as joined', async () => {
    const here = await stage();
    const { token } = await here.other();
    const room = `/rooms/${encoded(here.roomId)}`;
    await here.ask('POST', `${room}/join`, {}, token);
    const { next_batch: since } = (await here.ask('GET', '/sync', undefined, token)).body;
    await here.ask('POST', `${room}/leave`, {}, token);
    await here.ask('POST', `${room}/forget`, {}, token);
    const { body } = await here.ask('GET', `/sync?since=${String(since)}`, undefined, token);
    expect(Object.keys((body as { rooms: { leave: object } }).rooms.leave)).toEqual([here.roomId]);
  });

  test('is none that a user never was in', async () => {
    const here = await stage();
    const { token } = await here.other();
    expect((await here.ask('POST', `/rooms/${encoded(here.roomId)}/forget`, {}, token)).status).toBe(403);
    expect((await here.ask('POST', '/rooms/!nowhere:here.test/forget', {}, token)).status).toBe(403);
  });
});

describe('a room that is upgraded', () => {
  const contentOf = async (here: Stage, roomId: string, type: string): Promise<Record<string, unknown>> =>
    (await here.ask('GET', `/rooms/${encoded(roomId)}/state/${type}/`)).body;

  test.each(['9', '11', '12'])(
    'is followed by one of version %s, with its state, its aliases and who is kept out',
    async (version) => {
      const alias = `upgraded-${version}`;
      const here = await stage({
        ...{ room_version: '10', name: 'Old', topic: 'Talk', room_alias_name: alias, visibility: 'public' },
        initial_state: [{ type: 'm.room.history_visibility', content: { history_visibility: 'joined' } }],
        power_level_content_override: { users_default: 1 },
      });
      const banned = await here.other();
      await here.ask('POST', `/rooms/${encoded(here.roomId)}/ban`, { user_id: banned.userId });
      const { status, body } = await here.ask('POST', `/rooms/${encoded(here.roomId)}/upgrade`, {
        new_version: version,
      });
      expect([status, body]).toEqual([200, { replacement_room: expect.stringMatching(/^!/) as string }]);
      const successor = body['replacement_room'] as string;
      expect(await contentOf(here, successor, 'm.room.create')).toMatchObject({
        room_version: version,
        predecessor: { room_id: here.roomId },
      });
      expect(await contentOf(here, successor, 'm.room.name')).toEqual({ name: 'Old' });
      expect(await contentOf(here, successor, 'm.room.topic')).toMatchObject({ topic: 'Talk' });
      expect(await contentOf(here, successor, 'm.room.join_rules')).toEqual({ join_rule: 'public' });
      expect(await contentOf(here, successor, 'm.room.history_visibility')).toEqual({ history_visibility: 'joined' });
      expect(await contentOf(here, successor, 'm.room.canonical_alias')).toEqual({ alias: `#${alias}:here.test` });
      expect(await contentOf(here, successor, 'm.room.power_levels')).toMatchObject({
        users_default: 1,
        users: version === '12' ? {} : { [here.userId]: 100 },
      });
      const member = await here.ask(
        'GET',
        `/rooms/${encoded(successor)}/state/m.room.member/${encoded(banned.userId)}`,
      );
      expect(member.body).toMatchObject({ membership: 'ban' });
      const directory = await here.ask('GET', `/directory/room/${encoded(`#${alias}:here.test`)}`);
      expect(directory.body['room_id']).toBe(successor);
      expect((await here.ask('GET', `/directory/list/room/${encoded(successor)}`)).body).toEqual({
        visibility: 'public',
      });
      expect((await here.ask('GET', `/directory/list/room/${encoded(here.roomId)}`)).body).toEqual({
        visibility: 'private',
      });

      expect(await contentOf(here, here.roomId, 'm.room.tombstone')).toMatchObject({ replacement_room: successor });
      expect(await contentOf(here, here.roomId, 'm.room.canonical_alias')).toEqual({});
      expect(await contentOf(here, here.roomId, 'm.room.power_levels')).toMatchObject({
        events_default: 50,
        invite: 50,
      });
    },
  );

  test('takes along what its members keep of it, each when he joins the new one', async () => {
    const here = await stage();
    const { token, userId } = await here.other();
    const [old, at] = [here.roomId, `/rooms/${encoded(here.roomId)}`];
    await here.ask('POST', `${at}/join`, {}, token);
    const keep = async (as: string, who: string): Promise<void> => {
      await here.ask('PUT', `/user/${who}/rooms/${encoded(old)}/tags/u.work`, { order: 0.5 }, as);
      await here.ask('PUT', `/user/${who}/account_data/m.direct`, { '@friend:far.test': ['!x:y', old] }, as);
      await here.ask('PUT', `/pushrules/global/room/${encoded(old)}`, { actions: ['notify'] }, as);
      const conditions = [{ kind: 'event_match', key: 'room_id', pattern: old }];
      await here.ask('PUT', '/pushrules/global/override/loud', { actions: [], conditions }, as);
    };
    await keep(here.token, here.userId);
    await keep(token, userId);
    const upgraded = await here.ask('POST', `${at}/upgrade`, { new_version: '11' });
    const successor = upgraded.body['replacement_room'] as string;
    const kept = async (as: string, who: string): Promise<readonly unknown[]> => [
      (await here.ask('GET', `/user/${who}/rooms/${encoded(successor)}/tags`, undefined, as)).body,
      (await here.ask('GET', `/user/${who}/account_data/m.direct`, undefined, as)).body,
      (await here.ask('GET', `/pushrules/global/room/${encoded(successor)}`, undefined, as)).status,
      JSON.stringify((await here.ask('GET', '/pushrules/', undefined, as)).body).includes(`"pattern":"${successor}"`),
    ];
    const all = [{ tags: { 'u.work': { order: 0.5 } } }, { '@friend:far.test': ['!x:y', old, successor] }, 200, true];
    expect(await kept(here.token, here.userId)).toEqual(all);
    expect((await kept(token, userId))[2]).toBe(404);
    expect((await here.ask('POST', `/join/${encoded(successor)}`, {}, token)).status).toBe(200);
    expect(await kept(token, userId)).toEqual(all);
    expect((await here.ask('POST', `/join/${encoded(successor)}`, {}, token)).status).toBe(200);
    expect(await kept(token, userId)).toEqual(all);
  });

  test('is one that says so itself: a room that only calls itself its successor gets nothing', async () => {
    const here = await stage({ room_alias_name: 'claimed' });
    await here.ask('PUT', `/user/${here.userId}/rooms/${encoded(here.roomId)}/tags/u.work`, {});
    const { token, userId } = await here.other();
    await here.ask('POST', `/rooms/${encoded(here.roomId)}/join`, {}, token);
    const predecessor = { room_id: here.roomId };
    const claimed = await here.ask(
      'POST',
      '/createRoom',
      { preset: 'public_chat', creation_content: { predecessor } },
      token,
    );
    const thief = claimed.body['room_id'] as string;
    expect((await here.ask('POST', `/join/${encoded(thief)}`, {})).status).toBe(200);
    expect((await here.ask('GET', `/user/${here.userId}/rooms/${encoded(thief)}/tags`)).body).toEqual({ tags: {} });
    const directory = await here.ask('GET', `/directory/room/${encoded('#claimed:here.test')}`);
    expect(directory.body['room_id']).toBe(here.roomId);
    expect(userId).not.toBe(here.userId);
  });

  test('is no matter of who may not say so, nor of a version that nobody knows', async () => {
    const here = await stage();
    const { token } = await here.other();
    const at = `/rooms/${encoded(here.roomId)}`;
    await here.ask('POST', `${at}/join`, {}, token);
    expect((await here.ask('POST', `${at}/upgrade`, { new_version: '11' }, token)).status).toBe(403);
    expect(await here.ask('POST', `${at}/upgrade`, { new_version: 'none' })).toMatchObject({
      ...{ status: 400, body: { errcode: 'M_UNSUPPORTED_ROOM_VERSION' } },
    });
    expect((await here.ask('GET', `${at}/state/m.room.tombstone/`)).status).toBe(404);
  });

  test('keeps its aliases and its place on the list where it cannot say where it has gone', async () => {
    const here = await stage({ room_alias_name: 'kept-alias', visibility: 'public' });
    const at = `/rooms/${encoded(here.roomId)}`;
    const listed = async (): Promise<readonly unknown[]> => {
      const rows = await store.query<{ room_id: string }>('SELECT room_id FROM listed_rooms');
      const alias = await here.ask('GET', `/directory/room/${encoded('#kept-alias:here.test')}`);
      return [alias.body['room_id'], rows.some((row) => row.room_id === here.roomId), rows.length];
    };
    const before = await listed();
    expect(before.slice(0, 2)).toEqual([here.roomId, true]);
    await store.query(`ALTER TABLE pdus ADD CONSTRAINT no_tombstone CHECK (type <> 'm.room.tombstone') NOT VALID`);
    const { status } = await here.ask('POST', `${at}/upgrade`, { new_version: '11' });
    await store.query('ALTER TABLE pdus DROP CONSTRAINT no_tombstone');
    expect([status, await listed()]).toEqual([500, before]);
    expect((await here.ask('POST', `${at}/upgrade`, { new_version: '11' })).status).toBe(200);
    expect((await listed()).slice(1)).toEqual([false, before[2]]);
  });

  test.each(['m.room.tombstone', 'm.room.canonical_alias'])(
    'is finished by another process where one ends before it has said %s',
    async (type) => {
      const alias = `left-at-${type}`;
      const here = await stage({ room_alias_name: alias });
      const at = `/rooms/${encoded(here.roomId)}`;
      await here.ask('PUT', `/user/${here.userId}/rooms/${encoded(here.roomId)}/tags/u.x`, {});
      const roomsBefore = (await store.query('SELECT FROM rooms')).length;
      // Nothing of the old room can be stored, as if the process had ended there.
      await store.query(
        `ALTER TABLE pdus ADD CONSTRAINT ended CHECK (type <> '${type}' OR room_id <> '${here.roomId}') NOT VALID`,
      );
      const { status } = await here.ask('POST', `${at}/upgrade`, { new_version: '11' });
      await store.query('ALTER TABLE pdus DROP CONSTRAINT ended');
      expect(status).toBe(500);
      const context = roomsContextOf(store, here.client.clock);
      const followed: string[][] = [];
      const follow = (...room: string[]): Promise<void> => Promise.resolve(void followed.push(room));
      // Somebody is at it.
      await resumeUpgrades(context, follow);
      expect(followed).toEqual([]);
      await store.query('UPDATE room_upgrades SET leased_until = 0');
      await resumeUpgrades(context, follow);
      const successor = (await contentOf(here, here.roomId, 'm.room.tombstone'))['replacement_room'] as string;
      expect(followed).toEqual([[here.userId, here.roomId, successor]]);
      const directory = await here.ask('GET', `/directory/room/${encoded(`#${alias}:here.test`)}`);
      expect(directory.body['room_id']).toBe(successor);
      expect(await contentOf(here, here.roomId, 'm.room.canonical_alias')).toEqual({});
      expect(await contentOf(here, here.roomId, 'm.room.power_levels')).toMatchObject({ events_default: 50 });
      expect((await store.query('SELECT FROM rooms')).length).toBe(roomsBefore + 1);
      expect(await store.query('SELECT FROM room_upgrades')).toEqual([]);
    },
  );

  test('may be upgraded again, and names the room that took its place last', async () => {
    const here = await stage();
    const at = `/rooms/${encoded(here.roomId)}`;
    // Of who names no room nobody was quicker.
    await here.ask('PUT', `${at}/state/m.room.tombstone/`, { body: 'gone', replacement_room: '' });
    for (const version of ['10', '11']) {
      const { status, body } = await here.ask('POST', `${at}/upgrade`, { new_version: version });
      expect(status).toBe(200);
      const { replacement_room: named } = await contentOf(here, here.roomId, 'm.room.tombstone');
      expect(named).toBe(body['replacement_room']);
    }
    expect(await store.query('SELECT FROM room_upgrades')).toEqual([]);
  });

  test('may be a space, whose rooms go with it', async () => {
    const here = await stage({ creation_content: { type: 'm.space' } });
    const at = `/rooms/${encoded(here.roomId)}`;
    const child = { via: ['here.test'] };
    await here.ask('PUT', `${at}/state/m.space.child/${encoded('!child:here.test')}`, child);
    const { body } = await here.ask('POST', `${at}/upgrade`, { new_version: '11' });
    const moved = `/rooms/${encoded(body['replacement_room'] as string)}/state`;
    expect((await here.ask('GET', `${moved}/m.room.create/`)).body).toMatchObject({ type: 'm.space' });
    expect((await here.ask('GET', `${moved}/m.space.child/${encoded('!child:here.test')}`)).body).toEqual(child);
  });
});

describe('a room as one begins with it', () => {
  test('is its state, what was said last, and what its user keeps of it', async () => {
    const here = await stage({ name: 'Here' });
    const at = `/rooms/${encoded(here.roomId)}`;
    await here.ask('PUT', `/user/${here.userId}/rooms/${encoded(here.roomId)}/tags/u.x`, {});
    for (const i of [1, 2, 3]) await here.ask('PUT', `${at}/send/m.room.message/b${i}`, { body: `${i}` });
    const { status, body } = await here.ask('GET', `${at}/initialSync?limit=2`);
    expect(status).toBe(200);
    expect(body).toMatchObject({
      ...{ room_id: here.roomId, membership: 'join', visibility: 'private' },
      account_data: [{ type: 'm.tag', content: { tags: { 'u.x': {} } } }],
      messages: { chunk: [{ content: { body: '2' } }, { content: { body: '3' } }] },
    });
    const { messages, state } = body as { messages: { start: string; end: string }; state: { type: string }[] };
    expect(state.map(({ type }) => type).sort()).toContain('m.room.name');
    const before = await here.ask('GET', `${at}/messages?dir=b&limit=1&from=${messages.start}`);
    expect(before.body['chunk']).toMatchObject([{ content: { body: '1' } }]);
  });

  test('waits for the state of a partial room', async () => {
    const room = new PartialRoom(store);
    await room.join();
    const client = await startClientApi(store, { stateWaitMaxMs: 0 });
    const token = await client.login('me');
    const url = `${V3}/rooms/${encoded(room.roomId)}/initialSync`;
    expect((await client.ask('GET', url, undefined, token)).status).toBe(503);
    await room.fetch('create', 'admin', 'power', 'rules');
    await room.walk();
    expect((await client.ask('GET', url, undefined, token)).status).toBe(200);
  });
});

describe('a field of a profile', () => {
  test('is kept as it is given, told to anybody, and gone when it is taken back', async () => {
    const here = await stage();
    const at = `/profile/${encoded(here.userId)}`;
    const value = { deep: [1, 'two', null, '\0'] };
    expect((await here.ask('PUT', `${at}/org.example.pet`, { 'org.example.pet': value, other: 1 })).status).toBe(200);
    await here.ask('PUT', `${at}/m.tz`, { 'm.tz': 'Europe/London' });
    await here.ask('PUT', `${at}/displayname`, { displayname: 'Me' });
    expect((await here.client.ask('GET', `${V3}${at}/org.example.pet`)).body).toEqual({ 'org.example.pet': value });
    expect((await here.client.ask('GET', `${V3}${at}`)).body).toEqual({
      ...{ displayname: 'Me', 'm.tz': 'Europe/London', 'org.example.pet': value },
    });
    expect((await here.ask('DELETE', `${at}/org.example.pet`)).status).toBe(200);
    expect((await here.ask('DELETE', `${at}/org.example.pet`)).status).toBe(200);
    expect((await here.ask('GET', `${at}/org.example.pet`)).status).toBe(404);
  });

  test.each([
    ['a name that is too long', `a${'b'.repeat(255)}`, 'x', 'M_KEY_TOO_LARGE'],
    ['a name of another form', 'UPPER', 'x', 'M_INVALID_PARAM'],
    ['more than a profile holds', 'org.example.big', 'x'.repeat(66_000), 'M_PROFILE_TOO_LARGE'],
    ['a time zone that is none', 'm.tz', 7, 'M_INVALID_PARAM'],
  ])('is refused for %s', async (_what, name, value, errcode) => {
    const here = await stage();
    const answer = await here.ask('PUT', `/profile/${encoded(here.userId)}/${name}`, { [name]: value });
    expect([answer.status, answer.body['errcode']]).toEqual([400, errcode]);
    expect(await store.query(`SELECT FROM profile_fields WHERE user_id = $1`, [here.userId])).toEqual([]);
  });

  test('is for its user to say', async () => {
    const here = await stage();
    const { token } = await here.other();
    const url = `/profile/${encoded(here.userId)}/org.example`;
    expect((await here.ask('PUT', url, { 'org.example': 1 }, token)).status).toBe(403);
  });
});
