import { expect, test } from 'vitest';
import { TYPISTS_MAX, typingNow } from '../../src/edus/typists.ts';
import { type UserId } from '../../src/matrix/identifiers.ts';
import { type Typist } from '../../src/store/tables/typing.ts';

const ME = '@me:here.test' as UserId;
const BOB = '@bob:there.test' as UserId;
const at = (now: number) => ({ now, serverName: 'here.test' });
const typist = (userId: UserId, until: number, toldAt = 0): Typist => ({ userId, until, toldAt });

test('who begins to type is among those who do, and of our own users others are told', () => {
  const said = [
    { userId: ME, until: 50_000 },
    { userId: BOB, until: 60_000 },
  ];
  expect(typingNow([], said, at(40_000))).toEqual({
    typists: [typist(ME, 50_000, 40_000), typist(BOB, 60_000)],
    isChanged: true,
    toTell: [{ userId: ME, isTyping: true }],
  });
});

test('who says again that he types changes nothing for who syncs; others are told again after half a minute', () => {
  const before = [typist(ME, 50_000, 40_000)];
  const again = [{ userId: ME, until: 99_000 }];
  expect(typingNow(before, again, at(45_000))).toEqual({
    ...{ typists: [typist(ME, 99_000, 40_000)], isChanged: false, toTell: [] },
  });
  expect(typingNow(before, again, at(70_000))).toEqual({
    ...{ typists: [typist(ME, 99_000, 70_000)], isChanged: false, toTell: [{ userId: ME, isTyping: true }] },
  });
});

test('who stops, and who does not say again that he types, is told to have stopped', () => {
  const before = [typist(ME, 50_000, 40_000), typist(BOB, 60_000)];
  expect(typingNow(before, [{ userId: BOB, until: null }], at(45_000))).toMatchObject({
    ...{ typists: [typist(ME, 50_000, 40_000)], isChanged: true, toTell: [] },
  });
  expect(typingNow(before, [], at(60_000))).toEqual({
    ...{ typists: [], isChanged: true, toTell: [{ userId: ME, isTyping: false }] },
  });
});

test('who comes when one goes makes another list of the same length', () => {
  const said = [
    { userId: ME, until: null },
    { userId: BOB, until: 99_000 },
  ];
  expect(typingNow([typist(ME, 50_000, 40_000)], said, at(45_000))).toMatchObject({ isChanged: true });
});

test('what stops before it was told is told nobody', () => {
  expect(typingNow([], [{ userId: ME, until: null }], at(1))).toEqual({ typists: [], isChanged: false, toTell: [] });
  expect(typingNow([], [{ userId: ME, until: 1 }], at(1))).toEqual({ typists: [], isChanged: false, toTell: [] });
});

test('so many type in a room, and no more, until one of them stops', () => {
  const crowd = Array.from({ length: TYPISTS_MAX + 10 }, (_, i) => ({
    userId: `@u${i}:there.test` as UserId,
    until: 60_000,
  }));
  const { typists } = typingNow([], crowd, at(1));
  expect(typists).toHaveLength(TYPISTS_MAX);
  const late = { userId: BOB, until: 60_000 };
  expect(typingNow(typists, [late], at(2)).isChanged).toBe(false);
  const gone = { userId: typists[0]!.userId, until: null };
  expect(typingNow(typists, [gone, late], at(2)).typists.map(({ userId }) => userId)).toContain(BOB);
});
