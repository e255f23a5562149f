import { expect, test } from 'vitest';
import { receiveToDevice } from '../../src/devices/receive-to-device.ts';
import { receiveEdus } from '../../src/edus/receive-edus.ts';
import { type ServerName } from '../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { readEdus, readNextEdus } from '../../src/store/tables/outgoing-edus.ts';
import { type TestClient, startClientApi } from '../client-api/client.ts';
import { silent } from '../federation/tls-server.ts';
import { openTestStore } from '../support/postgres.ts';

const { store } = await openTestStore();
const V3 = '/_matrix/client/v3';
const ORIGIN = 'there.test' as ServerName;
const clock = { now: () => 1 };

interface Synced {
  readonly next: string;
  readonly messages: readonly JsonObject[];
}

async function sync(client: TestClient, token: string, since?: string): Promise<Synced> {
  const { body } = await client.ask(
    'GET',
    `${V3}/sync${since === undefined ? '' : `?since=${since}`}`,
    undefined,
    token,
  );
  const events = (body['to_device'] as { readonly events: JsonObject[] } | undefined)?.events ?? [];
  return { next: String(body['next_batch']), messages: events };
}

let transactions = 0;
const send = (client: TestClient, token: string, messages: JsonObject, txnId = `t${(transactions += 1)}`) =>
  client.ask('PUT', `${V3}/sendToDevice/m.test/${txnId}`, { messages }, token);

test('a message waits for its device, is given again to who repeats its token, and is gone after the next', async () => {
  const client = await startClientApi(store);
  const [from, to] = [await client.user('from'), await client.user('to', { deviceId: 'D1' })];
  const other = await client.login('to');
  const begin = (await sync(client, to)).next;
  expect((await send(client, from, { '@to:here.test': { D1: { n: 1 } } })).status).toBe(200);
  const event = { sender: '@from:here.test', type: 'm.test', content: { n: 1 } };
  const first = await sync(client, to, begin);
  expect(first.messages).toEqual([event]);
  expect(await sync(client, to, begin)).toEqual(first);
  expect((await sync(client, to, first.next)).messages).toEqual([]);
  expect(await store.query(`SELECT FROM to_device_messages WHERE user_id = '@to:here.test'`)).toEqual([]);
  expect((await sync(client, other)).messages).toEqual([]);
});

test('a message to all devices of a user reaches each, and the same transaction again sends nothing', async () => {
  const client = await startClientApi(store);
  const from = await client.user('sender');
  const devices = [await client.login('many'), await client.login('many')];
  const messages = { '@many:here.test': { '*': { n: 1 } }, '@nobody:here.test': { '*': {} } };
  await send(client, from, messages, 'same');
  await send(client, from, messages, 'same');
  for (const token of devices) expect((await sync(client, token)).messages).toHaveLength(1);
});

test('a sync that waits is woken by a message to its device', async () => {
  const client = await startClientApi(store);
  const [from, to] = [await client.user('waker'), await client.user('sleeper', { deviceId: 'S' })];
  const { next } = await sync(client, to);
  const woken = client.ask('GET', `${V3}/sync?timeout=60000&since=${next}`, undefined, to);
  await expect.poll(() => client.notifier.waiting).toBe(1);
  await send(client, from, { '@sleeper:here.test': { S: {} } });
  expect((await woken).body['to_device']).toMatchObject({ events: [{ type: 'm.test' }] });
});

test('more messages than a response holds come with the next ones, in order, each once', async () => {
  const client = await startClientApi(store);
  const [from, to] = [await client.user('writer'), await client.user('reader', { deviceId: 'R' })];
  let { next } = await sync(client, to);
  await store.query(
    `WITH head AS (UPDATE journal_head SET position = position + 250 RETURNING position - 250 AS base)
     INSERT INTO to_device_messages SELECT '@reader:here.test', 'R', head.base + i, '@writer:here.test', 'm.test', json_build_object('n', i)
       FROM head, generate_series(1, 250) AS i`,
  );
  const read: unknown[] = [];
  for (let syncs = 0; syncs < 3; syncs += 1) {
    const answer = await sync(client, to, next);
    read.push(...answer.messages.map(({ content }) => (content as JsonObject)['n']));
    next = answer.next;
  }
  expect(read).toEqual(Array.from({ length: 250 }, (_, i) => i + 1));
  await send(client, from, { '@reader:here.test': { R: { n: 'last' } } });
  expect((await sync(client, to, next)).messages).toMatchObject([{ content: { n: 'last' } }]);
});

test('a message to a device of another server goes out as an EDU, one for each server, none larger than it may be', async () => {
  const client = await startClientApi(store);
  const from = await client.user('outward');
  const large = 'x'.repeat(40_000);
  await send(client, from, {
    '@a:there.test': { D: { body: large }, '*': { body: large } },
    '@b:elsewhere.test': { D: {} },
  });
  const sizes: number[] = [];
  for (const [server, count] of [
    [ORIGIN, 2],
    ['elsewhere.test' as ServerName, 1],
  ] as const) {
    const ids = await readNextEdus(store, server, { now: 0, limit: 100, bytesMax: 10_000_000 });
    const edus = await readEdus(store, server, ids);
    expect(edus).toHaveLength(count);
    for (const edu of edus) {
      expect(edu).toMatchObject({ edu_type: 'm.direct_to_device', content: { sender: '@outward:here.test' } });
      sizes.push(Buffer.byteLength(JSON.stringify(edu)));
    }
  }
  expect(Math.max(...sizes)).toBeLessThan(65_536);
});

const direct = (over: JsonObject): { readonly type: 'm.direct_to_device'; readonly content: JsonObject } => ({
  type: 'm.direct_to_device',
  content: { sender: '@x:there.test', type: 'm.test', message_id: 'id', messages: {}, ...over },
});

test('a message of another server is taken once, by its origin and its id', async () => {
  const client = await startClientApi(store);
  const token = await client.user('taker', { deviceId: 'T' });
  const context = { store, clock, logger: silent };
  const messages = { '@taker:here.test': { T: { n: 1 } } };
  const edus = [direct({ message_id: 'once', messages }), direct({ message_id: 'once', messages })];
  await receiveEdus(context, ORIGIN, edus);
  await receiveEdus(context, ORIGIN, edus);
  expect((await sync(client, token)).messages).toHaveLength(1);
  const elsewhere = direct({ message_id: 'once', messages, sender: '@x:elsewhere.test' });
  await receiveEdus(context, 'elsewhere.test' as ServerName, [elsewhere]);
  expect((await sync(client, token)).messages).toHaveLength(2);
});

test('messages in the name of another server, to its users, or of no form are dropped, and cost the others nothing', async () => {
  const client = await startClientApi(store);
  const token = await client.user('target', { deviceId: 'T' });
  const messages = { '@target:here.test': { T: { n: 1 } } };
  const edus = [
    direct({ message_id: 'a', messages, sender: '@x:elsewhere.test' }),
    direct({ message_id: 'b', messages, sender: 7 }),
    direct({ message_id: 'c', messages: [] }),
    direct({ message_id: 'd', messages: { '@target:here.test': [], '@x:there.test': { '*': {} }, nobody: {} } }),
    direct({ message_id: 'e', messages: { '@target:here.test': { T: 1, '\u0000': {} } } }),
    direct({ message_id: 'f\u0000', messages, type: 'x'.repeat(300) }),
    direct({ message_id: ['g'], messages }),
    direct({ message_id: 'h\u0000', messages, type: 'm.\u0000' }),
  ];
  await receiveEdus({ store, clock, logger: silent }, ORIGIN, edus);
  expect((await sync(client, token)).messages).toEqual([
    { sender: '@x:there.test', type: 'm.\u0000', content: { n: 1 } },
  ]);
});

test('what waits for a device that never syncs has an end', async () => {
  const client = await startClientApi(store);
  await client.user('absent', { deviceId: 'D' });
  await store.query(
    `INSERT INTO to_device_messages SELECT '@absent:here.test', 'D', -i, '@x:there.test', 'm.test', '{}' FROM generate_series(1, 9999) AS i`,
  );
  const messages = { '@absent:here.test': { D: {} } };
  const edus = ['1', '2', '3'].map((id) => direct({ message_id: `end${id}`, messages }));
  await receiveEdus({ store, clock, logger: silent }, ORIGIN, edus);
  const [row] = await store.query<{ waiting: number }>(
    `SELECT count(*) AS waiting FROM to_device_messages WHERE user_id = $1`,
    ['@absent:here.test'],
  );
  expect(row?.waiting).toBe(10_000);
});

test('what one transaction of another server brings has an end, and what is over is counted', async () => {
  const client = await startClientApi(store);
  for (const i of [1, 2, 3]) await client.user(`flooded${i}`, { deviceId: 'D' });
  const to = Object.fromEntries([1, 2, 3].map((i) => [`@flooded${i}:here.test`, { D: {} }]));
  const contents = Array.from({ length: 3_334 }, (_, i) => direct({ message_id: `flood${i}`, messages: to }).content);
  expect(await receiveToDevice({ store, now: 1 }, ORIGIN, contents)).toBe(2);
});

test('what is for servers that nobody has reached has its turn last, and expires; one request is for so many servers', async () => {
  const client = await startClientApi(store);
  const from = await client.user('scatter');
  await store.query(
    `INSERT INTO deliveries (server_name, leased_until, failures, retry_at) VALUES ('well.test', 0, 0, 0);
     INSERT INTO deliveries (server_name, leased_until, failures, retry_at) VALUES ('failed.test', 0, 1, 5)`,
  );
  const to = (servers: readonly string[]) => Object.fromEntries(servers.map((name) => [`@a:${name}`, { D: {} }]));
  await send(client, from, to(['failed.test', 'made-up.test', 'well.test']));
  const rows = await store.query<{ name: string; expires: boolean }>(
    `SELECT o.server_name AS name, o.expires_at IS NOT NULL AS expires FROM outgoing_edus o JOIN deliveries USING (server_name)
      WHERE server_name IN ('well.test', 'failed.test', 'made-up.test') ORDER BY retry_at`,
  );
  expect(rows).toEqual([
    { name: 'well.test', expires: false },
    { name: 'made-up.test', expires: true },
    { name: 'failed.test', expires: true },
  ]);
  const many = await send(client, from, to(Array.from({ length: 1_001 }, (_, i) => `s${i}.test`)));
  expect(many).toMatchObject({ status: 400, body: { errcode: 'M_INVALID_PARAM' } });
});
