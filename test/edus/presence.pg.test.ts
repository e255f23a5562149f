import { expect, test } from 'vitest';
import { type UserId } from '../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { ADMIN, ME, PartialRoom, member } from '../rooms/resync/partial-room.ts';
import { statementsOf } from '../support/statements.ts';
import { FoldingClient } from '../sync/folding-client.ts';
import { AUTH, OUR, start } from './passing-stage.ts';

test('presence of who shares a room is told, once, and that of a user whom nobody knows is forgotten', async () => {
  const { client, receive, clock, store } = await start();
  await client.sync();
  const push = (user: string, presence: string, more: JsonObject = {}) => ({
    push: [{ user_id: user, presence, last_active_ago: 1_000, currently_active: true, ...more }],
  });
  await receive('m.presence', push(ADMIN, 'online', { status_msg: 'at home' }));
  await receive('m.presence', push(ME, 'online'));
  await receive('m.presence', push('@unknown:there.test', 'online'));
  await receive('m.presence', push(ADMIN, 'rubbish'));
  await receive('m.presence', { push: 'rubbish' });
  const { presence, joined } = await client.sync();
  expect([presence, joined.size]).toEqual([
    [
      {
        ...{ userId: ADMIN, presence: 'online', statusMsg: 'at home' },
        ...{ lastActiveAt: clock.at - 1_000, isCurrentlyActive: true },
      },
    ],
    0,
  ]);
  // The same again is nothing new.
  await receive('m.presence', push(ADMIN, 'online', { status_msg: 'at home' }));
  expect((await client.sync()).presence).toEqual([]);
  expect(await store.query(`SELECT user_id AS "userId" FROM presence`)).toEqual([{ userId: ADMIN }]);
});

test("in a partial room users of the servers said to be in it are believed to be there, and nobody else's", async () => {
  const { client, receive, passing } = await start(false);
  await client.sync();
  const push = (user: string) => ({ push: [{ user_id: user, presence: 'online' }] });
  await receive('m.presence', push('@derek:there.test'));
  await receive('m.presence', push('@x:elsewhere.test'), 'elsewhere.test');
  expect((await client.sync()).presence.map(({ userId }) => userId)).toEqual(['@derek:there.test']);
  expect(await passing.presenceOf(OUR, '@derek:there.test' as UserId)).toMatchObject({ presence: 'online' });
  await expect(passing.presenceOf(OUR, '@x:elsewhere.test' as UserId)).rejects.toMatchObject({ kind: 'forbidden' });
});

test('a change of presence wakes those who share a room with the user, of this server or another, and nobody else', async () => {
  const { client, receive, room, passing, sync, store } = await start();
  await room.push(member('other', '@other:here.test', 'join', { prev: ['join'], auth: AUTH }));
  const other = new FoldingClient(sync, { userId: '@other:here.test', lazy: true });
  const stranger = new FoldingClient(sync, { userId: '@stranger:here.test', lazy: true });
  for (const one of [client, other, stranger]) await one.sync();
  const push = (user: string, presence: string) => ({ push: [{ user_id: user, presence }] });
  const woken = [client, other].map((one) => one.sync({ timeoutMs: 600_000 }));
  const left = new AbortController();
  const asleep = stranger.sync({ timeoutMs: 600_000, signal: left.signal });
  await receive('m.presence', push(ADMIN, 'online'));
  for (const { presence } of await Promise.all(woken)) {
    expect(presence).toMatchObject([{ userId: ADMIN, presence: 'online' }]);
  }
  const again = other.sync({ timeoutMs: 600_000 });
  await passing.setPresence(OUR, 'unavailable', null);
  await passing.settle();
  expect((await again).presence).toMatchObject([{ userId: OUR, presence: 'unavailable' }]);
  left.abort(new Error('it has seen enough'));
  await expect(asleep).rejects.toThrow('it has seen enough');
  // A filter that leaves presence out is not told, however often it is woken.
  const filtered = client.ask({ timeoutMs: 0, filter: { presence: { types: [] } } });
  expect((await filtered).presence).toEqual([]);
  // The same again wakes nobody.
  const statements = await statementsOf(() => receive('m.presence', push(ADMIN, 'online')));
  expect(statements.filter((text) => text.includes('pg_notify'))).toEqual([]);
  expect(await store.query(`SELECT FROM presence`)).toHaveLength(2);
});

test('whom a change of presence wakes is found in as many statements for many users and rooms as for few', async () => {
  const { receive, room, store } = await start();
  const users = Array.from({ length: 40 }, (_, i) => `@u${i}:there.test`);
  let before = 'join';
  for (const [i, user] of users.entries()) {
    await room.push(member(`u${i}`, user, 'join', { prev: [before], auth: AUTH }));
    before = `u${i}`;
  }
  const second = new PartialRoom(store);
  await second.join();
  const cost = async (named: readonly string[], presence: string): Promise<number> => {
    const push = named.map((user) => ({ user_id: user, presence }));
    const statements = await statementsOf(() => receive('m.presence', { push }));
    expect(statements.filter((text) => text.includes('pg_notify(') && text.includes('journal_head head'))).toHaveLength(
      1,
    );
    return statements.length;
  };
  await cost(users, 'online');
  const few = await cost(users.slice(0, 1), 'offline');
  expect(await cost(users, 'unavailable')).toBe(few);
});

test('whoever was away while thousands changed is told of those he shares rooms with, if they are among the newest', async () => {
  const { client, receive, store } = await start();
  await client.sync();
  await receive('m.presence', { push: [{ user_id: ADMIN, presence: 'online' }] });
  const fill = (name: string, count: number) =>
    store.query(
      `INSERT INTO presence (user_id, server_name, presence, said_at, position)
       SELECT '@' || $1 || i || ':else.test', 'else.test', 'online', 0, position + 1 FROM journal_head, generate_series(1, $2::int) i`,
      [name, count],
    );
  await fill('few', 4_500);
  await store.query(`UPDATE journal_head SET position = position + 1`);
  expect((await client.ask()).presence.map(({ userId }) => userId)).toEqual([ADMIN]);
  await fill('many', 1_000);
  await store.query(`UPDATE journal_head SET position = position + 1`);
  expect((await client.ask()).presence).toEqual([]);
});
