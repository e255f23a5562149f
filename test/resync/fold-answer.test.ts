import { expect, test } from 'vitest';
import { foldAnswer, isNews } from '../../src/resync/fold-answer.ts';
import { noGaps } from '../../src/resync/next-action.ts';
import { completed, fetched, given, joined, walked } from './events.ts';

const known = {
  epoch: 1,
  seq: 3,
  state: given(joined(), fetched(1, 'a')),
  gaps: { ...noGaps, open: 1 },
  corrections: 2,
};
const nothing = { epoch: 1, events: [], gaps: known.gaps, corrections: known.corrections };

test('an answer that names what is known is no news; an event, another epoch, an attempt at a gap or a correction less is', () => {
  expect(isNews(known, nothing)).toBe(false);
  expect(isNews(known, { ...nothing, events: [{ seq: 4, event: completed }] })).toBe(true);
  expect(isNews(known, { ...nothing, epoch: 2 })).toBe(true);
  expect(isNews(known, { ...nothing, gaps: { ...known.gaps, attempts: 1 } })).toBe(true);
  expect(isNews(known, { ...nothing, corrections: 1 })).toBe(true);
});

test('what an answer says is folded into what was known, and what it does not name is not there any more', () => {
  const events = [walked(1, 0), completed].map((event, i) => ({ seq: 4 + i, event }));
  expect(foldAnswer(known, { epoch: 1, events })).toEqual({
    ...{ epoch: 1, seq: 5 },
    state: given(joined(), fetched(1, 'a'), walked(1, 0), completed),
  });
  expect(foldAnswer(known, nothing)).toEqual(known);
});
