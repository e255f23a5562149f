import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Store } from '../../src/store/open-store.ts';
import { heldEventIds, insertPdus, readPdus } from '../../src/store/pdus.ts';
import { type TestDatabase, createTestDatabase } from '../support/postgres.ts';
import { message } from './events.ts';

let database: TestDatabase;
let store: Store;
beforeAll(async () => {
  database = await createTestDatabase();
  store = database.openStore();
});
afterAll(() => database.drop());

test('an event that is stored again changes nothing', async () => {
  const events = [message('$again'), message('$once-more')];
  expect(await insertPdus(store, events)).toEqual({ stored: 2, alreadyHeld: 0 });
  expect(await insertPdus(store, [...events, message('$third')])).toEqual({ stored: 1, alreadyHeld: 2 });
  expect(await heldEventIds(store, ['$again', '$third', '$fourth'] as never)).toEqual(new Set(['$again', '$third']));
  expect(await readPdus(store, ['$again'] as never)).toHaveLength(1);
});
