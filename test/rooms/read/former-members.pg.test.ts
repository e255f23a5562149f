import { expect, onTestFinished, test, vi } from 'vitest';
import { systemClock } from '../../../src/clock.ts';
import { type UserId } from '../../../src/matrix/identifiers.ts';
import { clientReads } from '../../../src/rooms/read/for-clients.ts';
import { createNotifier } from '../../../src/store/notify.ts';
import { createTestDatabase } from '../../support/postgres.ts';
import { statementsOf } from '../../support/statements.ts';
import { ME, PartialRoom, member } from '../resync/partial-room.ts';

const FORMER = 40;
const BEFORE = ['create', 'admin', 'power', 'rules'];

test('former members, each of whom left at another event, share their looks while they wait and when they look back', async () => {
  const database = await createTestDatabase();
  onTestFinished(() => database.drop());
  const store = database.openStore();
  const room = new PartialRoom(store);
  await room.join();
  const users = Array.from({ length: FORMER }, (_, i) => `@former${i}:here.test` as UserId);
  let last = 'join';
  for (const [i, user] of users.entries()) {
    await room.push(
      member(`in${i}`, user, 'join', { prev: [last], auth: ['create', 'power', 'rules'] }),
      member(`out${i}`, user, 'leave', { prev: [`in${i}`], auth: ['create', 'power', `in${i}`] }),
    );
    last = `out${i}`;
  }
  const notifier = createNotifier(store);
  onTestFinished(() => notifier.close());
  const reads = clientReads({ store, notifier, clock: systemClock });
  const queries = users.map((userId) => ({
    ...{ roomId: room.roomId, userId, waitMs: 60_000, signal: new AbortController().signal },
  }));

  const waits = queries.map((query) => reads.members({ ...query, membership: null, notMembership: null, at: null }));
  await vi.waitFor(() => expect(notifier.waiting).toBe(FORMER), { timeout: 20_000, interval: 5 });
  await room.fetch(...BEFORE);
  // Walking has statements of its own, whoever waits: what is counted are the two forms in which events and users are looked up.
  const whileWaiting = await statementsOf(async () => {
    await room.walk();
    const answers = await Promise.all(waits);
    expect(answers.every(({ ready }) => ready)).toBe(true);
  });
  for (const form of ['WITH ORDINALITY', 'e.event_id = ANY ($2::text[])']) {
    expect(whileWaiting.filter((text) => text.includes(form)).length, form).toBeLessThan(FORMER / 2);
  }

  const places = [
    { type: 'm.room.create', stateKey: '' },
    { type: 'm.room.member', stateKey: ME },
    { type: 'm.room.member', stateKey: '@admin:there.test' },
  ];
  for (const place of places) {
    const statements = await statementsOf(async () => {
      const answers = await Promise.all(queries.map((query) => reads.stateEvent(query, place)));
      expect(answers.every(({ ready }) => ready)).toBe(true);
    });
    expect(statements.length, statements.join('\n')).toBeLessThan(FORMER);
  }
  const statements = await statementsOf(async () => {
    const answers = await Promise.all(queries.map((query, i) => reads.event(query, room.id(`out${i}`))));
    expect(answers.every(({ ready }) => ready)).toBe(true);
  });
  expect(statements.length, statements.join('\n')).toBeLessThan(FORMER);
});
