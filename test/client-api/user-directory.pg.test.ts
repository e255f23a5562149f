import { expect, test, vi } from 'vitest';
import { createFollower } from '../../src/rooms/directory/user-directory.ts';
import { PartialRoom, member } from '../rooms/resync/partial-room.ts';
import { openTestStore } from '../support/postgres.ts';
import { statementsOf } from '../support/statements.ts';
import { type TestClient, startClientApi } from './client.ts';

const V3 = '/_matrix/client/v3';
const { store } = await openTestStore();
const encoded = encodeURIComponent;
let made = 0;

interface Person {
  readonly userId: string;
  readonly token: string;
}

async function person(client: TestClient, name: string, displayName?: string): Promise<Person> {
  const called = `${name}${(made += 1)}`;
  const [userId, token] = [`@${called}:here.test`, await client.login(called)];
  if (displayName !== undefined) {
    await client.ask('PUT', `${V3}/profile/${userId}/displayname`, { displayname: displayName }, token);
  }
  return { userId, token };
}

async function found(client: TestClient, term: string, { token }: Person, limit = 10): Promise<string[]> {
  const body = { search_term: term, limit };
  const answer = await client.ask('POST', `${V3}/user_directory/search`, body, token);
  expect([answer.status, answer.body]).toEqual([200, answer.body]);
  return (answer.body['results'] as { user_id: string }[]).map(({ user_id: id }) => id);
}

async function room(client: TestClient, { token }: Person, preset: string): Promise<string> {
  return (await client.ask('POST', `${V3}/createRoom`, { preset }, token)).body['room_id'] as string;
}

test('users are found by the beginnings of their names, by who is in a room with them, and by anybody in public ones', async () => {
  const client = await startClientApi(store);
  const follow = createFollower(store);
  const [anna, berta, carl] = [
    await person(client, 'anna', 'Zwölf Boxkämpfer'),
    await person(client, 'berta'),
    await person(client, 'carl'),
  ];
  const private_ = await room(client, anna, 'private_chat');
  await client.ask('POST', `${V3}/rooms/${encoded(private_)}/invite`, { user_id: berta.userId }, anna.token);
  await client.ask('POST', `${V3}/rooms/${encoded(private_)}/join`, {}, berta.token);
  await follow();
  for (const term of ['zwö', 'BOX', 'box zw', anna.userId, anna.userId.slice(0, 6), anna.userId.slice(1, 5)]) {
    expect([term, await found(client, term, berta)]).toEqual([term, [anna.userId]]);
  }
  for (const term of ['kämpfer', 'box carl', '', '  ', "'", '\0']) {
    expect([term, await found(client, term, berta)]).toEqual([term, []]);
  }
  expect(await found(client, 'zwölf', carl)).toEqual([]);

  const open = await room(client, anna, 'public_chat');
  await follow();
  expect(await found(client, 'zwölf', carl)).toEqual([anna.userId]);
  await client.ask('PUT', `${V3}/rooms/${encoded(open)}/state/m.room.join_rules/`, { join_rule: 'invite' }, anna.token);
  await follow();
  expect(await found(client, 'zwölf', carl)).toEqual([]);
});

test('however many strangers of public rooms are called so, who is in a room with the user is found first', async () => {
  const client = await startClientApi(store);
  const follow = createFollower(store);
  const [xaver, yvonne] = [await person(client, 'xaver', 'Xaver'), await person(client, 'yvonne')];
  const open = await room(client, await person(client, 'zoe'), 'public_chat');
  await follow();
  await store.query(
    `INSERT INTO directory_members (room_id, user_id, display_name, words)
     SELECT $1, '@xaver' || n || ':a.test', 'Xaver ' || n, to_tsvector('simple', 'xaver') FROM generate_series(1, 10001) AS n`,
    [open],
  );
  const private_ = await room(client, xaver, 'private_chat');
  await client.ask('POST', `${V3}/rooms/${encoded(private_)}/invite`, { user_id: yvonne.userId }, xaver.token);
  await client.ask('POST', `${V3}/rooms/${encoded(private_)}/join`, {}, yvonne.token);
  await follow();
  expect((await found(client, 'xaver', yvonne))[0]).toBe(xaver.userId);
});

test('a new name is followed, and who shares no room with anybody is gone', async () => {
  const client = await startClientApi(store);
  const follow = createFollower(store);
  const [dora, emil] = [await person(client, 'dora', 'First'), await person(client, 'emil')];
  const open = await room(client, dora, 'public_chat');
  await client.ask('POST', `${V3}/rooms/${encoded(open)}/join`, {}, emil.token);
  await follow();
  const profile = `${V3}/profile/${dora.userId}`;
  for (const [field, value] of [
    ['displayname', 'Second'],
    ['avatar_url', 'mxc://a/b'],
  ] as const) {
    expect((await client.ask('PUT', `${profile}/${field}`, { [field]: value }, dora.token)).status).toBe(200);
  }
  await vi.waitFor(async () => {
    await follow();
    expect(await found(client, 'second', emil)).toEqual([dora.userId]);
  });
  expect(await found(client, 'first', emil)).toEqual([]);
  const answer = await client.ask('POST', `${V3}/user_directory/search`, { search_term: 'second' }, emil.token);
  expect(answer.body).toEqual({
    limited: false,
    results: [{ user_id: dora.userId, display_name: 'Second', avatar_url: 'mxc://a/b' }],
  });
  await client.ask('POST', `${V3}/rooms/${encoded(open)}/leave`, {}, dora.token);
  await follow();
  expect(await found(client, 'second', emil)).toEqual([]);
  await client.ask('POST', `${V3}/rooms/${encoded(open)}/leave`, {}, emil.token);
  await follow();
  const rows = await store.query(`SELECT FROM directory_members WHERE user_id = ANY ($1::text[])`, [
    [dora.userId, emil.userId],
  ]);
  expect(rows).toEqual([]);
});

test('what a user of ours calls himself in one room only is told to nobody who looks for him', async () => {
  const client = await startClientApi(store);
  const follow = createFollower(store);
  const [hugo, stranger] = [await person(client, 'hugo', 'Openly'), await person(client, 'stranger')];
  for (const preset of ['private_chat', 'public_chat']) {
    const roomId = await room(client, hugo, preset);
    const url = `${V3}/rooms/${encoded(roomId)}/state/m.room.member/${encoded(hugo.userId)}`;
    const content = { membership: 'join', displayname: 'Secretly' };
    expect((await client.ask('PUT', url, content, hugo.token)).status).toBe(200);
    await follow();
    for (const by of [hugo, stranger]) expect(await found(client, 'secretly', by)).toEqual([]);
    expect(await found(client, 'openly', hugo)).toEqual([hugo.userId]);
    expect(await found(client, 'openly', stranger)).toEqual(preset === 'public_chat' ? [hugo.userId] : []);
  }
});

test('what a user of another server calls himself in a room is told to who is in it, or to all where all may find it', async () => {
  const client = await startClientApi(store);
  const follow = createFollower(store);
  const [ida, jens, kai] = [await person(client, 'ida'), await person(client, 'jens'), await person(client, 'kai')];
  const far = `@far${made}:there.test`;
  const called = async (by: Person, preset: string, name: string): Promise<void> => {
    const roomId = await room(client, by, preset);
    await follow();
    await store.query(
      `INSERT INTO directory_members (user_id, room_id, display_name, words) VALUES ($1, $2, $3, array_to_tsvector(ARRAY[lower($3)]))`,
      [far, roomId, name],
    );
  };
  const names = async (term: string, { token }: Person): Promise<unknown> => {
    const { body } = await client.ask('POST', `${V3}/user_directory/search`, { search_term: term }, token);
    return (body['results'] as { display_name: string }[]).map(({ display_name: name }) => name);
  };
  await called(ida, 'private_chat', 'Alpha');
  await called(jens, 'private_chat', 'Alphabet');
  expect([await names('alp', ida), await names('alp', jens)]).toEqual([['Alpha'], ['Alphabet']]);
  expect([await names('alphabet', ida), await names('alp', kai)]).toEqual([[], []]);
  await called(jens, 'public_chat', 'Alphonse');
  for (const by of [ida, jens, kai]) expect(await names('alp', by)).toEqual(['Alphonse']);
});

test('a room that cannot be read keeps no other from being listed, and is listed once it can', async () => {
  const client = await startClientApi(store);
  const [lea, other] = [await person(client, 'lea'), await person(client, 'other')];
  const rooms = [await room(client, lea, 'public_chat'), await room(client, other, 'public_chat')];
  const [broken = '', whole = ''] = rooms.toSorted();
  const [inBroken, inWhole] = broken === rooms[0] ? [lea, other] : [other, lea];
  const set = (state: string | null) =>
    store.query(`UPDATE rooms SET current_state = decode($2, 'hex') WHERE room_id = $1`, [broken, state]);
  const [is] = await store.query<{ state: string }>(
    `SELECT encode(current_state, 'hex') AS state FROM rooms WHERE room_id = $1`,
    [broken],
  );
  await set('00'.repeat(16));
  const failed: string[] = [];
  const follow = createFollower(store, (roomId) => failed.push(roomId));
  expect(whole > broken).toBe(true);
  await follow();
  const name = ({ userId }: Person): string => userId.slice(1, userId.indexOf(':'));
  expect(await found(client, name(inWhole), inBroken)).toEqual([inWhole.userId]);
  expect(await found(client, name(inBroken), inWhole)).toEqual([]);
  for (let pass = 0; pass < 10; pass += 1) await follow();
  // Less and less often.
  expect(failed).toEqual(Array.from({ length: 5 }, () => broken).slice(0, failed.length));
  expect(failed.length).toBeLessThan(6);
  await set(is!.state);
  for (let pass = 0; pass < 16; pass += 1) await follow();
  expect(await found(client, name(inBroken), inWhole)).toEqual([inBroken.userId]);
});

test('the members of a partial room are found once it is whole, by few statements whatever their number', async () => {
  const partial = new PartialRoom(store);
  await partial.join();
  const crowd = Array.from({ length: 50 }, (_, i) =>
    member(`crowd${i}`, `@crowd${i}:there.test`, 'join', { auth: ['create', 'power', 'rules'] }),
  );
  await partial.hold(...crowd);
  const client = await startClientApi(store);
  const me = { userId: '@me:here.test', token: await client.login('me') };
  const follow = createFollower(store);
  await follow();
  expect(await found(client, 'crowd', me, 50)).toEqual([]);
  await partial.fetch('create', 'admin', 'power', 'rules', ...crowd.map(({ id }) => id));
  await partial.walk();
  const statements = await statementsOf(follow);
  expect(statements.length).toBeLessThan(25);
  expect(await found(client, 'crowd', me, 50)).toHaveLength(50);
  expect(await found(client, 'crowd7', me)).toEqual(['@crowd7:there.test']);
  const limited = await client.ask('POST', `${V3}/user_directory/search`, { search_term: 'crowd', limit: 3 }, me.token);
  expect(limited.body).toMatchObject({ limited: true, results: [{}, {}, {}] });
  // The server is looked for before so many are given.
  await store.query(`UPDATE directory_members SET user_id = '@crowd9:where.test' WHERE user_id = '@crowd9:there.test'`);
  expect(await found(client, '@crowd:where', me, 1)).toEqual(['@crowd9:where.test']);
  // Nothing has changed since.
  expect(await statementsOf(follow)).toHaveLength(1);
});
