import { expect, test } from 'vitest';
import { type EventId } from '../../../src/matrix/identifiers.ts';
import { type StoredEventState, parentsFirst } from '../../../src/store/events/event-states.ts';

/** `d: b c / a` is an event that builds on two and cites a third. */
function events(text: string): StoredEventState[] {
  return text.split(',').map((one) => {
    const [eventId = '', cited = ''] = one.trim().split(':');
    const [prevEvents = [], authEvents = []] = cited.split('/').map((ids) => ids.split(' ').filter((id) => id !== ''));
    const event: Partial<StoredEventState> = {
      eventId: eventId as EventId,
      prevEvents: prevEvents as EventId[],
      authEvents: authEvents as EventId[],
    };
    return event as StoredEventState;
  });
}

const ordered = (text: string): string =>
  parentsFirst(events(text))
    .map(({ eventId }) => eventId)
    .join(' ');

test('events stay in their order, but each comes after what it cites', () => {
  expect(ordered('a:, b: a, c: a')).toBe('a b c');
  expect(ordered('d: b c, c: a, x:, b: a, a:')).toBe('a c b d x');
  expect(ordered('said: join / levels, join:, levels: join')).toBe('join levels said');
});

test('events on a cycle come together, after all that any of them cites beside, and before what builds on them', () => {
  expect(ordered('after: second, first: join second, second: first, join:')).toBe('join first second after');
  expect(ordered('second: first, first: join second, join: other, other:')).toBe('other join first second');
  expect(ordered('a: b, b: c, c: a / proof, proof: x, x:').split(' ').slice(0, 2)).toEqual(['x', 'proof']);
  expect(ordered('self: self a, a:')).toBe('a self');
});

test('a chain of any length is ordered', () => {
  const chain = Array.from({ length: 20_000 }, (_, i) => `e${i}: e${i + 1}`).join(',');
  const last = parentsFirst(events(chain)).at(-1);
  expect(last?.eventId).toBe('e0');
});
