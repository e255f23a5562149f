import { expect, test } from 'vitest';
import { type EventId, type ServerName } from '../../src/matrix/identifiers.ts';
import { byTurns, gapPlaces } from '../../src/rooms/gap-places.ts';
import { type OpenGap } from '../../src/store/events/gaps.ts';

const server = (name: string): ServerName => `${name}.test` as ServerName;

/** `count` open gaps before events of a server, tried `attempts` times, the first opened first. */
function gapsOf(name: string, count: number, attempts = 0): OpenGap[] {
  return Array.from({ length: count }, (_, i) => ({
    eventId: `$${name}-${i}` as EventId,
    origin: server(name),
    openedAt: i,
    attempts,
  }));
}

const many = (servers: number, each: number, attempts = 0): OpenGap[] =>
  Array.from({ length: servers }, (_, i) => gapsOf(`flood-${i}`, each, attempts)).flat();

const ids = (gaps: readonly OpenGap[]): EventId[] => gaps.map(({ eventId }) => eventId);

test('a server has five places of a room that has fifty', () => {
  expect(gapPlaces([], server('a'), 7)).toEqual({ places: 5, givingWay: [] });
  expect(gapPlaces(gapsOf('a', 4), server('a'), 7)).toEqual({ places: 1, givingWay: [] });
  expect(gapPlaces(gapsOf('a', 5), server('a'), 1)).toEqual({ places: 0, givingWay: [] });
});

test('in a full room the most tried gap of whoever has most makes way, the longest open one first', () => {
  const tried = gapsOf('eager', 5).map((gap, i) => ({ ...gap, attempts: i === 3 ? 2 : 1 }));
  const open = [...many(9, 5), ...tried];
  const { places, givingWay } = gapPlaces(open, server('honest'), 2);
  expect(places).toBe(2);
  expect(ids(givingWay)).toEqual(['$eager-3', '$flood-0-0']);
});

test('no place is taken from a server that would then have fewer', () => {
  const open = [...many(9, 5), ...gapsOf('a', 4), ...gapsOf('b', 1)];
  expect(gapPlaces(open, server('a'), 1)).toEqual({ places: 0, givingWay: [] });
  expect(gapPlaces(open, server('b'), 9).places).toBe(3);
});

test('servers beyond the number of places have them by turns, after some attempts each', () => {
  expect(gapPlaces(many(50, 1, 3), server('honest'), 1)).toEqual({ places: 0, givingWay: [] });
  const { places, givingWay } = gapPlaces([...many(49, 1, 4), ...gapsOf('tried', 1, 5)], server('honest'), 2);
  expect(places).toBe(1);
  expect(ids(givingWay)).toEqual(['$tried-0']);
});

test('gaps are tried by turns of the servers, each beginning with what was tried least', () => {
  const [old, newer] = gapsOf('a', 2) as [OpenGap, OpenGap];
  const gaps = [{ ...old, attempts: 1 }, newer, ...gapsOf('b', 1), ...gapsOf('c', 2)];
  expect(ids(byTurns(gaps))).toEqual(['$b-0', '$c-0', '$a-1', '$c-1', '$a-0']);
});
