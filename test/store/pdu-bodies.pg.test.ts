import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { type Store } from '../../src/store/open-store.ts';
import { streamPduBodies } from '../../src/store/pdu-bodies.ts';
import { insertPdus } from '../../src/store/pdus.ts';
import { type TestDatabase, createTestDatabase } from '../support/postgres.ts';
import { ids, message } from './events.ts';

let database: TestDatabase;
let store: Store;
beforeAll(async () => {
  database = await createTestDatabase();
  store = database.openStore();
});
afterAll(() => database.drop());

test('bodies come byte for byte, a page at a time in the order asked for, without those that are not stored', async () => {
  const json = (name: string): string => String.raw`{"body":"\u0000 ${name}","n":1e3}`;
  const names = ['$a', '$b', '$c', '$d', '$e'];
  await insertPdus(
    store,
    names.map((name) => message(name, { json: json(name) })),
  );
  const pages: unknown[] = [];
  for await (const page of streamPduBodies(store, ids('$e', '$b', '$not-stored', '$a', '$d'), 2))
    pages.push(page.map(({ eventId, json: body }) => [eventId, body]).sort());
  const body = (name: string): [string, string] => [name, json(name)];
  expect(pages).toEqual([[body('$b'), body('$e')], [body('$a')], [body('$d')]]);
  expect((await streamPduBodies(store, [], 2).next()).done).toBe(true);
});

test('a reader who leaves early is not followed by the failure of the page that was being read', async () => {
  const unhandled = vi.fn();
  process.on('unhandledRejection', unhandled);
  const failing = vi.spyOn(store, 'query').mockResolvedValueOnce([]).mockRejectedValueOnce(new Error('gone'));
  for await (const page of streamPduBodies(store, ids('$a', '$b'), 1)) {
    expect(page).toEqual([]);
    break;
  }
  await new Promise((resolve) => setImmediate(resolve));
  expect(failing).toHaveBeenCalledTimes(2);
  expect(unhandled).not.toHaveBeenCalled();
  process.off('unhandledRejection', unhandled);
  failing.mockRestore();
});
