import { expect, test } from 'vitest';
import { type EventId } from '../../../src/matrix/identifiers.ts';
import { openTestStore, openTestThreads } from '../../support/postgres.ts';
import { statementsOf } from '../../support/statements.ts';
import { A, ALICE, openPushedRoom } from './pushed-room.ts';

const { store } = await openTestStore();
const verification = openTestThreads();

/** What the test itself asks while it waits, and what is looked for each second whether or not anything came. */
const BY_THE_CLOCK = [/SET looked_at/, /FROM staged_rooms f(?!.*AND room_id = \$4)/s];
const OF_THE_TEST = /^SELECT event_id AS "eventId", reason, dropped_at/;

async function statementsFor(work: () => Promise<unknown>): Promise<string[]> {
  const all = await statementsOf(work);
  return all.filter((text) => ![...BY_THE_CLOCK, OF_THE_TEST].some((other) => other.test(text)));
}

test.each([
  ['a whole', false],
  ['a partial', true],
])(
  'a message pushed into %s room takes at most 25 statements alone, all in all, and fifty take 100',
  async (_room, omitMembers) => {
    const here = openPushedRoom(store, verification);
    const { room } = here;
    await here.join(omitMembers);
    const push = async (...eventIds: readonly EventId[]): Promise<void> => {
      await here.push(A, eventIds);
      expect(await here.settled(...eventIds)).toEqual(eventIds.map(() => null));
    };
    // Once for what is remembered: the ACL's verdict, and who may say what.
    await push(room.message(ALICE, 'first'));
    const alone = room.message(ALICE, 'alone');
    expect((await statementsFor(() => push(alone))).length).toBeLessThanOrEqual(25);
    const fifty = Array.from({ length: 50 }, (_, i) => room.message(ALICE, `message ${i}`));
    expect((await statementsFor(() => push(...fifty))).length).toBeLessThanOrEqual(100);
  },
);
