import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { systemClock } from '../../../src/clock.ts';
import { type RoomId } from '../../../src/matrix/identifiers.ts';
import { type EntryType } from '../../../src/resync/entries.ts';
import { type JournalPart, type JournalQuery, type JournalReads } from '../../../src/rooms/contract.ts';
import { type JournalReadsOptions, journalReads } from '../../../src/rooms/read/follow-journal.ts';
import { append, readHead } from '../../../src/store/journal/journal.ts';
import { createRoom, lockRoom } from '../../../src/store/journal/rooms.ts';
import { type Notifier, createNotifier } from '../../../src/store/notify.ts';
import { type Store, withTransaction } from '../../../src/store/open-store.ts';
import { silent } from '../../federation/tls-server.ts';
import { type TestDatabase, createTestDatabase } from '../../support/postgres.ts';
import { statementsOf } from '../../support/statements.ts';

let database: TestDatabase;
let store: Store;
let notifier: Notifier;
let leaving: AbortController;
const at = 1_700_000_000_000;
const one = '!one:there.test' as RoomId;
const other = '!other:there.test' as RoomId;

beforeAll(async () => {
  database = await createTestDatabase();
  store = database.openStore();
  for (const roomId of [one, other]) await withTransaction(store, (tx) => createRoom(tx, roomId, '11'));
});
afterAll(() => database.drop());
beforeEach(() => {
  notifier = createNotifier(store);
  leaving = new AbortController();
});
afterEach(async () => {
  leaving.abort(new Error('the test is over'));
  await notifier.close();
});

const NEVER_MS = 600_000;
const reads = (options: JournalReadsOptions = {}): JournalReads =>
  journalReads({ store, notifier, clock: systemClock, logger: silent }, { heartbeatMs: NEVER_MS, ...options });

async function appendTo(roomId: RoomId, count = 1, type: 'EventsWalked' | 'StayEnded' = 'EventsWalked'): Promise<void> {
  const event =
    type === 'EventsWalked'
      ? { type, walked: 1, corrected: 0, remaining: 0, at }
      : { type, because: 'join-rejected' as const, at };
  await withTransaction(store, async (tx) => {
    await append(
      tx,
      (await lockRoom(tx, roomId))!,
      Array.from({ length: count }, () => event),
    );
  });
}

const positionsOf = ({ entries }: JournalPart): number[] => entries.map(({ position }) => position);

/** Follows until it has been told of `count` entries; gives their positions. */
async function told(journal: JournalReads, query: JournalQuery, count: number): Promise<number[]> {
  const going = new AbortController();
  const { parts } = await journal.follow(query, AbortSignal.any([going.signal, leaving.signal]));
  const positions: number[] = [];
  for await (const part of parts) {
    positions.push(...positionsOf(part));
    if (positions.length >= count) break;
  }
  return positions;
}

const numbers = (first: number, count: number): number[] => Array.from({ length: count }, (_, i) => first + i);

test('a reader is told of everything once and in order, whatever is appended while he catches up', async () => {
  const journal = reads();
  const before = await readHead(store);
  await appendTo(one, 250);
  const reading = told(journal, { after: before }, 350);
  for (let i = 0; i < 50; i += 1) await appendTo(i % 2 === 0 ? one : other, 2);
  expect(await reading).toEqual(numbers(before + 1, 350));
});

test('a reader goes on at any position, old or new, as if he had never been away', async () => {
  const journal = reads();
  const before = await readHead(store);
  await appendTo(one, 120);
  for (const after of [before, before + 1, before + 99, before + 119]) {
    expect(await told(journal, { after }, before + 120 - after)).toEqual(numbers(after + 1, before + 120 - after));
  }
  const { parts } = await journal.follow({ after: 'now' }, leaving.signal);
  await appendTo(one);
  const iterator = parts[Symbol.asyncIterator]();
  expect((await iterator.next()).value).toEqual({ entries: [], next: before + 120 });
  expect(positionsOf((await iterator.next()).value as JournalPart)).toEqual([before + 121]);
});

test('a reader who takes nothing for long while much is appended has missed nothing when he goes on', async () => {
  const journal = reads();
  const before = await readHead(store);
  const slow = (await journal.follow({ after: before }, leaving.signal)).parts[Symbol.asyncIterator]();
  await appendTo(one);
  await slow.next();
  const positions = positionsOf((await slow.next()).value as JournalPart);
  const quick = told(journal, { after: before }, 1_801);
  for (let i = 0; i < 6; i += 1) await appendTo(one, 300);
  await quick;
  while (positions.length < 1_801) positions.push(...positionsOf((await slow.next()).value as JournalPart));
  expect(positions).toEqual(numbers(before + 1, 1_801));
});

test('a position that no entry has is passed over, and nothing is heard twice for it', async () => {
  const journal = reads();
  const before = await readHead(store);
  const { parts } = await journal.follow({ after: before }, leaving.signal);
  const reader = parts[Symbol.asyncIterator]();
  const heard: number[] = [];
  const hear = async (count: number): Promise<void> => {
    while (heard.length < count) heard.push(...positionsOf((await reader.next()).value as JournalPart));
  };
  // He is at the newest one, so the next ones come from memory.
  await appendTo(one);
  await hear(1);
  await appendTo(one, 30);
  await hear(31);
  await store.query('UPDATE journal_head SET position = position + 10');
  await appendTo(one, 2);
  await hear(33);
  const expected = [...numbers(before + 1, 31), before + 42, before + 43];
  expect(heard).toEqual(expected);
  // Another begins between two entries, while the newest are in memory and where they are not.
  expect(await told(journal, { after: before + 35 }, 2)).toEqual(expected.slice(-2));
  expect(await told(reads(), { after: before + 35 }, 2)).toEqual(expected.slice(-2));
});

test('a hundred readers cost one connection that listens, and share their looks at the journal', async () => {
  const journal = reads();
  const before = await readHead(store);
  const readers = await Promise.all(
    numbers(0, 100).map(async () => {
      const { parts } = await journal.follow({ after: before }, AbortSignal.any([leaving.signal]));
      const iterator = parts[Symbol.asyncIterator]();
      let last = before;
      return async (until: number) => {
        while (last < until) last = ((await iterator.next()).value as JournalPart).next;
      };
    }),
  );
  const all = (until: number) => Promise.all(readers.map((read) => read(until)));
  await Promise.all([all(before + 1), appendTo(one)]);
  await Promise.all([all(before + 2), appendTo(one)]);
  const statements = await statementsOf(async () => {
    for (let i = 1; i <= 20; i += 1) await Promise.all([all(before + 2 + i), appendTo(one)]);
  });
  const looks = statements.filter((text) => text.includes('FROM journal_head h LEFT JOIN'));
  // One after each append, and one more that finds nothing.
  expect(looks.length).toBeLessThanOrEqual(40);
  const listening = await store.query(
    `SELECT FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'`,
  );
  expect(listening).toHaveLength(1);
});

test('readers miss nothing and hear nothing twice while the connection that listens is cut again and again', async () => {
  const journal = reads();
  const before = await readHead(store);
  const count = 60;
  const reading = Array.from({ length: 5 }, () => told(journal, { after: before }, count));
  const cut = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'`;
  for (let i = 0; i < count; i += 1) {
    // Before an append, after it, and while one is under way.
    if (i % 3 === 0) await store.query(cut);
    const appending = appendTo(i % 2 === 0 ? one : other);
    if (i % 3 === 1) await store.query(cut);
    await appending;
    if (i % 3 === 2) await store.query(cut);
  }
  for (const positions of await Promise.all(reading)) expect(positions).toEqual(numbers(before + 1, count));
});

test('pages of any length, begun anywhere, make the whole once, whatever is appended in between', async () => {
  const journal = reads();
  const before = await readHead(store);
  await appendTo(one, 40);
  for (const [limit, start] of [
    [1, 0],
    [7, 3],
    [40, 11],
    [1_000, 39],
  ] as const) {
    const positions: number[] = [];
    for (let after = before + start; ;) {
      if (positions.length % 10 === 4) await appendTo(other);
      const page = await journal.page({ after, limit });
      positions.push(...page.entries.map(({ position }) => position));
      after = page.next;
      if (page.next === page.head) break;
    }
    expect(positions).toEqual(numbers(before + start + 1, (await readHead(store)) - before - start));
  }
});

test('readers who go away leave nothing, whether or not they ever read', async () => {
  const journal = reads({ followersMax: 2 });
  const gone = new AbortController();
  const { parts } = await journal.follow({ after: 'now' }, gone.signal);
  await journal.follow({ after: 'now' }, gone.signal);
  await expect(journal.follow({ after: 'now' }, leaving.signal)).rejects.toMatchObject({
    kind: 'too-many',
    retryAfterMs: expect.any(Number),
  });
  const iterator = parts[Symbol.asyncIterator]();
  await iterator.next();
  const pending = iterator.next();
  await notifier.waitFor(null, () => Promise.resolve(notifier.waiting > 1 ? true : undefined), {
    signal: leaving.signal,
    timeoutMs: NEVER_MS,
    pollMs: 10,
  });
  gone.abort(new Error('the caller went away'));
  expect(await pending).toEqual({ done: true, value: undefined });
  expect(notifier.waiting).toBe(0);
  await journal.follow({ after: 'now' }, leaving.signal);
  await journal.follow({ after: 'now' }, leaving.signal);
});

test('only what is wanted is told, and a heartbeat says how far the rest was passed over', async () => {
  const journal = reads({ heartbeatMs: 20 });
  const before = await readHead(store);
  const types = new Set<EntryType>(['StayEnded']);
  const parts = (await journal.follow({ after: 'now', roomId: one, types }, leaving.signal)).parts;
  const iterator = parts[Symbol.asyncIterator]();
  expect((await iterator.next()).value).toEqual({ entries: [], next: before });
  await appendTo(one, 2);
  await appendTo(other, 1, 'StayEnded');
  for (let next = before; next < before + 3;) {
    const part = (await iterator.next()).value as JournalPart;
    expect(part.entries).toEqual([]);
    ({ next } = part);
  }
  await appendTo(one, 1, 'StayEnded');
  for (;;) {
    const part = (await iterator.next()).value as JournalPart;
    if (part.entries.length === 0) continue;
    expect(positionsOf(part)).toEqual([before + 4]);
    break;
  }
});

test('a position beyond the newest one is refused, for pages and for readers', async () => {
  const journal = reads({ followersMax: 1 });
  const head = await readHead(store);
  const refused = { kind: 'invalid', message: `from: position ${head + 1} is beyond the newest one, ${head}` };
  await expect(journal.page({ after: head + 1, limit: 1 })).rejects.toMatchObject(refused);
  await expect(journal.follow({ after: head + 1 }, leaving.signal)).rejects.toMatchObject(refused);
  expect(await journal.page({ after: 'now', limit: 1 })).toEqual({ entries: [], next: head, head });
  await journal.follow({ after: head }, leaving.signal);
});
