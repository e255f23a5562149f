import { expect, test } from 'vitest';
import { type RoomId, type UserId } from '../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { markRead } from '../../src/rooms/read/mark-read.ts';
import { ADMIN, ME, member, message } from '../rooms/resync/partial-room.ts';
import { statementsOf } from '../support/statements.ts';
import { FoldingClient } from '../sync/folding-client.ts';
import { AUTH, OUR, receipt, start, told, typing, typingEvent } from './passing-stage.ts';

const BOB = '@bob:there.test';
const EVE = '@eve:evil.test';

test('who types is told, exactly, to who syncs: a long poll is woken when somebody begins, and when he stops', async () => {
  const { room, passing, client, receive, events } = await start();
  await client.sync();
  const woken = client.sync({ timeoutMs: 600_000 });
  await passing.setTyping(OUR, room.roomId, 20_000);
  expect(events(await woken)).toEqual([typingEvent(ME)]);
  await receive('m.typing', typing(room, ADMIN));
  expect(events(await client.sync())).toEqual([typingEvent(ME, ADMIN)]);
  const again = client.sync({ timeoutMs: 600_000 });
  await passing.setTyping(OUR, room.roomId, null);
  await passing.settle();
  expect(events(await again)).toEqual([typingEvent(ADMIN)]);
  expect((await client.sync()).joined.size).toBe(0);
});

test('who does not say again that he types has stopped, for who syncs and for other servers', async () => {
  const { room, passing, client, clock, store, events } = await start();
  await client.sync();
  await passing.setTyping(OUR, room.roomId, 20_000);
  await passing.settle();
  expect(await told(store, clock.at)).toEqual([{ edu_type: 'm.typing', content: typing(room, ME) }]);
  clock.at += 19_999;
  await passing.settle();
  expect(events(await client.sync())).toEqual([typingEvent(ME)]);
  clock.at += 1;
  await passing.settle();
  expect(events(await client.sync())).toEqual([typingEvent()]);
  expect(await told(store, clock.at)).toEqual([{ edu_type: 'm.typing', content: typing(room, ME, false) }]);
});

test('however often a user says that he types it is one position, and one EDU', async () => {
  const { room, passing, clock, store } = await start();
  const head = async () => (await store.query<{ position: number }>(`SELECT position FROM journal_head`))[0]!.position;
  const before = await head();
  for (let i = 0; i < 20; i += 1) await passing.setTyping(OUR, room.roomId, 20_000);
  await passing.settle();
  expect(await head()).toBe(before + 1);
  expect(await told(store, clock.at)).toHaveLength(1);
});

test('who typed in rooms that we have left is forgotten, and keeps nobody in our rooms from stopping', async () => {
  const { room, passing, client, clock, store, events } = await start();
  await store.query(
    `INSERT INTO room_typing (room_id, typists, expires_at, position)
     SELECT '!left' || i || ':there.test', $1::text::json, i, 0 FROM generate_series(1, 600) i`,
    [JSON.stringify([{ userId: BOB, until: 1, toldAt: 0 }])],
  );
  await client.sync();
  await passing.setTyping(OUR, room.roomId, 20_000);
  await passing.settle();
  clock.at += 20_000;
  await passing.settle();
  await passing.settle();
  expect(events(await client.sync())).toEqual([typingEvent()]);
  expect(await store.query(`SELECT room_id AS "roomId" FROM room_typing`)).toEqual([{ roomId: room.roomId }]);
});

test('a user types only in rooms that he is in', async () => {
  const { room, passing } = await start();
  const stranger = '@stranger:here.test' as UserId;
  await expect(passing.setTyping(stranger, room.roomId, 1)).rejects.toMatchObject({ kind: 'forbidden' });
  await expect(passing.setTyping(OUR, '!none:here.test' as RoomId, 1)).rejects.toMatchObject({ kind: 'forbidden' });
});

test("a server says who types of its own users only, in rooms that they are in, and that its room's ACL lets it into", async () => {
  const { room, client, receive, events } = await start();
  await room.push(
    {
      ...{ id: 'acl', type: 'm.room.server_acl', sender: ADMIN, stateKey: '' },
      ...{ content: { allow: ['*'], deny: ['evil.test'] }, prev: ['join'], auth: ['create', 'power', 'admin'] },
    },
    member('eve', EVE, 'join', { prev: ['acl'], auth: AUTH }),
  );
  await client.sync();
  for (const content of [
    typing(room, ME),
    typing(room, BOB),
    typing(room, EVE),
    {},
    { ...typing(room, ADMIN), typing: 1 },
  ]) {
    await receive('m.typing', content);
  }
  await receive('m.typing', typing(room, EVE), 'evil.test');
  await receive('m.typing', { ...typing(room, ADMIN), room_id: '!other:there.test' });
  await receive('m.receipt', receipt(room.roomId, EVE, '$x'), 'evil.test');
  await receive('m.receipt', receipt(room.roomId, BOB, '$x'));
  await receive('m.receipt', receipt(room.roomId, ADMIN, 'rubbish'));
  await receive('m.receipt', { [room.roomId]: { 'm.read': 'rubbish' }, rubbish: null });
  expect(events(await client.sync())).toEqual([]);
});

test('in a partial room whoever may be there types and reads, and the servers said to be in it are told', async () => {
  const { room, passing, client, receive, events, clock, store } = await start(false);
  await client.sync();
  await receive('m.typing', typing(room, ADMIN));
  await receive('m.receipt', receipt(room.roomId, ADMIN, '$not-held'));
  await receive('m.typing', typing(room, '@x:elsewhere.test'), 'elsewhere.test');
  expect(events(await client.sync())).toEqual([
    typingEvent(ADMIN),
    { type: 'm.receipt', content: { '$not-held': { 'm.read': { [ADMIN]: { ts: 5 } } } } },
  ]);
  await passing.setTyping(OUR, room.roomId, 1_000);
  await passing.settle();
  expect(await told(store, clock.at)).toHaveLength(1);
});

test('what a user reads is told to the room and to its servers, and what he reads in private to himself alone', async () => {
  const { room, passing, client, clock, store, sync, events } = await start();
  await room.push(message('one', ADMIN, { prev: ['join'], auth: ['create', 'power', 'admin'] }));
  await room.push(member('other', '@other:here.test', 'join', { prev: ['one'], auth: AUTH }));
  const other = new FoldingClient(sync, { userId: '@other:here.test', lazy: true });
  await client.sync();
  await other.sync();
  const read = (type: 'm.read' | 'm.read.private', event: string, thread: string | null = null) =>
    markRead({ store, clock }, OUR, room.roomId, new Map([[type, room.id(event)]]), thread);
  await read('m.read.private', 'one');
  await passing.settle();
  const mine = { type: 'm.receipt', content: { [room.id('one')]: { 'm.read.private': { [ME]: { ts: clock.at } } } } };
  expect(events(await client.sync())).toEqual([mine]);
  expect(events(await other.sync())).toEqual([]);
  expect(await told(store, clock.at)).toEqual([]);

  await read('m.read', 'one', 'main');
  await passing.settle();
  const shown = { [room.id('one')]: { 'm.read': { [ME]: { ts: clock.at, thread_id: 'main' } } } };
  expect(events(await other.sync())).toEqual([{ type: 'm.receipt', content: shown }]);
  expect(await told(store, clock.at)).toEqual([
    {
      edu_type: 'm.receipt',
      content: receipt(room.roomId, ME, room.id('one'), { ts: clock.at, thread_id: 'main' }),
    },
  ]);
  // The same again says nothing.
  await read('m.read', 'one', 'main');
  await passing.settle();
  expect(await told(store, clock.at)).toEqual([]);
  expect((await client.sync()).joined.size + (await client.sync()).joined.size).toBe(1);
});

test('of many receipts in one partial room its servers are read once', async () => {
  const { room, passing, store, clock } = await start(false);
  const eventId = room.id('join');
  for (const thread of ['$a', '$b', '$c']) {
    await markRead({ store, clock }, OUR, room.roomId, new Map([['m.read', eventId]]), thread);
  }
  const statements = await statementsOf(() => passing.settle());
  expect(statements.filter((text) => text.includes('ResidentsLearned')).length).toBe(1);
  expect((await told(store, clock.at)).length).toBeGreaterThan(0);
});

test('what is read in a thread is told, and is none of the room: what is unread there stays so', async () => {
  const { room, passing, client, clock, store, events } = await start();
  await room.push(message('one', ADMIN, { prev: ['join'], auth: ['create', 'power', 'admin'] }));
  const { unread } = (await client.sync()).joined.get(room.roomId)!;
  expect(unread).toMatchObject({ notified: 1 });
  const root = room.id('one');
  await markRead({ store, clock }, OUR, room.roomId, new Map([['m.read', root]]), root);
  await passing.settle();
  const answer = await client.sync();
  expect(events(answer)).toEqual([
    { type: 'm.receipt', content: { [root]: { 'm.read': { [ME]: { ts: clock.at, thread_id: root } } } } },
  ]);
  expect(answer.joined.get(room.roomId)!.unread).toMatchObject({ notified: 1 });
  expect(await told(store, clock.at)).toHaveLength(1);
});

test('a client that says again what it has read in a thread, or that its user is there, takes no position and tells nobody', async () => {
  const { room, passing, client, clock, store } = await start();
  const head = async () => (await store.query<{ position: number }>(`SELECT position FROM journal_head`))[0]!.position;
  await room.push(message('one', ADMIN, { prev: ['join'], auth: ['create', 'power', 'admin'] }));
  const say = async (status: string): Promise<void> => {
    await passing.setPresence(OUR, 'online', status);
    await markRead({ store, clock }, OUR, room.roomId, new Map([['m.read', room.id('one')]]), room.id('join'));
    await passing.settle();
  };
  await say('here');
  expect(await told(store, clock.at)).toHaveLength(1);
  const before = await head();
  clock.at += 1_000;
  for (let i = 0; i < 20; i += 1) await say('here');
  expect(await head()).toBe(before);
  expect(await told(store, clock.at)).toEqual([]);
  expect(await passing.presenceOf(OUR, OUR)).toMatchObject({ statusMsg: 'here', lastActiveAt: clock.at });
  await say('away');
  expect(await head()).toBe(before + 1);
  expect((await client.sync()).presence).toMatchObject([{ userId: OUR, statusMsg: 'away' }]);
});

test('of a user only the last that he has read is kept, of a hundred threads at the most, and a new client gets it', async () => {
  const { room, receive, store, client, events } = await start();
  await receive('m.receipt', receipt(room.roomId, ADMIN, '$one'));
  await receive('m.receipt', receipt(room.roomId, ADMIN, '$two', { ts: 4 }));
  expect(events(await client.sync())).toEqual([
    { type: 'm.receipt', content: { $two: { 'm.read': { [ADMIN]: { ts: 4 } } } } },
  ]);
  for (let i = 0; i < 105; i += 1) {
    await receive('m.receipt', receipt(room.roomId, ADMIN, '$x', { ts: i, thread_id: `$thread${i}` }));
  }
  const rows = await store.query<{ threadId: string }>(
    `SELECT thread_id AS "threadId" FROM receipts ORDER BY position`,
  );
  expect(rows).toHaveLength(101);
  expect(rows.at(-1)).toEqual({ threadId: '$thread104' });
});

test('receipts of many users in one transaction are one position, and are told together', async () => {
  const { room, receive, client, store, events } = await start();
  const users = Array.from({ length: 30 }, (_, i) => `@u${i}:there.test`);
  let before = 'join';
  for (const [i, user] of users.entries()) {
    await room.push(member(`u${i}`, user, 'join', { prev: [before], auth: AUTH }));
    before = `u${i}`;
  }
  await client.sync();
  const [head] = await store.query<{ position: number }>(`SELECT position FROM journal_head`);
  const read = Object.fromEntries(users.map((user) => [user, { data: { ts: 1 }, event_ids: ['$seen'] }]));
  await receive('m.receipt', { [room.roomId]: { 'm.read': read } });
  const [after] = await store.query<{ position: number }>(`SELECT position FROM journal_head`);
  expect(after!.position).toBe(head!.position + 1);
  const [event] = events(await client.sync());
  expect(
    Object.keys((event!['content'] as Record<string, Record<string, JsonObject>>)['$seen']!['m.read']!),
  ).toHaveLength(30);
});

test('in a partial room a server that makes up users fills no more than its part with what they read', async () => {
  const { room, receive, store } = await start(false);
  const fill = (server: string, count: number) =>
    store.query(
      `INSERT INTO receipts (room_id, user_id, type, thread_id, event_id, at, position, is_untold)
       SELECT $1, '@filled' || i || ':' || $2, 'm.read', '', '$x', 1, 0, false FROM generate_series(1, $3::int) i`,
      [room.roomId, server, count],
    );
  const count = async () => (await store.query(`SELECT FROM receipts WHERE user_id LIKE '%:there.test'`)).length;
  const made = (name: string) => ({
    [room.roomId]: {
      'm.read': Object.fromEntries(
        Array.from({ length: 5 }, (_, i) => [`@${name}${i}:there.test`, { data: { ts: 1 }, event_ids: ['$seen'] }]),
      ),
    },
  });
  await fill('elsewhere.test', 2_000);
  await fill('there.test', 1_992);
  await receive('m.receipt', made('a'));
  expect(await count()).toBe(1_997);
  await receive('m.receipt', made('b'));
  expect(await count()).toBe(2_000);
  await receive('m.receipt', made('c'));
  expect(await count()).toBe(2_000);
});

test('what a client has read itself is told to it, however many others have read since', async () => {
  const { room, store, clock, client, events } = await start();
  await markRead({ store, clock }, OUR, room.roomId, new Map([['m.read', room.id('join')]]), null);
  await store.query(
    `INSERT INTO receipts (room_id, user_id, type, thread_id, event_id, at, position, is_untold)
     SELECT $1, '@u' || i || ':there.test', 'm.read', '', '$x', i, position, false FROM journal_head, generate_series(1, 600) i`,
    [room.roomId],
  );
  const [event] = events(await client.sync());
  const content = event!['content'] as Record<string, { 'm.read': JsonObject }>;
  expect(content[room.id('join')]).toEqual({ 'm.read': { [ME]: { ts: clock.at } } });
  expect(Object.keys(content['$x']!['m.read'])).toHaveLength(500);
});

test('a user whom another ignores is hidden from him, and what a filter leaves out is not read', async () => {
  const { client, receive, room, store, events } = await start();
  await client.sync();
  await store.query(
    `INSERT INTO account_data (user_id, room_id, type, content, position) VALUES ($1, '', 'm.ignored_user_list', $2, 0)`,
    [ME, { ignored_users: { [ADMIN]: {} } }],
  );
  await receive('m.typing', typing(room, ADMIN));
  await receive('m.receipt', receipt(room.roomId, ADMIN, '$one'));
  expect(events(await client.ask())).toEqual([typingEvent()]);
  const filter = { room: { ephemeral: { not_types: ['m.typing'] } }, presence: { types: [] } };
  const statements = await statementsOf(async () => {
    expect(events(await client.ask({ filter }))).toEqual([]);
  });
  expect(statements.filter((text) => text.includes('room_typing'))).toEqual([]);
});

test('a room that is purged keeps nothing of who typed and read in it, and what comes afterwards is dropped', async () => {
  const { room, store, passing, receive } = await start();
  await passing.setTyping(OUR, room.roomId, 20_000);
  await receive('m.receipt', receipt(room.roomId, ADMIN, '$one'));
  await store.query(`DELETE FROM local_members`);
  await store.query(`DELETE FROM receipts`);
  await receive('m.receipt', receipt(room.roomId, ADMIN, '$two'));
  expect(await store.query(`SELECT FROM receipts`)).toEqual([]);
});
