/** What passes in rooms, on its way to other servers. */
import { expect, onTestFinished, test } from 'vitest';
import { type RunningPassing, startPassing } from '../../src/edus/passing.ts';
import { type FederationClient } from '../../src/federation/contract.ts';
import { FederationError } from '../../src/federation/error.ts';
import { type RoomId, type ServerName, type UserId } from '../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { markRead } from '../../src/rooms/read/mark-read.ts';
import { deliver } from '../../src/sending/deliver.ts';
import { type Store } from '../../src/store/open-store.ts';
import { endDeliveryLease, leaseDeliveries } from '../../src/store/tables/deliveries.ts';
import { insertPassing } from '../../src/store/tables/outgoing-passing.ts';
import { TestClock, roomsContextOf } from '../client-api/client.ts';
import { ME, PartialRoom, member } from '../rooms/resync/partial-room.ts';
import { createTestDatabase } from '../support/postgres.ts';
import { statementsOf } from '../support/statements.ts';

const OUR = ME as UserId;
const AUTH = ['create', 'power', 'rules'];
const MEMBERS = 120;

interface Taken {
  readonly txnId: string;
  readonly edus: readonly JsonObject[];
}

interface Stage {
  readonly store: Store;
  readonly clock: TestClock;
  readonly room: PartialRoom;
  readonly passing: RunningPassing;
  /** What servers took, and whether what they answer arrives. */
  readonly taken: Map<string, Taken[]>;
  readonly lost: Set<string>;
  /** Sends to everybody who is owed something, once; gives whom. */
  readonly send: () => Promise<string[]>;
  readonly type: (isTyping?: boolean) => Promise<void>;
  readonly edusOf: (server: string) => readonly JsonObject[];
}

/** A whole room with a member on each of many servers. */
async function start(): Promise<Stage> {
  const database = await createTestDatabase();
  const store = database.openStore({ serverName: 'here.test' });
  const clock = new TestClock();
  const room = new PartialRoom(store);
  await room.join();
  await room.fetch('create', 'admin', 'power', 'rules');
  expect(await room.walk()).toMatchObject({ partial: false });
  let before = 'join';
  for (let i = 0; i < MEMBERS; i += 1) {
    await room.push(member(`u${i}`, `@u:s${i}.test`, 'join', { prev: [before], auth: AUTH }));
    before = `u${i}`;
  }
  const [taken, lost] = [new Map<string, Taken[]>(), new Set<string>()];
  const federation: Pick<FederationClient, 'sendTransaction'> = {
    sendTransaction: (server, txnId, { edus = [] }) => {
      const transaction = { txnId, edus: edus as readonly JsonObject[] };
      taken.set(server, [...(taken.get(server) ?? []), transaction]);
      if (!lost.has(server)) return Promise.resolve();
      return Promise.reject(new FederationError(server, 'server-error', 'lost on the way', { status: 502 }));
    },
  };
  const context = { ...roomsContextOf(store, clock), random: () => 0, federation: federation as FederationClient };
  const passing = startPassing({ ...context, onSaid: () => undefined });
  onTestFinished(async () => {
    await passing.close();
    await database.drop();
  });
  return {
    ...{ store, clock, room, passing, taken, lost },
    send: async () => {
      const leased = await leaseDeliveries(store, { now: clock.at, leaseMs: 60_000, limit: 1_000 });
      for (const delivery of leased) {
        await deliver(context, delivery, new AbortController().signal);
        await endDeliveryLease(store, delivery.serverName);
      }
      return leased.map(({ serverName }) => serverName).sort();
    },
    type: async (isTyping = true) => {
      await passing.setTyping(OUR, room.roomId, isTyping ? 30_000 : null);
      await passing.settle();
    },
    edusOf: (server) => (taken.get(server) ?? []).flatMap(({ edus }) => edus),
  };
}

const rows = async (store: Store, table: string): Promise<number> => (await store.query(`SELECT FROM ${table}`)).length;
const typing = (roomId: RoomId, isTyping = true): JsonObject => ({
  ...{ edu_type: 'm.typing', content: { room_id: roomId, user_id: ME, typing: isTyping } },
});

test('what passes is one row, however many servers are in the room, and each of them gets it once', async () => {
  const { store, room, clock, type, send, taken, edusOf } = await start();
  const statements = await statementsOf(() => type());
  await markRead({ store, clock }, OUR, room.roomId, new Map([['m.read', room.id('u0')]]), null);
  await type();
  expect([await rows(store, 'outgoing_passing'), await rows(store, 'outgoing_edus')]).toEqual([2, 0]);
  expect(statements.length).toBeLessThan(40);
  const all = [...Array.from({ length: MEMBERS }, (_, i) => `s${i}.test`), 'there.test'].sort();
  expect(await send()).toEqual(all);
  const read = { [room.roomId]: { 'm.read': { [ME]: { data: { ts: clock.at }, event_ids: [room.id('u0')] } } } };
  for (const server of all) {
    expect(edusOf(server)).toEqual([typing(room.roomId), { edu_type: 'm.receipt', content: read }]);
  }
  expect(await send()).toEqual([]);
  // Again a row for what is said, and none for who is told.
  const known = await rows(store, 'destination_rooms');
  await type(false);
  expect([await rows(store, 'outgoing_passing'), await rows(store, 'destination_rooms')]).toEqual([2, known]);
  expect(await send()).toEqual(all);
  expect(taken.get('s7.test')?.at(-1)?.edus).toEqual([typing(room.roomId, false)]);
});

test('what is begun to be sent is sent again under its name, and the newest afterwards; who takes nothing is not told until he does', async () => {
  const { store, room, clock, type, send, taken, lost } = await start();
  lost.add('s3.test');
  await type();
  await send();
  expect(taken.get('s3.test')).toHaveLength(1);
  // What is said while it takes nothing is nothing to it.
  await markRead({ store, clock }, OUR, room.roomId, new Map([['m.read', room.id('u1')]]), null);
  await type();
  await send();
  lost.clear();
  clock.at += 10_000;
  await send();
  const [first, second, third] = taken.get('s3.test') ?? [];
  expect(second).toEqual(first);
  expect(third).toBeUndefined();
  await type(false);
  expect(await send()).toContain('s3.test');
  expect(taken.get('s3.test')?.at(-1)?.edus).toEqual([typing(room.roomId, false)]);
});

test('what says nothing any more is not sent, and is owed to nobody', async () => {
  const { store, clock, type, send, taken } = await start();
  await type();
  clock.at += 60_000;
  expect(await send()).toHaveLength(MEMBERS + 1);
  expect([...taken.keys()]).toEqual([]);
  expect(await send()).toEqual([]);
  await type();
  expect(await rows(store, 'outgoing_passing')).toBe(1);
});

test('a server that takes nothing is not asked again for what says nothing any more', async () => {
  const { clock, type, send, taken, lost, edusOf } = await start();
  lost.add('s3.test');
  await type();
  await send();
  expect(taken.get('s3.test')).toHaveLength(1);
  for (let i = 0; i < 5; i += 1) {
    clock.at += 2 * 3_600_000;
    await send();
  }
  // It cannot be known when it is asked first after that.
  expect(taken.get('s3.test')?.length).toBeLessThanOrEqual(2);
  expect(await send()).toEqual([]);
  // Nor does it have to be sent an event before it is told of what is said then.
  lost.clear();
  await type();
  await send();
  expect(taken.get('s3.test')?.at(-1)?.edus).toEqual(edusOf('s4.test').slice(-1));
  expect(taken.get('s3.test')?.at(-1)?.edus).toHaveLength(1);
});

test('of more than is kept the oldest is forgotten, and of more than a transaction holds the rest comes with the next', async () => {
  const { store, room, clock, type, send, taken } = await start();
  await store.query(
    `INSERT INTO outgoing_passing (room_id, key, edu, expires_at)
     SELECT '!other:there.test', n::text, '{}', $1::bigint + 1 FROM generate_series(1, 50010) AS n`,
    [clock.at],
  );
  for (let i = 0; i < 100; i += 1) {
    await markRead({ store, clock }, OUR, room.roomId, new Map([['m.read', room.id('u1')]]), `$thread${i}`);
  }
  await markRead({ store, clock }, OUR, room.roomId, new Map([['m.read', room.id('u1')]]), null);
  await type();
  const kept = await rows(store, 'outgoing_passing');
  expect(kept).toBeGreaterThan(50_000);
  expect(kept).toBeLessThanOrEqual(50_102);
  await send();
  expect((taken.get('s5.test') ?? []).map(({ edus }) => edus.length)).toEqual([100, 2]);
});

test('numbers follow the order of commits: who is told of a later one has been told of the ones before it', async () => {
  const { store, clock, room, send, edusOf } = await start();
  const servers = new Map([[room.roomId, new Set(['s1.test' as ServerName])]]);
  const edu = (key: string) => ({ roomId: room.roomId, key, edu: `{"edu_type":"${key}"}`, expiresAt: clock.at + 9 });
  let other: Promise<void> | undefined;
  await store.inTransaction(async (tx) => {
    await insertPassing(tx, [edu('one')], servers, clock.at);
    other = store.inTransaction((otherTx) => insertPassing(otherTx, [edu('two')], servers, clock.at));
    // It waits for this one; or is told before it.
    const waiting = `SELECT FROM pg_locks WHERE NOT granted AND locktype = 'advisory'`;
    for (let i = 0; i < 500 && (await store.query(waiting)).length === 0; i += 1) await send();
  });
  await other;
  await send();
  expect(edusOf('s1.test').map((one) => one['edu_type'])).toEqual(['one', 'two']);
});
