import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import {
  type EventId,
  type KeyId,
  type RoomId,
  type ServerName,
  type UserId,
} from '../../../src/matrix/identifiers.ts';
import { better } from '../../../src/federation/known-keys.ts';
import { canonicalJson } from '../../../src/matrix/json/canonical-json.ts';
import { parseJsonObject } from '../../../src/matrix/json/strict-json.ts';
import {
  deleteFetchProgress,
  readFetchProgress,
  writeFetchProgress,
} from '../../../src/store/tables/fetch-progress.ts';
import {
  type JoinIntent,
  claimDueIntent,
  claimJoinIntents,
  deleteJoinIntent,
  readJoinIntents,
  recordJoinIntent,
  releaseIntent,
} from '../../../src/store/tables/intents.ts';
import { createKeyStore, forgetKeys } from '../../../src/store/tables/keys.ts';
import { type KeyStore, type KnownKey } from '../../../src/verification/contract.ts';
import { forgetAwaited } from '../../../src/store/events/left-out.ts';
import { type Store, withTransaction } from '../../../src/store/open-store.ts';
import { forgetDestinations } from '../../../src/store/tables/destinations.ts';
import { forgetTransactions, readTransactionResponse } from '../../../src/store/tables/transactions.ts';
import { stageTransaction } from '../../../src/store/tables/staged-pdus.ts';
import { type TestDatabase, createTestDatabase } from '../../support/postgres.ts';

let database: TestDatabase;
let store: Store;
let keys: KeyStore;
beforeAll(async () => {
  database = await createTestDatabase();
  store = database.openStore();
  keys = createKeyStore(store);
});
afterAll(() => database.drop());

const there = 'there.test' as ServerName;

function intent(eventId: string, createdAt: number): JoinIntent {
  return {
    eventId: eventId as EventId,
    roomId: '!room:there.test' as RoomId,
    userId: '@me:here.test' as UserId,
    event: { type: 'm.room.member', content: { displayname: '\u0000', n: 1 } },
    roomVersion: '11',
    resident: there,
    via: [there, 'elsewhere.test' as ServerName],
    createdAt,
    what: 'join',
    attempts: 0,
    notBefore: createdAt,
    lastReason: null,
  };
}

test('the progress of a fetch is that of the newest attempt, and of no other', async () => {
  const roomId = '!progress:there.test' as RoomId;
  const numbers = { wanted: 100, held: 10, bytes: 5_000_000_000, at: 1_000 };
  const [first, second] = [
    { roomId, epoch: 1, attemptNo: 1 },
    { roomId, epoch: 1, attemptNo: 2 },
  ];
  expect(await readFetchProgress(store, first)).toBeUndefined();
  await writeFetchProgress(store, { ...first, ...numbers });
  await writeFetchProgress(store, { ...first, ...numbers, held: 20 });
  expect(await readFetchProgress(store, first)).toEqual({ ...first, ...numbers, held: 20 });
  expect(await readFetchProgress(store, second)).toBeUndefined();

  await writeFetchProgress(store, { ...second, ...numbers });
  await writeFetchProgress(store, { ...first, ...numbers, held: 99 });
  expect(await readFetchProgress(store, second)).toEqual({ ...second, ...numbers });
  await deleteFetchProgress(store, first);
  expect(await readFetchProgress(store, second)).toEqual({ ...second, ...numbers });
  await deleteFetchProgress(store, second);
  expect(await readFetchProgress(store, second)).toBeUndefined();
});

test('a join on its way is found again until it is finished', async () => {
  const [first, second] = [intent('$intent-1', 1_000), intent('$intent-2', 2_000)];
  const { roomId, userId } = first;
  expect(await recordJoinIntent(store, second)).toBe(true);
  expect(await recordJoinIntent(store, first, [second.eventId])).toBe(true);
  expect(await recordJoinIntent(store, { ...first, createdAt: 9_000 }, [second.eventId, first.eventId])).toBe(true);
  expect(await readJoinIntents(store, roomId, userId)).toEqual([first, second]);

  await releaseIntent(store, first, { lastReason: 'silence' });
  await releaseIntent(store, second);
  expect(await claimDueIntent(store, 999)).toBeUndefined();
  expect(await claimDueIntent(store, 1_500)).toEqual({ ...first, lastReason: 'silence' });
  const deepest = parseJsonObject('{"depth":9223372036854775807,"content":{"é":"\\u0001"}}');
  const deep = { ...intent('$intent-3', 3_000), event: deepest.ok ? deepest.value : {} };
  await recordJoinIntent(store, deep, [first.eventId]);
  const [stored] = (await readJoinIntents(store, roomId, userId)).slice(-1);
  expect(canonicalJson(stored?.event ?? {})).toBe('{"content":{"é":"\\u0001"},"depth":9223372036854775807}');
  await deleteJoinIntent(store, deep.eventId);
  await deleteJoinIntent(store, first.eventId);
  expect(await claimDueIntent(store, 5_000)).toEqual(second);
  await deleteJoinIntent(store, second.eventId);
});

test('one at a time works on the intents of a user in a room, and gives them back', async () => {
  const [first, second] = [intent('$intent-3', 1_000), intent('$intent-4', 2_000)];
  const elsewhere = { ...intent('$intent-5', 3_000), roomId: '!elsewhere:there.test' as RoomId };
  const { roomId, userId } = first;
  expect(await claimJoinIntents(store, roomId, userId)).toEqual([]);
  await recordJoinIntent(store, first);
  expect(await recordJoinIntent(store, second)).toBe(false);
  expect(await claimJoinIntents(store, roomId, userId)).toBeUndefined();
  expect(await claimDueIntent(store, 9_000)).toBeUndefined();
  await recordJoinIntent(store, elsewhere);

  await releaseIntent(store, first, { what: 'leave', attempts: 2, notBefore: 4_000 });
  const left = { ...first, what: 'leave', attempts: 2, notBefore: 4_000 };
  expect(await claimJoinIntents(store, roomId, userId)).toEqual([left]);
  await releaseIntent(store, first);
  await releaseIntent(store, elsewhere);
  const claims = await Promise.all(Array.from({ length: 4 }, () => claimDueIntent(store, 9_000)));
  expect(
    claims
      .filter((claim) => claim !== undefined)
      .map(({ eventId }) => eventId)
      .sort(),
  ).toEqual([first.eventId, elsewhere.eventId]);
});

test('a claim runs out by the clock of the database, for whoever had it was killed', async () => {
  const lost = { ...intent('$intent-6', 1_000), roomId: '!lost:there.test' as RoomId };
  await recordJoinIntent(store, lost);
  expect(await claimJoinIntents(store, lost.roomId, lost.userId)).toBeUndefined();
  await store.query(`UPDATE join_intents SET claimed_until = claimed_until - 15 * 60000 WHERE event_id = $1`, [
    lost.eventId,
  ]);
  expect(await claimJoinIntents(store, lost.roomId, lost.userId)).toEqual([lost]);
});

test('a transaction has one answer, until it is forgotten', async () => {
  expect(await readTransactionResponse(store, there, 't1')).toBeUndefined();
  const answer = { pdus: { $e: { error: 'quotes \u0000' } } };
  const transaction = { origin: there, txnId: 't1', response: answer };
  expect(await stageTransaction(store, transaction, [])).toEqual(answer);
  expect(await stageTransaction(store, { ...transaction, response: { pdus: {} } }, [])).toEqual(answer);
  expect(await readTransactionResponse(store, there, 't1')).toEqual(answer);
  expect(await readTransactionResponse(store, 'other.test' as ServerName, 't1')).toBeUndefined();
  expect(await forgetTransactions(store, 0, 10)).toBe(0);
  expect(await forgetTransactions(store, Number.MAX_SAFE_INTEGER, 10)).toBe(1);
  expect(await readTransactionResponse(store, there, 't1')).toBeUndefined();
});

function key(keyId: string, about: Partial<KnownKey> = {}): KnownKey {
  return {
    serverName: there,
    keyId: keyId as KeyId,
    publicKey: `public ${keyId}`,
    validUntilTs: 1_000,
    expired: false,
    fetchedAt: 10,
    ...about,
  };
}

test('keys that were stored are found by server and id, others are absent', async () => {
  await keys.storeKeys([key('ed25519:b'), key('ed25519:a')]);
  await keys.storeKeys([]);
  const wanted = ['ed25519:a', 'ed25519:a', 'ed25519:unknown'].map((keyId) => key(keyId));
  expect(await keys.readKeys(wanted)).toEqual([key('ed25519:a')]);
  expect(await keys.readKeys([{ ...key('ed25519:a'), serverName: 'other.test' as ServerName }])).toEqual([]);
  expect(await keys.readKeys([])).toEqual([]);
});

test('the newest answer about a key counts, and does not shorten how long the same key is valid', async () => {
  const read = async () => (await keys.readKeys([key('ed25519:x')]))[0];
  await keys.storeKeys([key('ed25519:x'), key('ed25519:x', { validUntilTs: 500, fetchedAt: 5 })]);
  expect(await read()).toEqual(key('ed25519:x'));
  await keys.storeKeys([key('ed25519:x', { validUntilTs: 2_000, fetchedAt: 20 })]);
  await keys.storeKeys([key('ed25519:x', { publicKey: 'late', validUntilTs: 9_000, fetchedAt: 15 })]);
  await keys.storeKeys([key('ed25519:x', { validUntilTs: 900, fetchedAt: 25 })]);
  expect(await read()).toMatchObject({ publicKey: 'public ed25519:x', validUntilTs: 2_000, fetchedAt: 25 });
  await keys.storeKeys([key('ed25519:x', { publicKey: 'after a loss', validUntilTs: 1_500, fetchedAt: 30 })]);
  expect(await read()).toMatchObject({ publicKey: 'after a loss', validUntilTs: 1_500 });
});

test('a key that its server has expired stays so, with the time it expired at', async () => {
  const read = async () => (await keys.readKeys([key('ed25519:old')]))[0];
  await keys.storeKeys([key('ed25519:old', { validUntilTs: 5_000 })]);
  await keys.storeKeys([key('ed25519:old', { validUntilTs: 3_000, expired: true, fetchedAt: 30 })]);
  expect(await read()).toMatchObject({ validUntilTs: 3_000, expired: true });
  await keys.storeKeys([key('ed25519:old', { validUntilTs: 8_000, fetchedAt: 40 })]);
  expect(await read()).toMatchObject({ validUntilTs: 3_000, expired: true });
});

test('the store and the key ring in memory make the same of every answer about a key', async () => {
  const claims = [false, true].flatMap((expired) =>
    [1_000, 2_000].flatMap((validUntilTs) =>
      ['one', 'other'].map((publicKey) => ({ expired, validUntilTs, publicKey })),
    ),
  );
  const pairs = claims.flatMap((first) => claims.map((second) => [first, second] as const));
  const named = pairs.map(([first, second], i) => ({
    first: key(`ed25519:pair${i}`, { ...first, fetchedAt: 10 }),
    second: key(`ed25519:pair${i}`, { ...second, fetchedAt: 20 }),
  }));
  await keys.storeKeys(named.map(({ first }) => first));
  await keys.storeKeys(named.map(({ second }) => second));
  const stored = new Map((await keys.readKeys(named.map(({ first }) => first))).map((each) => [each.keyId, each]));
  for (const { first, second } of named) expect(stored.get(first.keyId)).toEqual(better(first, second));
});

test.each<[string, string, string, (sql: Store) => Promise<number>]>([
  [
    'a key',
    `INSERT INTO server_keys (server_name, key_id, public_key, valid_until_ts, expired, fetched_at)
     VALUES ('renewed.test', 'ed25519:r', 'public', 1, false, 1)`,
    `UPDATE server_keys SET fetched_at = 100 WHERE server_name = 'renewed.test'`,
    (sql) => forgetKeys(sql, 50, 1_000),
  ],
  [
    'what is known against a server',
    `INSERT INTO destinations (server_name, failures, not_before, last_failure, last_failed_at)
     VALUES ('renewed.test', 1, 1, 'timeout', 1)`,
    `UPDATE destinations SET not_before = 100 WHERE server_name = 'renewed.test'`,
    (sql) => forgetDestinations(sql, 50, 1_000),
  ],
  [
    'an event that is awaited',
    `INSERT INTO awaited_events (room_id, event_id, awaited_by, since) VALUES ('!r', '$e', '', 1)`,
    `UPDATE awaited_events SET since = 100 WHERE room_id = '!r'`,
    (sql) => forgetAwaited(sql, 50, 1_000),
  ],
])('%s that is renewed while it is forgotten for its age stays', async (_what, insert, renew, forget) => {
  await forget(store);
  await store.query(insert);
  const forgetting = await withTransaction(store, async (tx) => {
    await tx.query(renew);
    const started = forget(store);
    await vi.waitFor(async () => {
      const waiting = await store.query(
        `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
      );
      expect(waiting).toHaveLength(1);
    });
    return { started };
  });
  expect(await forgetting.started).toBe(0);
  await store.query(renew.replace('100', '1'));
  expect(await forget(store)).toBe(1);
});
