import { describe, expect, test } from 'vitest';
import { type EventId } from '../../../src/matrix/identifiers.ts';
import { type Pdu } from '../../../src/matrix/pdu.ts';
import { compareIds, reverseTopologicalPowerSort } from '../../../src/matrix/state-resolution/power-sort.ts';
import { cite, topic } from './resolution-of-tests.ts';
import { ALICE, BOB, CAROL, CREATOR, create, powerLevels, rulesOf } from '../room-of-tests.ts';
import { whole } from '../../../src/matrix/state-resolution/parts.ts';

const V2 = '10';
const root = create(V2);
const power = powerLevels({ users: { [CREATOR]: 100, [ALICE]: 50, [BOB]: 50 } }, cite(root));

/** The events in reverse topological power order; those of `aside` are at hand, but not conflicted. */
function sorted(events: readonly Pdu[], aside: readonly Pdu[] = [root, power], version = V2): readonly Pdu[] {
  const conflicted = new Map(events.map((event) => [event.eventId, event]));
  const known = new Map([...events, ...aside].map((event) => [event.eventId, event]));
  const lookup = { rules: rulesOf(version), fetchEvent: (id: EventId) => known.get(id) };
  const forwards = whole(reverseTopologicalPowerSort(events, conflicted, lookup));
  expect(whole(reverseTopologicalPowerSort(events.toReversed(), conflicted, lookup))).toEqual(forwards);
  return forwards;
}

describe('the reverse topological power order', () => {
  test('puts every event after those it cites, whoever sent it', () => {
    const first = topic(CAROL, { ...cite(root, power), ts: 9 });
    const second = topic(ALICE, { ...cite(power, first), ts: 8 });
    const third = topic(CREATOR, { ...cite(second, power, first, first), ts: 7 });
    expect(sorted([third, second, first])).toEqual([first, second, third]);
  });

  test('takes of those that are free the one of the most powerful sender', () => {
    const [byCarol, byAlice, byCreator] = [CAROL, ALICE, CREATOR].map((sender, ts) =>
      topic(sender, { ...cite(root, power), ts }),
    );
    expect(sorted([byCarol!, byAlice!, byCreator!])).toEqual([byCreator, byAlice, byCarol]);
  });

  test('takes of equally powerful ones the oldest, then the one with the smallest id', () => {
    const at = (id: string, sender: string, ts: number): Pdu => topic(sender, { ...cite(root, power), id, ts });
    const [early, late, later] = [at('$z', ALICE, 1), at('$a', BOB, 2), at('$b', ALICE, 2)];
    expect(sorted([later, early, late])).toEqual([early, late, later]);
  });

  test('reads the sender’s power from the power levels that the event cites', () => {
    const before = powerLevels({ users: { [CREATOR]: 100 } }, cite(root));
    const byAlice = topic(ALICE, { ...cite(root, before), ts: 1 });
    const byBob = topic(BOB, { ...cite(power, root), ts: 2 });
    expect(sorted([byAlice, byBob], [root, power, before])).toEqual([byBob, byAlice]);
  });

  test('reads nothing from power levels or a create event at another state key', () => {
    const odd = { ...powerLevels({ users: { [CAROL]: 100 } }), stateKey: 'odd' };
    const oddRoot = { ...create(V2, { creator: CAROL }, { id: '$odd' }), stateKey: 'odd' };
    const byCarol = topic(CAROL, { ...cite(root, odd, oddRoot), ts: 1 });
    const byCreator = topic(CREATOR, { ...cite(root), ts: 2 });
    expect(sorted([byCarol, byCreator], [root, odd, oddRoot])).toEqual([byCreator, byCarol]);
  });

  test('gives the creator 100 and nobody else anything where no power levels are cited', () => {
    const byAlice = topic(ALICE, { ...cite(root), ts: 1 });
    const byCreator = topic(CREATOR, { ...cite(root), ts: 2 });
    const weighed = powerLevels({ users: { [BOB]: 99, [CAROL]: 100 } }, cite(root));
    const byBob = topic(BOB, { ...cite(root, weighed), ts: 0 });
    const byCarol = topic(CAROL, { ...cite(root, weighed), ts: 3 });
    expect(sorted([byAlice, byCreator, byBob, byCarol], [root, weighed])).toEqual([byCreator, byCarol, byBob, byAlice]);
    const withoutRoot = topic(CREATOR, { auth: [], ts: 4 });
    expect(sorted([withoutRoot, byAlice], [root])).toEqual([byAlice, withoutRoot]);
  });

  test('takes the creators of version 12 first, whatever the power levels say', () => {
    const roots = create('12', { additional_creators: [BOB] });
    const low = powerLevels({ users: { [ALICE]: 2 ** 53 - 1 } });
    const [byAlice, byBob, byCreator] = [ALICE, BOB, CREATOR].map((sender, ts) => topic(sender, { ...cite(low), ts }));
    expect(sorted([byAlice!, byCreator!, byBob!], [roots, low], '12')).toEqual([byBob, byCreator, byAlice]);
  });

  test('counts equal powers as equal, however they are written', () => {
    const high = powerLevels({ users: { [ALICE]: String(2 ** 53) } });
    const inTime = [ALICE, CREATOR, ALICE, CREATOR].map((sender, ts) => topic(sender, { ...cite(high), ts }));
    // In any order of arrival: where two came before each other, some of these would differ.
    for (let first = 0; first < inTime.length; first++) {
      const turned = [...inTime.slice(first), ...inTime.slice(0, first)];
      expect(sorted(turned, [create('12'), high], '12')).toEqual(inTime);
    }
  });

  test('takes what is conflicted along, and leaves out what cites itself in a circle', () => {
    const below = topic(ALICE, { ...cite(root, power) });
    const above = topic(CREATOR, { ...cite(root, power, below) });
    const conflicted = new Map([below, above].map((event) => [event.eventId, event]));
    const known = new Map([root, power, below, above].map((event) => [event.eventId, event]));
    const lookup = { rules: rulesOf(V2), fetchEvent: (id: EventId) => known.get(id) };
    expect(whole(reverseTopologicalPowerSort([above], conflicted, lookup))).toEqual([below, above]);

    const [one, two] = [topic(ALICE, { id: '$one', auth: ['$two'] }), topic(ALICE, { id: '$two', auth: ['$one'] })];
    expect(sorted([one, two, below])).toEqual([below]);
  });
});

describe('the order of ids', () => {
  test('is that of code points', () => {
    const sorted = ['', '$', '$A', '$a', '$é', '$\ue000', '$\uffff', '$\u{10000}', '$\u{10ffff}'] as EventId[];
    expect(sorted.toReversed().sort(compareIds)).toEqual(sorted);
    for (const id of sorted) expect(compareIds(id, id)).toBe(0);
  });
});
