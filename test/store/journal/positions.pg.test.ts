import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { type EventId, type RoomId, type UserId } from '../../../src/matrix/identifiers.ts';
import { append, readHead, readJournal } from '../../../src/store/journal/journal.ts';
import { takePositions } from '../../../src/store/journal/positions.ts';
import { insertPdus } from '../../../src/store/events/pdus.ts';
import { createRoom, lockRoom, openEpoch } from '../../../src/store/journal/rooms.ts';
import { type Notification, type Notifier, createNotifier } from '../../../src/store/notify.ts';
import { type Store, type Transaction, withTransaction } from '../../../src/store/open-store.ts';
import { createSnapshot } from '../../../src/store/snapshots/snapshots.ts';
import { type TestDatabase, createTestDatabase } from '../../support/postgres.ts';
import { statementsOf } from '../../support/statements.ts';
import { member, message } from '../events.ts';

let database: TestDatabase;
let store: Store;
let notifier: Notifier;
const alice = '@alice:ours.test' as UserId;
const bob = '@bob:ours.test' as UserId;
beforeAll(async () => {
  database = await createTestDatabase();
  store = database.openStore();
  await store.query('CREATE TABLE notes (text text PRIMARY KEY, position bigint NOT NULL)');
});
afterAll(() => database.drop());
let heard: Notification[];
beforeEach(async () => {
  notifier = createNotifier(store);
  heard = [];
  await new Promise<void>((resolve) => {
    notifier.subscribe((notification) => {
      if (notification === null) resolve();
      else heard.push(notification);
    });
  });
});
afterEach(() => notifier.close());

function note(texts: readonly string[], topics: readonly UserId[], onTaken?: (base: number) => void): Promise<void> {
  return withTransaction(store, (tx) => {
    noteIn(tx, texts, topics, onTaken);
    return Promise.resolve();
  });
}

function noteIn(
  tx: Transaction,
  texts: readonly string[],
  topics: readonly UserId[],
  onTaken?: (base: number) => void,
): void {
  takePositions(tx, {
    name: 'test_notes',
    text: `INSERT INTO notes SELECT n.text, head.base + n.ordinal FROM head, unnest($3::text[]) WITH ORDINALITY AS n(text, ordinal)`,
    values: [`{${texts.join(',')}}`],
    count: texts.length,
    topics,
    ...(onTaken === undefined ? {} : { onTaken }),
  });
}

const notes = () =>
  store.query<{ text: string; position: number }>('SELECT text, position FROM notes ORDER BY position');

async function appendTo(roomId: RoomId): Promise<void> {
  await withTransaction(store, async (tx) => {
    const room = (await lockRoom(tx, roomId)) ?? (await createRoom(tx, roomId, '11'));
    await append(tx, room, [{ type: 'ResyncCompleted', members: 0, at: 0 }]);
  });
}

test('rows of a plain table have their positions between those of the journal, in the order of commits', async () => {
  const roomId = '!positions:there.test' as RoomId;
  const before = await readHead(store);
  const taken: number[] = [];
  await appendTo(roomId);
  await note(['one', 'two'], [], (base) => taken.push(base));
  await appendTo(roomId);
  expect(taken).toEqual([before + 1]);
  expect(await notes()).toEqual([
    { text: 'one', position: before + 2 },
    { text: 'two', position: before + 3 },
  ]);
  const entries = await readJournal(store, { roomId, sincePosition: before, limit: 10 });
  expect(entries.map(({ position }) => position)).toEqual([before + 1, before + 4]);
  expect(await readHead(store)).toBe(before + 4);
});

test('the head is held for no round trip: the write takes COMMIT with it', async () => {
  const statements = await statementsOf(() => note(['quick'], []));
  expect(statements).toHaveLength(2);
  expect(statements.at(-1)).toContain('UPDATE journal_head');
});

test('who waits for a user is woken by what is written about that user, and no other', async () => {
  const looks: string[] = [];
  const cut = new AbortController();
  const options = { signal: cut.signal, timeoutMs: 600_000, pollMs: 600_000 };
  const has = (text: string) => async () => {
    looks.push(text);
    return (await notes()).find((row) => row.text === text)?.position;
  };
  const room = '!elsewhere:there.test' as RoomId;
  const waits = notifier.waitForAny([room, alice], has('for alice'), options);
  const other = notifier.waitForAny([bob], has('for bob'), options).catch((error: unknown) => error);
  const anyRoom = notifier.waitFor(null, has('for any room'), options).catch((error: unknown) => error);
  await expect.poll(() => new Set(looks).size).toBe(3);
  looks.length = 0;
  await note(['for alice'], [alice]);
  expect(await waits).toBe(await readHead(store));
  expect(looks).toEqual(['for alice']);
  expect(heard.at(-1)).toEqual({ topic: alice, position: await readHead(store) });
  expect(notifier.waiting).toBe(2);
  cut.abort(new Error('enough'));
  expect([await other, await anyRoom]).toEqual([new Error('enough'), new Error('enough')]);
  expect(notifier.waiting).toBe(0);
});

test('who waits for several things is woken by each of them', async () => {
  const options = { signal: new AbortController().signal, timeoutMs: 600_000, pollMs: 600_000 };
  const rooms = ['!one:there.test', '!two:there.test'] as RoomId[];
  for (const roomId of rooms) {
    const before = await readHead(store);
    const look = async (): Promise<number | undefined> => {
      const head = await readHead(store);
      return head > before ? head : undefined;
    };
    const woken = notifier.waitForAny([alice, ...rooms], look, options);
    await appendTo(roomId);
    expect(await woken).toBe(before + 1);
  }
  expect(notifier.waiting).toBe(0);
});

test('an append tells the users of this server whose membership it changes, and not those who only speak', async () => {
  const roomId = '!members:there.test' as RoomId;
  const [join, said] = ['$joined', '$said'] as EventId[];
  await insertPdus(store, [
    member(join!, '@me:here.test', 'join', { roomId }),
    message(said!, { roomId, sender: '@me:here.test' }),
  ]);
  const joined = await createSnapshot(store, roomId, [join!]);
  const topics = () => heard.map(({ topic }) => topic);
  const accept = (eventId: EventId) =>
    withTransaction(store, async (tx) => {
      const room = (await lockRoom(tx, roomId)) ?? (await openEpoch(tx, await createRoom(tx, roomId, '11')));
      const states = { stateBefore: joined, stateAfter: joined, currentState: joined };
      await append(tx, room, [{ type: 'PduAccepted', eventId, partial: false, softFailed: false, ...states }]);
    });
  await accept(join!);
  await expect.poll(topics).toEqual([roomId, '@me:here.test']);
  await accept(said!);
  await expect.poll(topics).toEqual([roomId, '@me:here.test', roomId]);
});

test('what rolls back takes no position and tells nobody', async () => {
  const before = await readHead(store);
  await expect(
    withTransaction(store, async (tx) => {
      noteIn(tx, ['never'], [alice]);
      await tx.query('SELECT 1');
      throw new Error('no');
    }),
  ).rejects.toThrow('no');
  expect(await readHead(store)).toBe(before);
  expect((await notes()).map(({ text }) => text)).not.toContain('never');
});
