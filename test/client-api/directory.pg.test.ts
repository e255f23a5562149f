import { describe, expect, test } from 'vitest';
import { type FederationClient } from '../../src/federation/contract.ts';
import { FederationError } from '../../src/federation/error.ts';
import { type RoomId, type ServerName } from '../../src/matrix/identifiers.ts';
import { createDirectory } from '../../src/rooms/directory/directory.ts';
import { PartialRoom, member } from '../rooms/resync/partial-room.ts';
import { openTestStore } from '../support/postgres.ts';
import { statementsOf } from '../support/statements.ts';
import { type Answer, SERVER_NAME, type TestClient, TestClock, startClientApi } from './client.ts';

const V3 = '/_matrix/client/v3';
const AWAY = 'away.test' as ServerName;
const { store } = await openTestStore();
const ownDirectory = createDirectory({ serverName: SERVER_NAME, store, clock: new TestClock() });

/** What another server is asked, and says. */
function elsewhere(answers: Partial<FederationClient>) {
  const federation = answers as FederationClient;
  const clock = new TestClock();
  return { directory: createDirectory({ serverName: SERVER_NAME, store, clock, federation }) };
}

async function start(over: Parameters<typeof startClientApi>[1] = {}, listeners?: number) {
  const client = await startClientApi(store, over, listeners);
  return { client, alice: await client.login('alice'), bob: await client.login('bob') };
}

async function makeRoom(client: TestClient, token: string, body: object = {}): Promise<string> {
  const made = await client.ask('POST', `${V3}/createRoom`, { preset: 'public_chat', ...body }, token);
  expect(made.status).toBe(200);
  return made.body['room_id'] as string;
}

let made = 0;
const newAlias = (): string => `#room${(made += 1)}:here.test`;
const aliasPath = (alias: string): string => `${V3}/directory/room/${encodeURIComponent(alias)}`;
const outcome = ({ status, body }: Answer): unknown[] => [status, body['errcode']];

describe('aliases', () => {
  test('one is given, looked up by anybody and by other servers, listed for the room, and taken away', async () => {
    const { client, alice } = await start();
    const [roomId, alias] = [await makeRoom(client, alice), newAlias()];
    expect((await client.ask('PUT', aliasPath(alias), { room_id: roomId }, alice)).body).toEqual({});
    const told = { room_id: roomId, servers: ['here.test'] };
    expect((await client.ask('GET', aliasPath(alias))).body).toEqual(told);
    expect(await ownDirectory.ownAlias(alias as never)).toEqual({ roomId, servers: ['here.test'] });
    const ofRoom = `${V3}/rooms/${encodeURIComponent(roomId)}/aliases`;
    expect((await client.ask('GET', ofRoom, undefined, alice)).body).toEqual({ aliases: [alias] });
    expect((await client.ask('DELETE', aliasPath(alias), undefined, alice)).body).toEqual({});
    expect(outcome(await client.ask('GET', aliasPath(alias)))).toEqual([404, 'M_NOT_FOUND']);
    await expect(ownDirectory.ownAlias(alias as never)).rejects.toMatchObject({ kind: 'unknown-alias' });
  });

  test('what may not be done with them is refused, and changes nothing', async () => {
    const { client, alice, bob } = await start();
    const [roomId, alias] = [await makeRoom(client, alice), newAlias()];
    await client.ask('PUT', aliasPath(alias), { room_id: roomId }, alice);
    const ofRoom = `${V3}/rooms/${encodeURIComponent(roomId)}/aliases`;
    const refused: [
      method: string,
      path: string,
      body: object | undefined,
      as: string,
      status: number,
      code: string,
    ][] = [
      ['PUT', aliasPath(alias), { room_id: roomId }, alice, 409, 'M_UNKNOWN'],
      ['PUT', aliasPath(newAlias()), { room_id: roomId }, bob, 403, 'M_FORBIDDEN'],
      ['PUT', aliasPath(newAlias()), { room_id: '!nowhere:here.test' }, alice, 403, 'M_FORBIDDEN'],
      ['PUT', aliasPath(newAlias()), { room_id: 'nowhere' }, alice, 400, 'M_INVALID_PARAM'],
      ['PUT', aliasPath(newAlias()), {}, alice, 400, 'M_MISSING_PARAM'],
      ['PUT', aliasPath('#a:away.test'), { room_id: roomId }, alice, 400, 'M_INVALID_PARAM'],
      ['PUT', aliasPath('#a\nb:here.test'), { room_id: roomId }, alice, 400, 'M_INVALID_PARAM'],
      ['PUT', aliasPath('a:here.test'), { room_id: roomId }, alice, 400, 'M_INVALID_PARAM'],
      ['PUT', aliasPath('#:here.test'), { room_id: roomId }, alice, 400, 'M_INVALID_PARAM'],
      ['DELETE', aliasPath(alias), undefined, bob, 403, 'M_FORBIDDEN'],
      ['DELETE', aliasPath('#none:here.test'), undefined, alice, 404, 'M_NOT_FOUND'],
      ['DELETE', aliasPath('#none:away.test'), undefined, alice, 404, 'M_NOT_FOUND'],
      ['GET', ofRoom, undefined, bob, 403, 'M_FORBIDDEN'],
      ['GET', `${V3}/rooms/!nowhere:here.test/aliases`, undefined, alice, 403, 'M_FORBIDDEN'],
    ];
    for (const [method, path, body, as, ...expected] of refused) {
      expect([method, path, ...outcome(await client.ask(method, path, body, as))]).toEqual([method, path, ...expected]);
    }
    expect((await client.ask('GET', ofRoom, undefined, alice)).body).toEqual({ aliases: [alias] });
    const admin = await client.user('chief', { isAdmin: true });
    expect((await client.ask('DELETE', aliasPath(alias), undefined, admin)).status).toBe(200);
  });

  test('of a partial room tells the servers that are believed to be in it', async () => {
    const room = new PartialRoom(store);
    await room.join();
    const { client } = await start();
    const me = await client.login('me');
    const alias = newAlias();
    await client.ask('PUT', aliasPath(alias), { room_id: room.roomId }, me);
    expect((await client.ask('GET', aliasPath(alias))).body).toEqual({
      room_id: room.roomId,
      servers: ['here.test', 'there.test'],
    });
  });
});

describe('the list of rooms', () => {
  test('has rooms that were made for it or put there, the biggest first, page by page, and what is searched', async () => {
    const { client, alice, bob } = await start();
    const list = (body: object): Promise<Answer> => client.ask('POST', `${V3}/publicRooms`, body, alice);
    const topic = `about ${newAlias()}`;
    const big = await makeRoom(client, alice, { visibility: 'public', name: 'Big', topic });
    const small = await makeRoom(client, alice, { name: 'Small', topic, creation_content: { type: 'm.space' } });
    await makeRoom(client, alice, { name: 'Hidden', topic });
    await client.ask('POST', `${V3}/join/${encodeURIComponent(big)}`, {}, bob);
    const place = `${V3}/directory/list/room/${encodeURIComponent(small)}`;
    expect((await client.ask('GET', place)).body).toEqual({ visibility: 'private' });
    expect((await client.ask('PUT', place, { visibility: 'public' }, alice)).body).toEqual({});
    expect((await client.ask('GET', place)).body).toEqual({ visibility: 'public' });

    const found = await list({ filter: { generic_search_term: topic.toUpperCase() } });
    expect(found.body['chunk']).toEqual([
      expect.objectContaining({ room_id: big, name: 'Big', topic, num_joined_members: 2, join_rule: 'public' }),
      expect.objectContaining({ room_id: small, name: 'Small', num_joined_members: 1, room_type: 'm.space' }),
    ]);
    const spaces = await list({ filter: { generic_search_term: topic, room_types: ['m.space'] } });
    expect((spaces.body['chunk'] as { room_id: string }[]).map(({ room_id: id }) => id)).toEqual([small]);
    const first = await client.ask('GET', `${V3}/publicRooms?limit=1`);
    expect(first.body).toMatchObject({ chunk: [{ room_id: big }], next_batch: 'o1', total_room_count_estimate: 2 });
    const second = await client.ask('GET', `${V3}/publicRooms?limit=1&since=o1`);
    expect(second.body).toMatchObject({ chunk: [{ room_id: small }], prev_batch: 'o0' });
    expect(second.body['next_batch']).toBeUndefined();
    expect(await ownDirectory.publicRooms({ limit: 5, since: null, search: null, roomTypes: null })).toMatchObject({
      total: 2,
    });

    await client.ask('PUT', place, { visibility: 'private' }, alice);
    await client.ask('POST', `${V3}/rooms/${encodeURIComponent(big)}/leave`, {}, alice);
    await client.ask('POST', `${V3}/rooms/${encodeURIComponent(big)}/leave`, {}, bob);
    expect((await list({})).body).toMatchObject({ chunk: [], total_room_count_estimate: 0 });
  });

  test('counts of a partial room who is known, and everybody once it is whole', async () => {
    const room = new PartialRoom(store);
    await room.join();
    await room.hold(member('bob', '@bob:there.test', 'join', { auth: ['create', 'power', 'rules'] }));
    await ownDirectory.setListed('@me:here.test' as never, room.roomId, true, true);
    const members = async (): Promise<unknown> => {
      const { chunk } = await ownDirectory.publicRooms({ limit: 9, since: null, search: null, roomTypes: null });
      return chunk.find(({ room_id: id }) => id === room.roomId)?.['num_joined_members'];
    };
    expect(await members()).toBe(1);
    await room.fetch('create', 'admin', 'power', 'rules', 'bob');
    await room.walk();
    expect(await members()).toBe(3);
    await ownDirectory.setListed('@me:here.test' as never, room.roomId, false, true);
  });

  test('is not changed by who may not, and bad questions are refused', async () => {
    const { client, alice, bob } = await start();
    const roomId = await makeRoom(client, alice);
    await client.ask('POST', `${V3}/join/${encodeURIComponent(roomId)}`, {}, bob);
    const place = `${V3}/directory/list/room/${encodeURIComponent(roomId)}`;
    const refused: [method: string, path: string, body: object | undefined, status: number, code: string][] = [
      ['PUT', place, { visibility: 'public' }, 403, 'M_FORBIDDEN'],
      ['PUT', place, { visibility: 'open' }, 400, 'M_BAD_JSON'],
      ['PUT', `${V3}/directory/list/room/!nowhere:here.test`, {}, 404, 'M_NOT_FOUND'],
      ['GET', `${V3}/directory/list/room/!nowhere:here.test`, undefined, 404, 'M_NOT_FOUND'],
      ['GET', `${V3}/publicRooms?limit=0`, undefined, 400, 'M_INVALID_PARAM'],
      ['GET', `${V3}/publicRooms?since=x`, undefined, 400, 'M_INVALID_PARAM'],
      ['GET', `${V3}/publicRooms?server=%00`, undefined, 400, 'M_INVALID_PARAM'],
      ['POST', `${V3}/publicRooms`, { limit: 'many' }, 400, 'M_BAD_JSON'],
      ['POST', `${V3}/publicRooms`, { filter: { room_types: 'all' } }, 400, 'M_BAD_JSON'],
    ];
    for (const [method, path, body, ...expected] of refused) {
      expect([method, path, ...outcome(await client.ask(method, path, body, bob))]).toEqual([
        method,
        path,
        ...expected,
      ]);
    }
    expect((await client.ask('GET', place)).body).toEqual({ visibility: 'private' });
  });

  test('costs as many statements for many rooms as for few', async () => {
    const { client, alice } = await start({}, 1);
    const page = () =>
      statementsOf(() => ownDirectory.publicRooms({ limit: 50, since: null, search: null, roomTypes: null }));
    const rooms = [await makeRoom(client, alice, { visibility: 'public' })];
    await page();
    const few = (await page()).length;
    for (let i = 0; i < 4; i += 1) rooms.push(await makeRoom(client, alice, { visibility: 'public' }));
    expect((await page()).length).toBe(few);
    for (const roomId of rooms) {
      await ownDirectory.setListed('@alice:here.test' as never, roomId as RoomId, false, true);
    }
  });
});

describe('what other servers know', () => {
  test('is asked of them: an alias, their rooms, and what their users call themselves', async () => {
    const asked: unknown[] = [];
    const far = { room_id: '!far:away.test', num_joined_members: 3, world_readable: false, guest_can_join: true };
    const { client } = await start(
      elsewhere({
        queryDirectory: () => Promise.resolve({ roomId: '!far:away.test' as RoomId, servers: [] }),
        publicRooms: (server, content) => {
          asked.push([server, content]);
          return Promise.resolve({
            chunk: [{ ...far, x: 1 }, { room_id: '!far:away.test' }, 5],
            next_batch: 'n',
            y: 2,
          });
        },
        queryProfile: (_server, userId) =>
          userId === '@none:away.test'
            ? Promise.reject(new FederationError(AWAY, 'not-found', 'nobody'))
            : Promise.resolve({ displayname: 'Far', avatar_url: 5 }),
      }),
    );
    expect((await client.ask('GET', aliasPath('#far:away.test'))).body).toEqual({
      room_id: '!far:away.test',
      servers: ['away.test'],
    });
    const rooms = await client.ask('GET', `${V3}/publicRooms?server=away.test&limit=3&since=m`);
    expect(rooms.body).toEqual({ chunk: [far], next_batch: 'n' });
    expect(asked).toEqual([['away.test', { limit: 3, since: 'm' }]]);
    expect((await client.ask('GET', `${V3}/profile/@far:away.test`)).body).toEqual({ displayname: 'Far' });
    expect(outcome(await client.ask('GET', `${V3}/profile/@none:away.test`))).toEqual([404, 'M_NOT_FOUND']);
  });

  test('is not known where they cannot be reached', async () => {
    const down = () => Promise.reject(new FederationError(AWAY, 'unreachable', 'down'));
    const { client } = await start(elsewhere({ publicRooms: down, queryProfile: down, queryDirectory: down }));
    for (const path of [
      aliasPath('#far:away.test'),
      `${V3}/publicRooms?server=away.test`,
      `${V3}/profile/@a:away.test`,
    ]) {
      expect([path, ...outcome(await client.ask('GET', path))]).toEqual([path, 502, 'M_UNKNOWN']);
    }
  });
});

test('tags of a room are set, told by sync as account data, and taken away', async () => {
  const { client, alice, bob } = await start();
  const roomId = await makeRoom(client, alice);
  const path = `${V3}/user/@alice:here.test/rooms/${encodeURIComponent(roomId)}/tags`;
  const ask = (method: string, rest: string, body?: object): Promise<Answer> =>
    client.ask(method, path + rest, body, alice);
  expect((await ask('GET', '')).body).toEqual({ tags: {} });
  expect((await ask('PUT', '/m.favourite', { order: 0.5 })).body).toEqual({});
  expect((await ask('PUT', '/u.work', {})).body).toEqual({});
  expect((await ask('GET', '')).body).toEqual({ tags: { 'm.favourite': { order: 0.5 }, 'u.work': {} } });
  const data = `${V3}/user/@alice:here.test/rooms/${encodeURIComponent(roomId)}/account_data/m.tag`;
  expect((await client.ask('GET', data, undefined, alice)).body).toMatchObject({ tags: { 'u.work': {} } });
  expect((await ask('DELETE', '/u.work')).body).toEqual({});
  expect((await ask('DELETE', '/never')).body).toEqual({});
  expect((await ask('GET', '')).body).toEqual({ tags: { 'm.favourite': { order: 0.5 } } });
  expect(outcome(await ask('PUT', '/x', { order: 2 }))).toEqual([400, 'M_BAD_JSON']);
  expect(outcome(await ask('PUT', `/${'x'.repeat(256)}`, {}))).toEqual([400, 'M_INVALID_PARAM']);
  expect(outcome(await client.ask('GET', path, undefined, bob))).toEqual([403, 'M_FORBIDDEN']);
});

test('what a user called himself is deleted by him, and by nobody else', async () => {
  const { client, alice, bob } = await start();
  const path = `${V3}/profile/@alice:here.test/displayname`;
  await client.ask('PUT', path, { displayname: 'Alice' }, alice);
  expect(outcome(await client.ask('DELETE', path, undefined, bob))).toEqual([403, 'M_FORBIDDEN']);
  expect((await client.ask('DELETE', path, undefined, alice)).body).toEqual({});
  expect((await client.ask('GET', path)).body).toEqual({});
});
