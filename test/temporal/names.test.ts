import { expect, test } from 'vitest';
import { type RoomId } from '../../src/matrix/identifiers.ts';
import { resyncWorkflowId, waitersBand } from '../../src/temporal/names.ts';

test('the workflow of a room has an id of one line, and no two rooms share one', () => {
  const rooms = [
    '!a:x.org',
    '!a\nb:x.org',
    '!a\tb:x.org',
    '!a%0Ab:x.org',
    '!a b:x.org',
    '!a\u0085b:x.org',
    '!🐟:x.org',
  ];
  const names = rooms.map((roomId) => resyncWorkflowId(roomId as RoomId));
  expect(new Set(names).size).toBe(rooms.length);
  for (const name of names) expect(name).toMatch(/^[^\p{Cc}]+$/u);
  expect(names[0]).toBe('resync !a:x.org');
});

test('how many wait is told in bands', () => {
  expect([0, 1, 9, 10, 99, 100, 5_000].map(waitersBand)).toEqual(['0', '1+', '1+', '10+', '10+', '100+', '100+']);
});
