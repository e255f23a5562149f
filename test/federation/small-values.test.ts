import fc from 'fast-check';
import { expect, test } from 'vitest';
import { readSmall, readString, readStrings } from '../../src/federation/small-values.ts';

const bytes = (value: unknown): Uint8Array => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value));

test('a list of strings is read as JSON reads it', () => {
  fc.assert(
    fc.property(fc.array(fc.string({ unit: 'grapheme', maxLength: 40 })), (strings) => {
      expect(readStrings(bytes(strings))).toEqual(strings);
    }),
  );
});

test.each(['5', '{}', '["a",5]', '["a"', '[]]', '["a"],"list":["b"]', ''])('%s is no list of strings', (text) => {
  expect(readStrings(bytes(text))).toBeUndefined();
});

test('what is longer than any name is none', () => {
  const long = 'x'.repeat(2_000);
  expect(readStrings(bytes([long, 'a']))).toEqual(['a']);
  expect(readString(bytes(`"${long}"`))).toBeUndefined();
  expect(readSmall(bytes([long]))).toBeUndefined();
  expect(readSmall(bytes(true))).toBe(true);
});
