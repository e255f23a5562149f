import { describe, expect, test } from 'vitest';
import { parseFilter, passes, passesType } from '../../src/matrix/client/filter.ts';
import { type Standing, placeOf } from '../../src/sync/rooms-in-span.ts';
import { saidWrong, stateDelta } from '../../src/sync/state-part.ts';
import { formatSyncToken } from '../../src/matrix/client/tokens.ts';
import { parseToken } from '../../src/sync/token.ts';

describe('where a room stands in a response', () => {
  const room = (then: string | null, now: string | null, partial = [false, false]): Standing => ({
    ...{ membership: now, memberEventId: `$${now}`, partial: partial[1]! },
    ...{ membershipThen: then, memberEventIdThen: `$${then}`, wasPartial: partial[0]! },
  });
  const asked = { isInitial: false, isEager: false, includeLeave: false };
  test.each([
    ['a room that was joined since', room(null, 'join'), asked, { section: 'join', isNew: true }],
    ['a room that he is still in', room('join', 'join'), asked, { section: 'join', isNew: false }],
    ['one that he has left', room('join', 'leave'), asked, { section: 'leave', isNew: false }],
    ['one whose join came to nothing', room('join', null), asked, { section: 'leave', isNew: false }],
    ['one that he had left before', room('leave', 'leave'), asked, undefined],
    ['an invitation that he knows', room('invite', 'invite'), asked, undefined],
    ['a new invitation', room('leave', 'invite'), asked, { section: 'invite', isNew: true }],
    ['a refused invitation', room('invite', 'leave'), asked, { section: 'leave', isNew: true }],
    [
      'a partial room, for who wants all members',
      room('join', 'join', [true, true]),
      { ...asked, isEager: true },
      undefined,
    ],
    [
      'one that became whole, for the same',
      room('join', 'join', [true, false]),
      { ...asked, isEager: true },
      { section: 'join', isNew: true },
    ],
    [
      'one that was left while partial, for the same',
      room('join', 'leave', [true, false]),
      { ...asked, isEager: true },
      undefined,
    ],
    ['a left room at first', room(null, 'leave'), { ...asked, isInitial: true }, undefined],
  ] as const)('%s', (_what, standing, how, expected) => {
    expect(placeOf(standing, how)).toEqual(expected);
  });
});

describe('what of a state is told', () => {
  const differs = (key: number, before: number | null, after: number | null) => [key, { key, before, after }] as const;

  test('before the timeline: what it was then, and what the timeline does not say as it is now', () => {
    const toTimeline = new Map([differs(2, 1, 5), differs(4, null, 6)]);
    const toNow = new Map([differs(2, 5, 7), differs(8, 3, 9)]);
    const timeline = new Map([[2, 7]]);
    const { events, removed } = stateDelta({ toTimeline, toNow, timeline }, false);
    expect([...events]).toEqual([
      [2, 5],
      [4, 6],
      [8, 9],
    ]);
    expect(removed.size).toBe(0);
    expect([...stateDelta({ toNow: new Map([differs(2, 1, 7)]), timeline }, true).events]).toEqual([[2, 7]]);
  });

  test('nothing of what changed and changed back, and a place that is empty now is told as such', () => {
    const toTimeline = new Map([differs(2, 1, 5)]);
    const toNow = new Map([differs(2, 5, 1), differs(4, 6, null)]);
    const { events, removed } = stateDelta({ toTimeline, toNow, timeline: new Map() }, false);
    expect([[...events], [...removed]]).toEqual([[], [[4, 6]]]);
  });

  test('a place whose last event of the timeline is not the current one is owed', () => {
    expect([
      ...saidWrong(
        new Map([
          [2, 7],
          [4, 8],
          [6, 9],
        ]),
        new Map([
          [2, 7],
          [4, 1],
        ]),
      ),
    ]).toEqual([4, 6]);
  });
});

test('a token is read as it was written, and nothing else is one', () => {
  for (const token of [
    { position: 0, owedSince: null, toDevice: null },
    { position: 12, owedSince: 3, toDevice: null },
    { position: 12, owedSince: null, toDevice: 4 },
    { position: 12, owedSince: 3, toDevice: 12 },
  ]) {
    expect(parseToken(formatSyncToken(token))).toEqual(token);
  }
  for (const text of [
    's1_01',
    's1_',
    't1_1',
    's1_1_',
    's1_1_2',
    's1_1.2',
    's1_1.',
    's1_1.0_0',
    's1_9007199254740993',
  ]) {
    expect(() => parseToken(text), text).toThrow('since');
  }
});

test('filters let pass by patterns, senders and urls, in time that grows with what they are given', () => {
  const read = parseFilter({
    room: { timeline: { types: ['m.*.x', 'a'], not_types: ['m.no.*'], not_senders: ['@b:s'], contains_url: false } },
  });
  if (!read.ok) throw new Error(read.reason);
  const { timeline } = read.filter;
  expect(['m.any.x', 'a', 'm.no.x', 'b', 'm.x'].map((type) => passesType(timeline, type))).toEqual([
    true,
    true,
    false,
    false,
    false,
  ]);
  expect(passes(timeline, { type: 'a', sender: '@a:s', content: {} })).toBe(true);
  expect(passes(timeline, { type: 'a', sender: '@b:s', content: {} })).toBe(false);
  expect(passes(timeline, { type: 'a', sender: '@a:s', content: { url: 'mxc://x' } })).toBe(false);
  expect(passesType({ types: ['*a'.repeat(5_000)], notTypes: [] }, 'b'.repeat(50_000))).toBe(false);
});
