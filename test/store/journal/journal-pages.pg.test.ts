import { afterAll, beforeAll, expect, test } from 'vitest';
import { type RoomId } from '../../../src/matrix/identifiers.ts';
import { type EntryType } from '../../../src/resync/entries.ts';
import { append, readHead } from '../../../src/store/journal/journal.ts';
import { readJournalPage } from '../../../src/store/journal/journal-pages.ts';
import { createRoom, lockRoom } from '../../../src/store/journal/rooms.ts';
import { type Store, withTransaction } from '../../../src/store/open-store.ts';
import { type TestDatabase, createTestDatabase } from '../../support/postgres.ts';

let database: TestDatabase;
let store: Store;
const at = 1_700_000_000_000;
const one = '!one:there.test' as RoomId;
const other = '!other:there.test' as RoomId;

beforeAll(async () => {
  database = await createTestDatabase();
  store = database.openStore();
  for (const roomId of [one, other]) await withTransaction(store, (tx) => createRoom(tx, roomId, '11'));
});
afterAll(() => database.drop());

async function appendTo(roomId: RoomId, ...types: ('ResyncCompleted' | 'EventsWalked')[]): Promise<void> {
  await withTransaction(store, async (tx) => {
    const room = (await lockRoom(tx, roomId))!;
    await append(
      tx,
      room,
      types.map((type) =>
        type === 'ResyncCompleted' ? { type, members: 1, at } : { type, walked: 1, corrected: 0, remaining: 0, at },
      ),
    );
  });
}

test('pages follow each other without a gap or a repetition, each saying where the next begins', async () => {
  const before = await readHead(store);
  await appendTo(one, ...Array.from({ length: 7 }, () => 'EventsWalked' as const));
  const seen: number[] = [];
  let after = before;
  do {
    const page = await readJournalPage(store, { after, limit: 3 });
    seen.push(...page.entries.map(({ position }) => position));
    expect(page.head).toBe(before + 7);
    after = page.next;
  } while (after < before + 7);
  expect(seen).toEqual(Array.from({ length: 7 }, (_, i) => before + 1 + i));
  expect(await readJournalPage(store, { after, limit: 3 })).toEqual({ entries: [], next: after, head: after });
});

test('an entry comes with its room, its stay and when it was written', async () => {
  const before = await readHead(store);
  await appendTo(one, 'ResyncCompleted');
  const { entries } = await readJournalPage(store, { after: before, limit: 1 });
  expect(entries).toEqual([
    {
      position: before + 1,
      roomId: one,
      epoch: 0,
      stream: 'resync',
      seq: expect.any(Number),
      event: { type: 'ResyncCompleted', members: 1, at },
      recordedAt: expect.any(Number),
    },
  ]);
});

test('a page of one room or of some types goes on behind what it leaves out', async () => {
  const before = await readHead(store);
  await appendTo(one, 'EventsWalked', 'ResyncCompleted');
  await appendTo(other, 'EventsWalked', 'ResyncCompleted', 'EventsWalked');
  const types = new Set<EntryType>(['ResyncCompleted']);
  const read = async (query: object, limit = 10) => {
    const { entries, next } = await readJournalPage(store, { after: before, limit, ...query });
    return [entries.map(({ position }) => position - before), next - before];
  };
  expect(await read({ roomId: one })).toEqual([[1, 2], 5]);
  expect(await read({ roomId: one }, 1)).toEqual([[1], 1]);
  expect(await read({ types })).toEqual([[2, 4], 5]);
  expect(await read({ types }, 1)).toEqual([[2], 2]);
  expect(await read({ types, roomId: other })).toEqual([[4], 5]);
  expect(await read({ types, after: before + 4 })).toEqual([[], 5]);
});

test('looking for a rare type costs a bounded page, which may be empty, and the next one goes on', async () => {
  const before = await readHead(store);
  await appendTo(one, ...Array.from({ length: 5_000 }, () => 'EventsWalked' as const), 'ResyncCompleted');
  const query = { limit: 10, types: new Set<EntryType>(['ResyncCompleted']) };
  const first = await readJournalPage(store, { ...query, after: before });
  expect(first).toEqual({ entries: [], next: before + 5_000, head: before + 5_001 });
  const second = await readJournalPage(store, { ...query, after: first.next });
  expect(second.entries.map(({ position }) => position)).toEqual([before + 5_001]);
});
