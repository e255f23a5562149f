import { expect, test } from 'vitest';
import { type EventId } from '../../src/matrix/identifiers.ts';
import { stateDigest } from '../../src/matrix/state-digest.ts';

const ids = (...names: string[]): EventId[] => names as EventId[];

test('is the SHA-256 of the sorted ids, a line each, whatever order they are given in', () => {
  // printf '$a\n$b\n$c' | sha256sum
  const expected = '30676dd7f033cbba06567c92c44528dda2c21d258c0e84f409a50272003d07d9';
  expect(stateDigest(ids('$c', '$a', '$b'))).toBe(expected);
  expect(stateDigest(new Set(ids('$b', '$c', '$a')))).toBe(expected);
});

test('of nothing is the SHA-256 of nothing', () => {
  expect(stateDigest([])).toBe('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
});
