/** Whether a server is left alone by all rooms, as views of it and requests to it overlap. */
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { FederationError } from '../../../src/federation/error.ts';
import { type ServerName } from '../../../src/matrix/identifiers.ts';
import { type HealthView, viewHealth } from '../../../src/rooms/resync/destination-health.ts';
import { type Store } from '../../../src/store/open-store.ts';
import { silent } from '../../federation/tls-server.ts';
import { type TestDatabase, createTestDatabase } from '../../support/postgres.ts';
import { statementsOf } from '../../support/statements.ts';

const A = 'a.test' as ServerName;
const silence = new FederationError(A, 'timeout', 'nothing came', { isSilence: true });

let database: TestDatabase;
/** Of two processes. */
let ours: Store;
let another: Store;
beforeAll(async () => {
  database = await createTestDatabase();
  ours = database.openStore();
  another = database.openStore();
});
afterAll(() => database.drop());
afterEach(async () => {
  now += 3_600_000;
  await view().ask(A, answered);
});

let now = 1_700_000_000_000;
const clock = { now: () => now };
const view = (store: Store = ours): HealthView =>
  viewHealth({ store, clock, logger: silent, ring: () => Promise.resolve() });
const answered = (): Promise<string> => Promise.resolve('answer');
const fails = async (
  health: HealthView,
  error: FederationError,
  meanwhile = () => Promise.resolve(),
): Promise<void> => {
  const asked = health.ask(A, async () => {
    await meanwhile();
    throw error;
  });
  await expect(asked).rejects.toBe(error);
};
const isLeftAlone = async (): Promise<boolean> => (await view().resting([A])).has(A);

test('a server that is silent, and answered before that, is left alone', async () => {
  await view().ask(A, answered);
  await fails(view(), silence);
  expect(await isLeftAlone()).toBe(true);
});

test('a server that is silent about one thing and answers another meanwhile is not left alone', async () => {
  await fails(view(), silence, async () => {
    await view().ask(A, answered);
  });
  expect(await isLeftAlone()).toBe(false);
});

test('a server that is silent about one thing and refuses another meanwhile is not left alone', async () => {
  const refusal = new FederationError(A, 'not-found', 'unknown', { status: 404 });
  await fails(view(), silence, () => fails(view(), refusal));
  expect(await isLeftAlone()).toBe(false);
});

test('a server that has begun to answer is not left alone when the rest takes too long', async () => {
  const asked = view().ask(A, (heard) => {
    heard();
    return Promise.reject(silence);
  });
  await expect(asked).rejects.toBe(silence);
  expect(await isLeftAlone()).toBe(false);
});

test.each([
  ['this process', () => ours],
  ['another process', () => another],
])('an answer to what was asked before %s found the server out of reach says that it is not', async (_whose, store) => {
  const health = view();
  await health.ask(A, async () => {
    await fails(view(store()), silence);
    expect(await isLeftAlone()).toBe(true);
  });
  expect(await isLeftAlone()).toBe(false);
});

test('whoever has had answers for a while says, too, that a server is not out of reach', async () => {
  const health = view();
  await health.ask(A, answered);
  await fails(view(), silence);
  await health.ask(A, answered);
  expect(await isLeftAlone()).toBe(false);
});

test('whoever goes on having answers lifts what another process has found since, in a moment', async () => {
  const here = view();
  await here.ask(A, answered);
  await fails(view(another), silence);
  expect(await isLeftAlone()).toBe(true);
  now += 5_000;
  await here.ask(A, answered);
  expect(await isLeftAlone()).toBe(false);
});

test('a server that wants to be left alone still is, though it answers what it was asked before', async () => {
  const refusal = new FederationError(A, 'rate-limited', 'slow down', { status: 429, retryAfterMs: 60_000 });
  const health = view();
  await health.ask(A, async () => {
    await fails(view(), refusal);
    await fails(health, refusal);
  });
  expect(await isLeftAlone()).toBe(true);
  expect((await health.resting([A])).has(A)).toBe(true);
});

test('however much a server answers, a view costs two statements', async () => {
  const health = view();
  const statements = await statementsOf(async () => {
    await Promise.all([1, 2, 3, 4].map(() => health.ask(A, answered)));
    for (let i = 0; i < 10; i += 1) await health.ask(A, answered);
  });
  expect(statements).toHaveLength(2);
});

test('whether a server that was out of reach is back is found out by one request, of all views and processes', async () => {
  await fails(view(), silence);
  now += 20_000;
  const health = view();
  await health.ask(A, async () => {
    for (const store of [ours, another]) {
      const asked = view(store).ask(A, answered);
      await expect(asked).rejects.toMatchObject({ kind: 'timeout', retryAfterMs: 30_000 });
      expect((await view(store).resting([A])).get(A)).toBe(now + 30_000);
    }
    // The same work may ask on: it is the one that finds out.
    await expect(health.ask(A, answered)).resolves.toBe('answer');
    return 'answer';
  });
  await expect(view(another).ask(A, answered)).resolves.toBe('answer');
});

test('a probe that came to nothing, since its process was killed, keeps others away for half a minute', async () => {
  await fails(view(), silence);
  now += 20_000;
  void view().ask(A, () => new Promise(() => undefined));
  await expect.poll(async () => (await view(another).resting([A])).has(A)).toBe(true);
  now += 30_000;
  await expect(view(another).ask(A, answered)).resolves.toBe('answer');
});

test('a server that is out of reach again begins with the first pause', async () => {
  for (const pauseMs of [20_000, 40_000]) {
    await fails(view(), silence);
    now += pauseMs;
  }
  await view().ask(A, answered);
  await fails(view(), silence);
  expect((await view().resting([A])).get(A)).toBe(now + 20_000);
});
