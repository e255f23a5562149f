import { expect, onTestFinished, test } from 'vitest';
import { maintain } from '../../activities/maintain.ts';
import { createDevices } from '../../src/devices/devices.ts';
import { receiveEdus } from '../../src/edus/receive-edus.ts';
import { type FederationClient, type UserKeys } from '../../src/federation/contract.ts';
import { type ServerName, type UserId, domainOf } from '../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { type Store } from '../../src/store/open-store.ts';
import { TestClock, roomsContextOf } from '../client-api/client.ts';
import { silent } from '../federation/tls-server.ts';
import { ADMIN, ME, PartialRoom, member } from '../rooms/resync/partial-room.ts';
import { createTestDatabase } from '../support/postgres.ts';
import { statementsOf } from '../support/statements.ts';

const AUTH = ['create', 'power', 'rules'];
const FULL = ['create', 'admin', 'power', 'rules'];
const THERE = 'there.test' as ServerName;
const BOB = '@bob:there.test';

/** The servers of others, with what they say of their users' devices and how often they were asked. */
class Servers {
  readonly asked: string[] = [];
  readonly #names = new Map<string, { readonly devices: JsonObject; readonly streamId: number }>();
  meanwhile: () => Promise<void> = () => Promise.resolve();

  publish(userId: string, streamId: number, ...deviceIds: string[]): void {
    const keys = deviceIds.map((deviceId) => [deviceId, { user_id: userId, device_id: deviceId, keys: {} }]);
    this.#names.set(userId, { devices: Object.fromEntries(keys) as JsonObject, streamId });
  }

  client(): FederationClient {
    const keysOf = (userId: string, streamId: number | null): UserKeys => ({
      ...{ streamId, devices: this.#names.get(userId)?.devices ?? {}, masterKey: undefined, selfSigningKey: undefined },
    });
    const client: Pick<FederationClient, 'userDevices' | 'queryKeys'> = {
      userDevices: async (_server, userId) => {
        this.asked.push(userId);
        const keys = keysOf(userId, this.#names.get(userId)?.streamId ?? 0);
        await this.meanwhile();
        return keys;
      },
      queryKeys: async (server, userIds) => {
        this.asked.push(`${server} ${userIds.length}`);
        const keys = new Map(userIds.map((userId) => [userId, keysOf(userId, null)] as const));
        await this.meanwhile();
        return keys;
      },
    };
    return client as FederationClient;
  }
}

async function start(): Promise<{
  readonly store: Store;
  readonly room: PartialRoom;
  readonly servers: Servers;
  readonly clock: TestClock;
  readonly query: (...users: string[]) => Promise<Readonly<Record<string, readonly string[]>>>;
  readonly update: (user: string, streamId: number, prev: readonly number[], deviceId: string) => Promise<void>;
}> {
  const database = await createTestDatabase();
  onTestFinished(() => database.drop());
  const store = database.openStore({ serverName: 'here.test' });
  const servers = new Servers();
  const clock = new TestClock();
  const devices = createDevices({
    ...{ ...roomsContextOf(store, clock), federation: servers.client(), onSaid: () => undefined },
  });
  const room = new PartialRoom(store);
  await room.join();
  return {
    ...{ store, room, servers, clock },
    query: async (...users) => {
      const patience = { timeoutMs: 5_000, signal: new AbortController().signal };
      const answer = await devices.query(ME as UserId, users as UserId[], patience);
      return Object.fromEntries([...answer.users].map(([user, keys]) => [user, [...keys.devices.keys()].sort()]));
    },
    update: (user, streamId, prev, deviceId) =>
      receiveEdus({ store, clock, logger: silent }, domainOf(user as UserId), [
        {
          type: 'm.device_list_update',
          content: {
            ...{ user_id: user, device_id: deviceId, stream_id: streamId, prev_id: prev },
            keys: { user_id: user, device_id: deviceId, keys: {} },
          },
        },
      ]),
  };
}

async function whole(): ReturnType<typeof start> {
  const stage = await start();
  await stage.room.push(member('bob', BOB, 'join', { prev: ['join'], auth: AUTH }));
  await stage.room.fetch(...FULL);
  expect(await stage.room.walk()).toMatchObject({ partial: false });
  return stage;
}

test('of who shares a room his server is asked once, and of who shares none each time', async () => {
  const { servers, query } = await whole();
  servers.publish(BOB, 1, 'B1');
  servers.publish('@far:away.test', 1, 'F1');
  for (let i = 0; i < 3; i += 1) {
    expect(await query(BOB, '@far:away.test')).toEqual({ [BOB]: ['B1'], '@far:away.test': ['F1'] });
  }
  expect(servers.asked.sort()).toEqual([BOB, 'away.test 1', 'away.test 1', 'away.test 1'].sort());
});

test('an update that builds on what was said is put in, and after a gap the server is asked again', async () => {
  const { servers, query, update } = await whole();
  servers.publish(BOB, 4, 'B1');
  await query(BOB);
  await update(BOB, 5, [4], 'B2');
  await update(BOB, 6, [5], 'B3');
  expect(await query(BOB)).toEqual({ [BOB]: ['B1', 'B2', 'B3'] });
  expect(servers.asked).toEqual([BOB]);
  servers.publish(BOB, 9, 'B9');
  await update(BOB, 9, [8], 'B9');
  expect(await query(BOB)).toEqual({ [BOB]: ['B9'] });
  expect(await query(BOB)).toEqual({ [BOB]: ['B9'] });
  expect(servers.asked).toEqual([BOB, BOB]);
});

test('what changes while the server is asked makes what it says worth nothing', async () => {
  const { servers, query, update } = await whole();
  servers.publish(BOB, 1, 'B1');
  servers.meanwhile = () => update(BOB, 2, [1], 'B2');
  expect(await query(BOB)).toEqual({ [BOB]: ['B1'] });
  servers.meanwhile = () => Promise.resolve();
  servers.publish(BOB, 2, 'B1', 'B2');
  expect(await query(BOB)).toEqual({ [BOB]: ['B1', 'B2'] });
  expect(servers.asked).toEqual([BOB, BOB]);
});

test('new keys by which a user vouches have his server asked again', async () => {
  const { servers, query, store, clock } = await whole();
  servers.publish(BOB, 1, 'B1');
  await query(BOB);
  const content = { user_id: BOB, master_key: { user_id: BOB, usage: ['master'], keys: {} } };
  await receiveEdus({ store, clock, logger: silent }, THERE, [{ type: 'm.signing_key_update', content }]);
  await query(BOB);
  expect(servers.asked).toEqual([BOB, BOB]);
});

test('in a partial room who was seen joining is asked for once, and who was there before each time until it is whole', async () => {
  const { servers, query, room } = await start();
  await room.hold(member('carl', '@carl:there.test', 'join', { auth: AUTH }));
  await room.push(member('bob', BOB, 'join', { prev: ['join'], auth: AUTH }));
  for (let i = 0; i < 2; i += 1) await query(BOB, ADMIN, '@carl:there.test');
  expect(servers.asked).toEqual([BOB, 'there.test 2', 'there.test 2']);
  await room.fetch(...FULL, 'carl');
  expect(await room.walk()).toMatchObject({ partial: false });
  servers.asked.length = 0;
  for (let i = 0; i < 2; i += 1) await query(BOB, ADMIN, '@carl:there.test');
  expect(servers.asked.sort()).toEqual([ADMIN, '@carl:there.test'].sort());
});

test('who left and came back may have changed what we were not told: his server is asked again', async () => {
  const { servers, query, room } = await whole();
  servers.publish(BOB, 1, 'B1');
  await query(BOB);
  await room.push(member('bye', BOB, 'leave', { prev: ['bob'], auth: ['create', 'power', 'bob'] }));
  await query(BOB);
  await room.push(member('back', BOB, 'join', { prev: ['bye'], auth: [...AUTH, 'bye'] }));
  await query(BOB);
  await query(BOB);
  expect(servers.asked).toEqual([BOB, 'there.test 1', BOB]);
});

test('what is kept goes when we are in no such room any more, and when it is a month old', async () => {
  const { servers, query, store, room, clock } = await whole();
  await room.push(member('other', '@other:here.test', 'join', { prev: ['bob'], auth: AUTH }));
  await query(BOB, ADMIN);
  const kept = async () => (await store.query(`SELECT FROM cached_devices`)).length;
  const pass = () =>
    maintain(
      { rooms: roomsContextOf(store, clock) },
      { budgetMs: 60_000 },
      {
        ...{ signal: new AbortController().signal, heartbeat: () => undefined },
      },
    );
  await pass();
  expect(await kept()).toBe(2);
  clock.at += 31 * 86_400_000;
  await pass();
  expect(await kept()).toBe(0);
  await query(BOB);
  expect([servers.asked.at(-1), await kept()]).toEqual([BOB, 1]);
  await store.query(`UPDATE local_members SET membership = 'leave'`);
  await pass();
  expect(await kept()).toBe(0);
});

test('many of one server are asked for together and kept as well, in as many statements as few', async () => {
  const { servers, query, room } = await whole();
  const users = Array.from({ length: 30 }, (_, i) => `@u${i}:there.test`);
  let before = 'bob';
  for (const [i, user] of users.entries()) {
    await room.push(member(`u${i}`, user, 'join', { prev: [before], auth: AUTH }));
    before = `u${i}`;
  }
  const cost = async (asked: readonly string[]) => (await statementsOf(() => query(...asked))).length;
  const [few, many] = [await cost([BOB]), await cost(users)];
  expect(many).toBeLessThanOrEqual(few + 2);
  expect(await cost(users)).toBeLessThan(many);
  expect(servers.asked).toEqual([BOB, 'there.test 30']);
});

test('of many whom we share no room with their server is asked for fifty at a time, four times at once and no more', async () => {
  const { servers, query } = await start();
  const users = Array.from({ length: 480 }, (_, i) => `@far${i}:away.test`);
  const atOnce: number[] = [];
  let [begun, open] = [0, 0];
  let release: () => void = () => undefined;
  servers.meanwhile = async () => {
    [begun, open] = [begun + 1, open + 1];
    atOnce.push(open);
    // Whoever asks one after the other never gets here.
    if (begun % 4 === 0 || begun === 10) release();
    else await new Promise<void>((resolve) => (release = chain(release, resolve)));
    open -= 1;
  };
  expect(Object.keys(await query(...users))).toHaveLength(480);
  expect(servers.asked).toEqual([...Array<string>(9).fill('away.test 50'), 'away.test 30']);
  expect(Math.max(...atOnce)).toBe(4);
});

function chain(first: () => void, then: () => void): () => void {
  return () => {
    first();
    then();
  };
}
