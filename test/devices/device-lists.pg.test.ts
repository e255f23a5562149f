import { expect, onTestFinished, test } from 'vitest';
import { tellDeviceLists } from '../../src/devices/tell-device-lists.ts';
import { receiveEdus } from '../../src/edus/receive-edus.ts';
import { type ServerName, type UserId } from '../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { type ReceivedEdu } from '../../src/rooms/contract.ts';
import { type Store } from '../../src/store/open-store.ts';
import { JoinedServers } from '../../src/store/snapshots/joined-servers.ts';
import { noteOwnDeviceChanges } from '../../src/store/tables/device-changes.ts';
import { readEdus, readNextEdus } from '../../src/store/tables/outgoing-edus.ts';
import { createNotifier } from '../../src/store/notify.ts';
import { createSync } from '../../src/sync/sync.ts';
import { silent } from '../federation/tls-server.ts';
import { ADMIN, ME, PartialRoom, member } from '../rooms/resync/partial-room.ts';
import { createTestDatabase } from '../support/postgres.ts';
import { statementsOf } from '../support/statements.ts';
import { FoldingClient } from '../sync/folding-client.ts';

const BOB = '@bob:there.test';
const LATE = '@late:late.test';
const AUTH = ['create', 'power', 'rules'];
const THERE = 'there.test' as ServerName;

/** Every test has a database of its own: whose devices are told is a matter of all rooms. */
async function start(): Promise<{ readonly store: Store; readonly client: FoldingClient; readonly room: PartialRoom }> {
  const database = await createTestDatabase();
  const store = database.openStore({ serverName: 'here.test' });
  const notifier = createNotifier(store);
  onTestFinished(async () => {
    await notifier.close();
    await database.drop();
  });
  const sync = createSync({ store, notifier, clock: { now: () => 1 } });
  const room = new PartialRoom(store);
  await room.join();
  return { store, room, client: new FoldingClient(sync, { userId: ME, lazy: true }) };
}

const change = (store: Store, deviceId: string): Promise<void> =>
  store.inTransaction((tx) => noteOwnDeviceChanges(tx, ME as UserId, [deviceId]));

/** What waits for a server, as it would get it, and is taken. */
async function told(store: Store, serverName: string): Promise<JsonObject[]> {
  const ids = await readNextEdus(store, serverName as ServerName, { now: 0, limit: 100, bytesMax: 1_000_000 });
  const edus = await readEdus(store, serverName as ServerName, ids);
  await store.query(`DELETE FROM outgoing_edus WHERE server_name = $1`, [serverName]);
  return edus.map((edu) => edu['content'] as JsonObject);
}

const update = (userId: string): ReceivedEdu => ({
  type: 'm.device_list_update',
  content: { user_id: userId, device_id: 'D', stream_id: 1, prev_id: [] },
});

test('while a room is partial the servers said to be in it are told of a change here, and when it is whole those that were not', async () => {
  const { store, room } = await start();
  const joined = new JoinedServers();
  const tell = async (): Promise<void> => {
    while (await tellDeviceLists({ store }, joined));
  };
  await change(store, 'D1');
  await tell();
  const [first] = await told(store, THERE);
  expect(first).toMatchObject({ user_id: ME, device_id: 'D1', prev_id: [], deleted: true });
  await change(store, 'D2');
  await tell();
  expect(await told(store, THERE)).toMatchObject([{ device_id: 'D2', prev_id: [first!['stream_id']] }]);
  expect(await told(store, 'late.test')).toEqual([]);

  await room.hold(member('late', LATE, 'join', { auth: AUTH }));
  await room.fetch('create', 'admin', 'power', 'rules', 'late');
  await room.walk();
  await tell();
  expect((await told(store, 'late.test')).map((content) => content['device_id'])).toEqual(['D1', 'D2']);
  expect(await told(store, THERE)).toEqual([]);
  expect(await store.query(`SELECT FROM untold_in_partial_rooms`)).toEqual([]);
  await change(store, 'D1');
  await tell();
  expect(await told(store, 'late.test')).toHaveLength(1);
});

test('a change of who was seen joining is told at once, and of who was there before when the room is whole', async () => {
  const { store, room, client } = await start();
  await client.sync();
  await room.push(member('bob', BOB, 'join', { prev: ['join'], auth: AUTH }));
  expect((await client.sync()).deviceLists).toEqual({ changed: [BOB], left: [] });
  await room.hold(member('late', LATE, 'join', { auth: AUTH }));
  const context = { store, clock: { now: () => 1 }, logger: silent };
  await receiveEdus(context, THERE, [update(BOB), update(ADMIN), update(LATE), { ...update(BOB), content: {} }]);
  expect((await client.sync()).deviceLists).toEqual({ changed: [BOB], left: [] });
  expect((await client.sync()).deviceLists).toEqual({ changed: [], left: [] });

  await room.fetch('create', 'admin', 'power', 'rules', 'late');
  await room.walk();
  const { changed, left } = (await client.sync()).deviceLists!;
  expect([[...changed].sort(), left]).toEqual([[ADMIN, LATE].sort(), []]);
  await receiveEdus(context, 'late.test' as ServerName, [update(LATE), update(BOB)]);
  expect((await client.sync()).deviceLists).toEqual({ changed: [LATE], left: [] });
});

test('who was wrongly believed to be in a room is among those who left when it is whole', async () => {
  const { room, client } = await start();
  await room.hold(
    member('bob', BOB, 'join', { auth: AUTH }),
    member('bob-ban', BOB, 'ban', { sender: ADMIN, auth: ['create', 'power', 'admin'] }),
  );
  await client.sync();
  await room.push(member('again', BOB, 'join', { prev: ['join'], auth: [...AUTH, 'bob'] }));
  expect((await client.sync()).deviceLists).toEqual({ changed: [BOB], left: [] });
  await room.fetch('create', 'admin', 'power', 'rules', 'bob-ban');
  await room.walk();
  expect((await client.sync()).deviceLists).toEqual({ changed: [ADMIN], left: [BOB] });
});

test('when the user leaves a partial room all whom he saw in it are among those who left', async () => {
  const { room, client } = await start();
  await room.push(member('bob', BOB, 'join', { prev: ['join'], auth: AUTH }));
  await client.sync();
  await room.push(member('bye', ME, 'leave', { prev: ['bob'], auth: ['create', 'power', 'join'] }));
  expect((await client.sync()).deviceLists).toEqual({ changed: [], left: [BOB] });
});

test('a sync takes as many statements for many users whose devices changed as for one', async () => {
  const { store, room, client } = await start();
  const users = Array.from({ length: 20 }, (_, i) => `@user${i}:there.test`);
  let before = 'join';
  for (const [i, user] of users.entries()) {
    await room.push(member(`user${i}`, user, 'join', { prev: [before], auth: AUTH }));
    before = `user${i}`;
  }
  await client.sync();
  const context = { store, clock: { now: () => 1 }, logger: silent };
  const cost = async (changed: readonly string[]): Promise<number> => {
    await receiveEdus(context, THERE, changed.map(update));
    let names: readonly string[] = [];
    const statements = await statementsOf(async () => {
      names = (await client.sync()).deviceLists!.changed;
    });
    expect([...names].sort()).toEqual([...changed].sort());
    return statements.length;
  };
  await cost(users);
  expect(await cost(users)).toBe(await cost(users.slice(0, 1)));
});

test('a flood of changes hides none of those who share a room: all of them are told then, and who left', async () => {
  const { store, room, client } = await start();
  await room.push(member('bob', BOB, 'join', { prev: ['join'], auth: AUTH }));
  await room.push(member('late', LATE, 'join', { prev: ['bob'], auth: AUTH }));
  await client.sync();
  await store.query(
    `INSERT INTO device_changes (user_id, device_id, position, is_untold)
     SELECT '@s' || n || ':there.test', '', position + 1, false FROM journal_head, generate_series(1, 20001) AS n`,
  );
  await room.push(member('bye', LATE, 'leave', { prev: ['late'], auth: ['create', 'power', 'late'] }));
  await receiveEdus({ store, clock: { now: () => 1 }, logger: silent }, THERE, [update(BOB)]);
  const { changed, left } = (await client.sync()).deviceLists!;
  expect([[...changed].sort(), left]).toEqual([[BOB, ME].sort(), [LATE]]);
  expect((await client.sync()).deviceLists).toEqual({ changed: [], left: [] });
});

test('a change that somebody else is at is told in its turn, and not passed over', async () => {
  const { store } = await start();
  await change(store, 'D1');
  await change(store, 'D2');
  await store.inTransaction(async (tx) => {
    await tx.query(`SELECT FROM device_changes WHERE device_id = 'D1' FOR UPDATE`);
    const joined = new JoinedServers();
    const telling = tellDeviceLists({ store }, joined);
    await Promise.race([telling, store.query(`SELECT pg_sleep(0.2)`)]);
    telling.catch(() => undefined);
  });
  const joined = new JoinedServers();
  while (await tellDeviceLists({ store }, joined));
  expect((await told(store, 'there.test')).map((content) => content['device_id'])).toEqual(['D1', 'D2']);
});
