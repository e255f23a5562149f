import { afterAll, expect, test } from 'vitest';
import { ROOM_VERSIONS } from '../../src/matrix/room-versions.ts';
import { type RoomId, type UserId } from '../../src/matrix/identifiers.ts';
import { lockRoom, readJoinedRooms } from '../../src/store/journal/rooms.ts';
import { withTransaction } from '../../src/store/open-store.ts';
import { expectFoldsRebuilt } from '../support/folds.ts';
import { openTestStore } from '../support/postgres.ts';
import { type Answer, type TestClient, startClientApi } from './client.ts';

const { store } = await openTestStore();
afterAll(() => expectFoldsRebuilt(store));

const V3 = '/_matrix/client/v3';
let made = 0;

interface User {
  readonly id: string;
  post(path: string, body?: object): Promise<Answer>;
  put(path: string, body: object | string): Promise<Answer>;
  get(path: string): Promise<Answer>;
}

async function userOf(client: TestClient, name: string): Promise<User> {
  const localpart = `${name}${(made += 1)}`;
  const token = await client.user(localpart);
  return {
    id: `@${localpart}:here.test`,
    post: (path, body) => client.ask('POST', V3 + path, body, token),
    put: (path, body) => client.ask('PUT', V3 + path, body, token),
    get: (path) => client.ask('GET', V3 + path, undefined, token),
  };
}

/** The current state as events, by type and state key. */
async function stateOf(roomId: string): Promise<Map<string, Record<string, unknown>>> {
  const { readStanding } = await import('../../src/store/journal/rooms.ts');
  const { readSnapshot } = await import('../../src/store/snapshots/snapshots.ts');
  const { readPdus } = await import('../../src/store/events/pdus.ts');
  const room = (await readStanding(store, roomId as never))!;
  const entries = await readSnapshot(store, roomId as never, room.currentState!);
  const pdus = await readPdus(
    store,
    roomId as never,
    entries.map(({ eventId }) => eventId),
  );
  return new Map(
    pdus.map((pdu) => [
      `${pdu.type} ${pdu.stateKey}`,
      (JSON.parse(pdu.json) as { content: Record<string, unknown> }).content,
    ]),
  );
}

const made200 = ({ status, body }: Answer): string => {
  expect([status, body]).toEqual([200, { room_id: expect.any(String) as string }]);
  return body['room_id'] as string;
};

test.each(ROOM_VERSIONS)('a room of version %s can be made, and is what was asked for', async (version) => {
  const client = await startClientApi(store);
  const [alice, bob] = [await userOf(client, 'alice'), await userOf(client, 'bob')];
  await alice.put(`/profile/${alice.id}/displayname`, { displayname: 'Alice' });
  const roomId = made200(
    await alice.post('/createRoom', {
      room_version: version,
      preset: 'public_chat',
      name: 'The room',
      topic: 'Talk',
      invite: [bob.id],
      initial_state: [{ type: 'm.room.history_visibility', content: { history_visibility: 'invited' } }],
      power_level_content_override: { events_default: 10 },
      creation_content: { type: 'm.space' },
    }),
  );
  expect(roomId).toMatch(version === '12' ? /^![\w-]{43}$/ : /^![A-Za-z]{18}:here\.test$/);
  const state = await stateOf(roomId);
  expect(state.get('m.room.create ')).toMatchObject({ room_version: version, type: 'm.space' });
  expect(state.get(`m.room.member ${alice.id}`)).toEqual({ membership: 'join', displayname: 'Alice' });
  expect(state.get(`m.room.member ${bob.id}`)).toEqual({ membership: 'invite' });
  expect(state.get('m.room.power_levels ')).toMatchObject({ events_default: 10 });
  expect(state.get('m.room.join_rules ')).toEqual({ join_rule: 'public' });
  expect(state.get('m.room.history_visibility ')).toEqual({ history_visibility: 'invited' });
  expect(state.get('m.room.name ')).toEqual({ name: 'The room' });
  expect((await alice.get('/joined_rooms')).body).toEqual({ joined_rooms: [roomId] });
  const sent = await alice.put(`/rooms/${encodeURIComponent(roomId)}/send/m.room.message/1`, { body: 'hello\0' });
  expect(sent).toMatchObject({ status: 200, body: { event_id: expect.stringMatching(/^\$/) as string } });
  // Ids of version 3 may hold a slash.
  const redacts = encodeURIComponent(sent.body['event_id'] as string);
  const redacted = await alice.put(`/rooms/${roomId}/redact/${redacts}/2`, { reason: 'no' });
  expect(redacted.status).toBe(200);
});

test('a room that cannot be is not made', async () => {
  const client = await startClientApi(store);
  const alice = await userOf(client, 'alice');
  const refusals: [object, number, string][] = [
    [{ room_version: '99' }, 400, 'M_UNSUPPORTED_ROOM_VERSION'],
    ...['', 'a:b', 'a\0b', 'a\nb', 'x'.repeat(300)].map((name): [object, number, string] => [
      { room_alias_name: name },
      400,
      'M_INVALID_PARAM',
    ]),
    [{ invite_3pid: [{ medium: 'email' }] }, 400, 'M_UNKNOWN'],
    [{ room_alias_name: 'refused', preset: 'palace' }, 400, 'M_BAD_JSON'],
    [{ room_alias_name: 'refused', name: 'x'.repeat(70_000) }, 413, 'M_TOO_LARGE'],
    [{ invite: ['nobody'] }, 400, 'M_INVALID_PARAM'],
    [{ preset: 'palace' }, 400, 'M_BAD_JSON'],
    [{ initial_state: [{ type: 'm.room.name' }] }, 400, 'M_MISSING_PARAM'],
    [
      { initial_state: [{ type: 'm.room.member', state_key: '@far:away.test', content: { membership: 'invite' } }] },
      400,
      'M_INVALID_PARAM',
    ],
    [{ power_level_content_override: { users: 3 } }, 400, 'M_INVALID_PARAM'],
    [
      { power_level_content_override: { users: { [alice.id]: 0 }, state_default: 50 }, name: 'mine' },
      403,
      'M_FORBIDDEN',
    ],
    [{ name: 'x'.repeat(70_000) }, 413, 'M_TOO_LARGE'],
    [{ topic: 'x', creation_content: { number: 1.5 } }, 400, 'M_BAD_JSON'],
  ];
  for (const [body, status, errcode] of refusals) {
    const answer = await alice.post('/createRoom', body);
    expect([body, answer.status, answer.body['errcode']]).toEqual([body, status, errcode]);
  }
  expect((await alice.get('/joined_rooms')).body).toEqual({ joined_rooms: [] });
});

test('users come in by the room’s rule, and leave twice', async () => {
  const client = await startClientApi(store);
  const [alice, bob, carol] = [await userOf(client, 'a'), await userOf(client, 'b'), await userOf(client, 'c')];
  const roomId = made200(await alice.post('/createRoom', { preset: 'private_chat' }));
  expect((await bob.post(`/join/${roomId}`, {})).status).toBe(403);
  expect((await alice.post(`/rooms/${roomId}/invite`, { user_id: bob.id })).status).toBe(200);
  expect((await bob.post(`/join/${roomId}`)).body).toEqual({ room_id: roomId });
  expect((await bob.post(`/rooms/${roomId}/join`, {})).body).toEqual({ room_id: roomId });
  expect((await bob.post(`/rooms/${roomId}/leave`, {})).body).toEqual({});
  expect((await bob.post(`/rooms/${roomId}/leave`)).body).toEqual({});
  expect((await bob.put(`/rooms/${roomId}/send/m.room.message/1`, {})).status).toBe(403);
  expect((await carol.post(`/rooms/${roomId}/leave`, {})).status).toBe(403);
  expect((await carol.post('/join/!nowhere:here.test', {})).status).toBe(404);

  const restricted = made200(
    await alice.post('/createRoom', {
      room_version: '11',
      initial_state: [
        {
          type: 'm.room.join_rules',
          content: { join_rule: 'restricted', allow: [{ type: 'm.room_membership', room_id: roomId }] },
        },
      ],
    }),
  );
  expect((await carol.post(`/join/${restricted}`, {})).status).toBe(403);
  await alice.post(`/rooms/${roomId}/invite`, { user_id: carol.id });
  await carol.post(`/join/${roomId}`, {});
  expect((await carol.post(`/join/${restricted}`, {})).status).toBe(200);
  expect((await stateOf(restricted)).get(`m.room.member ${carol.id}`)).toMatchObject({
    membership: 'join',
    join_authorised_via_users_server: alice.id,
  });
});

test('moderators kick, ban and let in again, and nobody else does', async () => {
  const client = await startClientApi(store);
  const [alice, bob, carol] = [await userOf(client, 'a'), await userOf(client, 'b'), await userOf(client, 'c')];
  const roomId = made200(await alice.post('/createRoom', { preset: 'public_chat' }));
  await bob.post(`/join/${roomId}`, {});
  const act = async (who: User, what: string, whom: User, more = {}): Promise<number> =>
    (await who.post(`/rooms/${roomId}/${what}`, { user_id: whom.id, ...more })).status;
  const membership = async (whom: User): Promise<unknown> => (await stateOf(roomId)).get(`m.room.member ${whom.id}`);
  expect(await act(bob, 'kick', alice)).toBe(403);
  expect(await act(alice, 'kick', carol)).toBe(403);
  expect(await act(alice, 'unban', bob)).toBe(403);
  expect(await act(alice, 'kick', bob, { reason: 'out' })).toBe(200);
  expect(await membership(bob)).toEqual({ membership: 'leave', reason: 'out' });
  expect((await bob.post(`/join/${roomId}`, {})).status).toBe(200);
  expect(await act(alice, 'ban', bob)).toBe(200);
  expect((await bob.post(`/join/${roomId}`, {})).status).toBe(403);
  expect(await act(alice, 'invite', bob)).toBe(403);
  expect(await act(alice, 'unban', bob)).toBe(200);
  expect((await bob.post(`/join/${roomId}`, {})).status).toBe(200);
  const abroad = await alice.post(`/rooms/${roomId}/invite`, { user_id: '@far:away.test' });
  expect(abroad.status).toBe(404);
});

test('a transaction id sends once; bad ones and bad bodies send nothing', async () => {
  const client = await startClientApi(store);
  const alice = await userOf(client, 'alice');
  const roomId = made200(await alice.post('/createRoom', {}));
  const send = (txnId: string, body: object | string = { body: 'x' }): Promise<Answer> =>
    alice.put(`/rooms/${roomId}/send/m.room.message/${txnId}`, body);
  const first = await send('one');
  expect((await send('one', { body: 'something else' })).body).toEqual(first.body);
  expect((await send('two')).body).not.toEqual(first.body);
  expect((await send('%00')).status).toBe(400);
  expect((await send('x'.repeat(300))).status).toBe(400);
  expect((await send('three', '{"body": 1.5}')).body['errcode']).toBe('M_BAD_JSON');
  expect((await send('three', '{"body"')).body['errcode']).toBe('M_NOT_JSON');
  expect((await send('three', '{"body": "\\ud800"}')).status).toBe(400);
  expect((await send('three', { body: 'x'.repeat(70_000) })).status).toBe(413);
  expect((await alice.put('/rooms/VICTIM/send/m.room.message/1', {})).status).toBe(400);
});

test('state is set under an empty key by every form of the path, and with any other', async () => {
  const client = await startClientApi(store);
  const alice = await userOf(client, 'alice');
  const roomId = made200(await alice.post('/createRoom', {}));
  const topic = await alice.put(`/rooms/${roomId}/state/m.room.topic`, { topic: 'x' });
  expect((await alice.put(`/rooms/${roomId}/state/m.room.topic/`, { topic: 'x' })).body).toEqual(topic.body);
  expect((await alice.put(`/rooms/${roomId}/state/org.test/a%2Fb`, { is: true })).status).toBe(200);
  const state = await stateOf(roomId);
  expect(state.get('m.room.topic ')).toEqual({ topic: 'x' });
  expect(state.get('org.test a/b')).toEqual({ is: true });
});

test('a new name is told to every room that the user is in', async () => {
  const client = await startClientApi(store);
  const alice = await userOf(client, 'alice');
  const rooms = [made200(await alice.post('/createRoom', {})), made200(await alice.post('/createRoom', {}))];
  await alice.put(`/profile/${alice.id}/displayname`, { displayname: 'Alice' });
  for (const roomId of rooms) {
    await expect
      .poll(async () => (await stateOf(roomId)).get(`m.room.member ${alice.id}`))
      .toEqual({ membership: 'join', displayname: 'Alice' });
  }
});

test('a new name puts nobody back into a room that he has left meanwhile, and of several the last one stays', async () => {
  const client = await startClientApi(store);
  const [alice, bob] = [await userOf(client, 'alice'), await userOf(client, 'bob')];
  const made = [];
  for (let i = 0; i < 3; i += 1) {
    const roomId = made200(await bob.post('/createRoom', { preset: 'public_chat' }));
    expect((await alice.post(`/join/${roomId}`)).status).toBe(200);
    made.push(roomId);
  }
  const [first, left, last] = (await readJoinedRooms(store, alice.id as UserId)) as [RoomId, RoomId, RoomId];
  expect([first, left, last].sort()).toEqual(made.sort());
  const name = async (displayname: string): Promise<void> =>
    expect((await alice.put(`/profile/${alice.id}/displayname`, { displayname })).status).toBe(200);
  // The first room keeps whoever tells of it waiting.
  await withTransaction(store, async (tx) => {
    await lockRoom(tx, first);
    await name('Early');
    await name('Late');
    expect((await alice.post(`/rooms/${left}/leave`)).status).toBe(200);
  });
  for (const roomId of [first, last]) {
    await expect
      .poll(async () => (await stateOf(roomId)).get(`m.room.member ${alice.id}`))
      .toEqual({ membership: 'join', displayname: 'Late' });
  }
  expect((await stateOf(left)).get(`m.room.member ${alice.id}`)).toEqual({ membership: 'leave' });
  const said = await store.query<{ json: string }>(
    `SELECT json::text AS json FROM pdus WHERE room_id = $1 AND sender = $2 AND membership = 'join'`,
    [last, alice.id],
  );
  expect(said.filter(({ json }) => json.includes('Early'))).toEqual([]);
});

test('a membership that is said as state lets nobody in whom a join would not, and invites nobody from elsewhere', async () => {
  const client = await startClientApi(store);
  const [alice, bob] = [await userOf(client, 'alice'), await userOf(client, 'bob')];
  const space = made200(await alice.post('/createRoom', {}));
  const rule = { join_rule: 'restricted', allow: [{ type: 'm.room_membership', room_id: space }] };
  const roomId = made200(
    await alice.post('/createRoom', { initial_state: [{ type: 'm.room.join_rules', state_key: '', content: rule }] }),
  );
  const own = `/rooms/${roomId}/state/m.room.member/${bob.id}`;
  const join = { membership: 'join', join_authorised_via_users_server: alice.id };
  const before = await stateOf(roomId);
  expect(await bob.put(own, join)).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } });
  const invited = `/rooms/${roomId}/state/m.room.member/@far:away.test`;
  expect(await alice.put(invited, { membership: 'invite' })).toMatchObject({ status: 400 });
  expect(await stateOf(roomId)).toEqual(before);
  // Who is in may be called otherwise in one room.
  const named = { membership: 'join', displayname: 'Alice here' };
  expect((await alice.put(`/rooms/${roomId}/state/m.room.member/${alice.id}`, named)).status).toBe(200);
  expect((await stateOf(roomId)).get(`m.room.member ${alice.id}`)).toEqual(named);
});

test('nobody takes back what others said by a redaction that is sent as another event', async () => {
  const client = await startClientApi(store);
  const [alice, bob] = [await userOf(client, 'alice'), await userOf(client, 'bob')];
  const room = { preset: 'public_chat', power_level_content_override: { state_default: 0 } };
  const roomId = made200(await alice.post('/createRoom', room));
  await bob.post(`/join/${roomId}`);
  const say = async (by: User, txnId: string, body: string): Promise<string> =>
    (await by.put(`/rooms/${roomId}/send/m.room.message/${txnId}`, { body })).body['event_id'] as string;
  const [of, own] = [await say(alice, '1', 'of Alice'), await say(bob, '1', 'of Bob')];
  const forbidden = { status: 403, body: { errcode: 'M_FORBIDDEN' } };
  for (const path of [`redact/${encodeURIComponent(of)}/2`, 'send/m.room.redaction/3', 'state/m.room.redaction/x']) {
    expect([path, await bob.put(`/rooms/${roomId}/${path}`, { redacts: of })]).toMatchObject([path, forbidden]);
  }
  const read = async (eventId: string): Promise<unknown> =>
    (await bob.get(`/rooms/${roomId}/event/${encodeURIComponent(eventId)}`)).body['content'];
  expect(await read(of)).toEqual({ body: 'of Alice' });
  expect((await bob.put(`/rooms/${roomId}/send/m.room.redaction/4`, { redacts: own })).status).toBe(200);
  expect(await read(own)).toEqual({});
});

test('whoever sends or joins too much is told to wait', async () => {
  const one = { perMinute: 1, burst: 1 };
  const limits = { loginByAddress: null, loginByAccount: null, registration: null, sending: one, joining: one };
  const client = await startClientApi(store, { rateLimits: limits });
  const alice = await userOf(client, 'alice');
  const roomId = made200(await alice.post('/createRoom', {}));
  const limited = { status: 429, body: { errcode: 'M_LIMIT_EXCEEDED', retry_after_ms: expect.any(Number) as number } };
  expect(await alice.post('/createRoom', {})).toMatchObject(limited);
  expect((await alice.put(`/rooms/${roomId}/send/m.room.message/1`, {})).status).toBe(200);
  expect(await alice.put(`/rooms/${roomId}/send/m.room.message/2`, {})).toMatchObject(limited);
  expect(await alice.put(`/rooms/${roomId}/state/m.room.topic`, { topic: 'x' })).toMatchObject(limited);
});

test('what is typed, read, and said of presence counts as sent: whoever says too much of it is told to wait', async () => {
  const one = { perMinute: 1, burst: 1 };
  const limits = { loginByAddress: null, loginByAccount: null, registration: null, sending: one, joining: null };
  const client = await startClientApi(store, { rateLimits: limits });
  const limited = { status: 429, body: { errcode: 'M_LIMIT_EXCEEDED', retry_after_ms: expect.any(Number) as number } };
  for (const [name, say] of [
    ['typer', (user, room) => user.put(`/rooms/${room}/typing/${user.id}`, { typing: true })],
    ['reader', (user, room) => user.post(`/rooms/${room}/receipt/m.read/$x`, {})],
    ['marker', (user, room) => user.post(`/rooms/${room}/read_markers`, { 'm.read': '$x' })],
    ['present', (user) => user.put(`/presence/${user.id}/status`, { presence: 'online' })],
  ] satisfies [string, (user: Awaited<ReturnType<typeof userOf>>, room: string) => Promise<unknown>][]) {
    const user = await userOf(client, name);
    const roomId = made200(await user.post('/createRoom', {}));
    expect(await say(user, roomId)).toMatchObject({ status: 200 });
    expect(await say(user, roomId)).toMatchObject(limited);
  }
});

test('a room is made with an alias, by which others come in; one that is taken is refused, and no room is made', async () => {
  const client = await startClientApi(store);
  const [alice, bob] = [await userOf(client, 'alice'), await userOf(client, 'bob')];
  const roomId = made200(await alice.post('/createRoom', { preset: 'public_chat', room_alias_name: 'the room' }));
  expect((await stateOf(roomId)).get('m.room.canonical_alias ')).toEqual({ alias: '#the room:here.test' });
  const path = `/join/${encodeURIComponent('#the room:here.test')}`;
  expect((await bob.post(path, {})).body).toEqual({ room_id: roomId });
  expect((await bob.post(path, {})).body).toEqual({ room_id: roomId });
  expect(await bob.post('/createRoom', { room_alias_name: 'the room' })).toMatchObject({
    ...{ status: 400, body: { errcode: 'M_ROOM_IN_USE' } },
  });
  expect((await bob.get('/joined_rooms')).body).toEqual({ joined_rooms: [roomId] });
  expect((await bob.post(`/join/${encodeURIComponent('#refused:here.test')}`, {})).status).toBe(404);
});

test('where the server of an invited user does not answer, nothing is said in the room, and a new room is there all the same', async () => {
  const client = await startClientApi(store);
  const alice = await userOf(client, 'alice');
  const roomId = made200(await alice.post('/createRoom', { invite: ['@far:away.test'] }));
  const answer = await alice.post(`/rooms/${roomId}/invite`, { user_id: '@far:away.test' });
  expect(answer).toMatchObject({ status: 404, body: { errcode: 'M_NOT_FOUND' } });
  expect([...(await stateOf(roomId)).keys()].filter((place) => place.startsWith('m.room.member '))).toHaveLength(1);
  expect(await alice.post('/knock/nonsense', {})).toMatchObject({ status: 400, body: { errcode: 'M_INVALID_PARAM' } });
  expect(await alice.post('/knock/!r:away.test', {})).toMatchObject({ status: 404, body: { errcode: 'M_NOT_FOUND' } });
});
