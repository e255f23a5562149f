import { expect, test } from 'vitest';
import { type EventId } from '../../../src/matrix/identifiers.ts';
import { type RoomVersionRules, roomVersionRules } from '../../../src/matrix/room-versions.ts';
import { restAt } from '../../../src/rooms/receive/take-turn.ts';
import { Waits } from '../../../src/rooms/receive/waits.ts';
import { type MissingParent } from '../../../src/store/tables/staged-reads.ts';

const [EVENT, PARENT] = ['$event:there.test', '$parent:there.test'] as EventId[] as [EventId, EventId];

function waitOf(version: string, about: Partial<MissingParent>) {
  const nothing = {
    isParent: false,
    gap: null,
    gapReason: null,
    isElsewhere: false,
    isComing: false,
    isTriedInVain: false,
    gaps: [],
  };
  const rules = roomVersionRules(version) as RoomVersionRules;
  const known = new Map([[PARENT, { eventId: PARENT, ...nothing, ...about }]]);
  return new Waits(rules, new Map([[EVENT, [PARENT]]]), known).of(EVENT);
}

test.each(['1', '2'])('an id that another room has is looked for in this one, in version %s', (version) => {
  expect(waitOf(version, { isElsewhere: true })).toMatchObject({ lacking: [PARENT], pending: [] });
  expect(waitOf(version, { isElsewhere: true, gap: 'open' })).toMatchObject({ pending: [PARENT], isForGap: true });
  const givenUp = waitOf(version, { isElsewhere: true, gap: 'given-up', gapReason: 'nobody knows it' });
  expect(givenUp.refused).toBe(`its prev event ${PARENT} cannot be had: nobody knows it`);
});

test.each(['3', '12'])(
  'an event of another room refuses what cites it where ids are hashes, in version %s',
  (version) => {
    expect(waitOf(version, { isElsewhere: true }).refused).toBe(`its prev event ${PARENT} is of another room`);
  },
);

test.each([
  [false, [[], [], []], ['made up', 'made up', 'made up']],
  [true, [[], ['first'], []], ['made up', undefined, 'second']],
])(
  'of a chain behind a gap only the second asks for a place of its own, once the gap was tried in vain: %s',
  (isTriedInVain, lacking, pending) => {
    const chain = ['first', 'second', 'third'] as EventId[];
    const missing = new Map(chain.map((id, i) => [id, [chain[i - 1] ?? ('made up' as EventId)]]));
    const gap = {
      gap: 'open' as const,
      gapReason: null,
      isParent: false,
      isElsewhere: false,
      isComing: false,
      gaps: [],
    };
    const eventId = 'made up' as EventId;
    const waits = new Waits(
      roomVersionRules('11') as RoomVersionRules,
      missing,
      new Map([[eventId, { eventId, ...gap, isTriedInVain }]]),
    );
    expect(chain.map((id) => waits.of(id).lacking)).toEqual(lacking);
    expect(chain.map((id) => waits.of(id).pending[0])).toEqual(pending);
  },
);

test('what is too much to work out is tried at growing distances, and in a quarter of an hour at the latest', () => {
  expect([0, 1_000, 60_000, 90 * 60_000, 48 * 3_600_000].map(restAt)).toEqual([1_000, 1_000, 60_000, 900_000, 900_000]);
});
