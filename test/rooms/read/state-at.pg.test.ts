import { afterAll, beforeAll, expect, test } from 'vitest';
import { type NotReady, type Ready, type RoomReads, type StateEvent } from '../../../src/rooms/contract.ts';
import { operatorReads } from '../../../src/rooms/read/for-operators.ts';
import { type Notifier, createNotifier } from '../../../src/store/notify.ts';
import { type Store } from '../../../src/store/open-store.ts';
import { type TestDatabase, createTestDatabase } from '../../support/postgres.ts';
import { ADMIN, PartialRoom, message } from '../resync/partial-room.ts';

let database: TestDatabase;
let store: Store;
let notifier: Notifier;
beforeAll(async () => {
  database = await createTestDatabase();
  store = database.openStore();
  notifier = createNotifier(store);
});
afterAll(async () => {
  await notifier.close();
  await database.drop();
});

const { signal } = new AbortController();
const KNOWN = ['create', 'admin', 'power', 'rules'];
const ADMINS = { auth: ['create', 'power', 'admin'] };

async function joined(): Promise<{ room: PartialRoom; reads: RoomReads }> {
  const room = new PartialRoom(store);
  await room.join();
  return { room, reads: operatorReads({ ...room.context, notifier }) };
}

async function idsOf(answer: Ready<StateEvent> | NotReady): Promise<string[]> {
  if (!answer.ready) throw new Error(answer.reason);
  const ids: string[] = [];
  for await (const page of answer.pages) ids.push(...page.map(({ eventId }) => eventId));
  return ids.sort();
}

test('who waits for the state at one event is answered when that event is full, while others of the room are partial', async () => {
  const { room, reads } = await joined();
  await room.push(message('early', ADMIN, { prev: ['join'], ...ADMINS }));
  await room.fetch(...KNOWN);
  const waiting = reads.state(room.roomId, { at: room.id('early'), members: true, waitMs: 60_000, signal });
  let looks = 0;
  let lateAnswered = false;
  const query: Store['query'] = async (statement, values) => {
    const rows = await store.query(statement, values);
    if (statement.includes('RECURSIVE wanted')) {
      looks += 1;
      if (looks === 1) await room.push(message('late', ADMIN, { prev: ['early'], ...ADMINS }));
      if (looks === 2) {
        const late = reads.state(room.roomId, { at: room.id('late'), members: true, waitMs: 60_000, signal });
        void late.then(() => (lateAnswered = true));
        // The walk goes no further before this waiter has its answer.
        expect(await idsOf(await waiting)).toEqual([...KNOWN, 'join'].map((name) => room.id(name)).sort());
        expect(await room.event('late')).toMatchObject({ partial: true });
        expect(lateAnswered).toBe(false);
      }
    }
    return rows as never;
  };
  await room.walk({ ...store, query });
  expect(looks).toBeGreaterThanOrEqual(2);
  const late = await reads.state(room.roomId, { at: room.id('late'), members: true, waitMs: 60_000, signal });
  expect(await idsOf(late)).toHaveLength(KNOWN.length + 1);
});

test('without memberships the state at an event is told at once, and who does not wait hears how far the room is', async () => {
  const { room, reads } = await joined();
  const at = room.id('join');
  const known = await reads.state(room.roomId, { at, members: false, waitMs: 0, signal });
  expect(await idsOf(known)).toEqual(['create', 'power', 'rules'].map((name) => room.id(name)).sort());
  expect(await reads.state(room.roomId, { at, members: true, waitMs: 0, signal })).toMatchObject({ ready: false });
});

test('the state at an event that is not in the timeline is asked for in vain, in a partial room as in a whole one', async () => {
  const { room, reads } = await joined();
  const wanted = { at: room.id('nowhere'), members: true, waitMs: 60_000, signal };
  await expect(reads.state(room.roomId, wanted)).rejects.toMatchObject({ kind: 'unknown-room' });
});
