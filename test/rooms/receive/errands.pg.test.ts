/** What many servers make up, and what another's events lack meanwhile. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type EventId, type ServerName, type UserId, domainOf } from '../../../src/matrix/identifiers.ts';
import { type Store } from '../../../src/store/open-store.ts';
import { type VerificationPool, createVerificationPool } from '../../../src/verification/pool.ts';
import { type TestDatabase, createTestDatabase } from '../../support/postgres.ts';
import { ALICE, B, BOB, SignedRoom, openPushedRoom } from './pushed-room.ts';

let database: TestDatabase;
let store: Store;
let verification: VerificationPool;
beforeAll(async () => {
  database = await createTestDatabase();
  store = database.openStore();
  verification = createVerificationPool({ threads: 1 });
});
afterAll(async () => {
  await verification.close();
  await database.drop();
});

test('members on ten servers that make up parents and answer nothing keep what another lacks from nobody', async () => {
  const room = new SignedRoom();
  const users = Array.from({ length: 10 }, (_, i) => `@user:silent-${i}.test` as UserId);
  for (const user of users) room.join(user);
  const here = openPushedRoom(store, verification, { room });
  await here.join(false);
  const silent = new Set<ServerName>(users.map((user) => domainOf(user)));
  const given = here.answers.getMissingEvents;
  here.answers.getMissingEvents = (server, roomId, query, options) => {
    if (!silent.has(server)) return given(server, roomId, query, options);
    return new Promise((_, reject) => {
      options.signal.addEventListener('abort', () => reject(new Error('nobody answers')));
    });
  };
  const base = room.last;
  const madeUp = (name: string): EventId => `$${name.padEnd(43, '_')}` as EventId;
  for (const [i, user] of users.entries()) {
    const events = Array.from({ length: 10 }, (_, k) => room.message(user, 'm', [madeUp(`made-up-${i}-${k}`)]));
    await here.push(domainOf(user), events);
  }
  const isBusy = () => here.asked.filter((what) => what.startsWith('getMissingEvents silent')).length >= 8;
  await expect.poll(isBusy, { timeout: 10_000 }).toBe(true);
  const lost = room.message(ALICE, 'lost on the way', [base]);
  const after = room.message(BOB, 'after it', [lost]);
  await here.push(B, [after]);
  expect((await here.taken(lost, after)).map(({ verdict }) => verdict)).toEqual(['accepted', 'accepted']);
});
