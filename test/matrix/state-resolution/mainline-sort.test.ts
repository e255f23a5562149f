import { describe, expect, test } from 'vitest';
import { mainlineSort } from '../../../src/matrix/state-resolution/mainline-sort.ts';
import { type Pdu } from '../../../src/matrix/pdu.ts';
import { cite, topic } from './resolution-of-tests.ts';
import { ALICE, create, powerLevels, rulesOf } from '../room-of-tests.ts';
import { whole } from '../../../src/matrix/state-resolution/parts.ts';

const VERSION = '10';
const root = create(VERSION);
const first = powerLevels({}, cite(root));
const second = powerLevels({}, cite(root, first));
const third = powerLevels({}, cite(second, root));
const line = [root, first, second, third];

/** The events in mainline order, of which `last` is the power levels that came out. */
function sorted(events: readonly Pdu[], last: Pdu | undefined, others: readonly Pdu[] = line): readonly Pdu[] {
  const known = new Map([...events, ...others].map((event) => [event.eventId, event]));
  const lookup = { rules: rulesOf(VERSION), fetchEvent: (id: Pdu['eventId']) => known.get(id) };
  const forwards = whole(mainlineSort(events, last?.eventId, lookup));
  expect(whole(mainlineSort(events.toReversed(), last?.eventId, lookup))).toEqual(forwards);
  return forwards;
}

describe('the mainline order', () => {
  test('is that of the power levels which events cite, whatever their times', () => {
    const [byFirst, bySecond, byThird] = [first, second, third].map((power, i) =>
      topic(ALICE, { ...cite(power), ts: -i }),
    );
    expect(sorted([byThird!, byFirst!, bySecond!], third)).toEqual([byFirst, bySecond, byThird]);
  });

  test('is found without looking at power levels older than those which events cite', () => {
    const asked = new Set<string>();
    const known = new Map(line.map((event) => [event.eventId, event]));
    const fetchEvent = (id: Pdu['eventId']): Pdu | undefined => {
      asked.add(id);
      return known.get(id);
    };
    const events = [topic(ALICE, { ...cite(third), ts: 2 }), topic(ALICE, { ...cite(third), ts: 1 })];
    const ordered = whole(mainlineSort(events, third.eventId, { rules: rulesOf(VERSION), fetchEvent }));
    expect(ordered).toEqual(events.toReversed());
    expect(asked).not.toContain(first.eventId);
  });

  test('begins with what cites no power levels of the line', () => {
    const byFirst = topic(ALICE, { ...cite(root, first), ts: 1 });
    const aside = topic(ALICE, { ...cite(root), ts: 9 });
    expect(sorted([byFirst, aside], third)).toEqual([aside, byFirst]);
    // Without power levels there is no line, and only times count.
    expect(sorted([byFirst, aside], undefined)).toEqual([byFirst, aside]);
  });

  test('follows power levels off the line back to it', () => {
    const fork = powerLevels({}, cite(root, first));
    const further = powerLevels({}, cite(root, fork));
    const byFurther = topic(ALICE, { ...cite(further), ts: 9 });
    const bySecond = topic(ALICE, { ...cite(second), ts: 1 });
    const byFirst = topic(ALICE, { ...cite(first), ts: 10 });
    expect(sorted([byFirst, bySecond, byFurther], third, [...line, fork, further])).toEqual([
      byFurther,
      byFirst,
      bySecond,
    ]);
  });

  test('puts power levels at their own place in the line', () => {
    expect(sorted([third, first, second], third)).toEqual([first, second, third]);
  });

  test('is by time and then by id at the same place', () => {
    const at = (id: string, ts: number): Pdu => topic(ALICE, { ...cite(second), id, ts });
    const [early, late, later] = [at('$z', 1), at('$a', 2), at('$b', 2)];
    expect(sorted([later, early, late], third)).toEqual([early, late, later]);
  });

  test('does not follow power levels at another state key, nor other events', () => {
    const odd = { ...powerLevels({}, cite(third)), stateKey: 'odd' };
    const elsewhere = topic(ALICE, cite(third));
    const byOthers = topic(ALICE, { ...cite(odd, elsewhere), ts: 9 });
    const byFirst = topic(ALICE, { ...cite(first), ts: 1 });
    expect(sorted([byFirst, byOthers], third, [...line, odd, elsewhere])).toEqual([byOthers, byFirst]);
  });

  test('ends where power levels cite each other in a circle', () => {
    const one = powerLevels({}, { id: '$one', auth: ['$two'] });
    const two = powerLevels({}, { id: '$two', auth: ['$one'] });
    const byTwo = topic(ALICE, { ...cite(two), ts: 9 });
    const byFirst = topic(ALICE, { ...cite(first), ts: 1 });
    expect(sorted([byFirst, byTwo], third, [...line, one, two])).toEqual([byTwo, byFirst]);
    expect(sorted([byFirst, byTwo], one, [...line, one, two])).toEqual([byFirst, byTwo]);
  });
});
