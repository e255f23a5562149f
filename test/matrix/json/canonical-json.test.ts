import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { canonicalJson } from '../../../src/matrix/json/canonical-json.ts';
import { type Json } from '../../../src/matrix/pdu.ts';
import { parseJson } from '../../../src/matrix/json/strict-json.ts';

function canonical(text: string): string {
  const parsed = parseJson(text);
  if (!parsed.ok) throw new Error(parsed.reason);
  return canonicalJson(parsed.value);
}

/** Any JSON whose numbers are safe integers. */
const json = fc.letrec<{ value: Json }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.constant(null),
    fc.boolean(),
    fc.maxSafeInteger(),
    fc.string({ unit: 'binary' }),
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(fc.string({ unit: 'binary', maxLength: 4 }), tie('value'), { maxKeys: 4 }),
  ),
})).value;

describe('canonical JSON', () => {
  test.each([
    ['{}', '{}'],
    ['{"one":1,"two":"Two"}', '{"one":1,"two":"Two"}'],
    ['{ "b": "2", "a": "1" }', '{"a":"1","b":"2"}'],
    [
      '{"auth":{"success":true,"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe","three_pids":[{"medium":"email","address":"j@x.org"},{"medium":"msisdn","address":"1"}]}}}',
      '{"auth":{"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe","three_pids":[{"address":"j@x.org","medium":"email"},{"address":"1","medium":"msisdn"}]},"success":true}}',
    ],
    ['{"a":"日本語"}', '{"a":"日本語"}'],
    ['{"本":2,"日":1}', '{"日":1,"本":2}'],
    ['{"a":"\\u65E5"}', '{"a":"日"}'],
    ['{"a":null}', '{"a":null}'],
    ['{"a":-0}', '{"a":0}'],
  ])("makes of the spec's %s what the spec says", (text, expected) => {
    expect(canonical(text)).toBe(expected);
  });

  test('orders keys by code point where UTF-16 units would order them otherwise', () => {
    expect(canonical('{"\\ud83d\\ude00":1,"\\uffff":2,"\\ue000":3,"z":4}')).toBe(
      '{"z":4,"\ue000":3,"\uffff":2,"😀":1}',
    );
    expect(canonical('{"a\\ud83d\\ude00":1,"a":2,"a\\uffff":3}')).toBe('{"a":2,"a\uffff":3,"a😀":1}');
  });

  test('orders many keys as it orders few', () => {
    const keys = Array.from({ length: 200 }, (_, i) => `k${(i * 7919) % 200}`);
    const object = Object.fromEntries(keys.map((key) => [key, 1]));
    expect(Object.keys(JSON.parse(canonicalJson(object)) as object)).toEqual([...keys].sort());
  });

  test('uses the shortest escapes and escapes nothing else', () => {
    const all = String.fromCharCode(...Array.from({ length: 0x100 }, (_, i) => i)) + '\u2028\u2029';
    const escaped = canonicalJson(all);
    expect(escaped.slice(0, 60)).toContain('\\u0000\\u0001');
    expect(escaped).toContain('\\b\\t\\n\\u000b\\f\\r\\u000e');
    expect(escaped).toContain('\\u001f !\\"#');
    expect(escaped).toContain('[\\\\]');
    expect(escaped).toContain('~\u007f\u0080');
    expect(escaped.endsWith('\u2028\u2029"')).toBe(true);
  });

  test('reads back as the value it was made of', () => {
    fc.assert(
      fc.property(json, (value) => {
        const parsed = parseJson(canonicalJson(value));
        expect(parsed.ok && parsed.value).toEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
  });

  test('is the same for every order of keys and every spelling, and a fixed point', () => {
    const shuffled = (value: Json): Json => {
      if (Array.isArray(value)) return (value as readonly Json[]).map(shuffled);
      if (typeof value !== 'object' || value === null) return value;
      return Object.fromEntries(
        Object.entries(value)
          .reverse()
          .map(([key, item]) => [key, shuffled(item)]),
      );
    };
    fc.assert(
      fc.property(json, (value) => {
        const text = canonicalJson(value);
        expect(canonical(JSON.stringify(shuffled(value), null, 2))).toBe(text);
        expect(canonical(text)).toBe(text);
      }),
    );
  });

  test('throws for what no server could have sent', () => {
    expect(() => canonicalJson(Number.NaN)).toThrow('NaN');
  });

  test('is made of values nested however deep', () => {
    const text = '{"a":['.repeat(100_000) + '1' + ']}'.repeat(100_000);
    let deep: Json = 1;
    for (let i = 0; i < 100_000; i++) deep = { a: [deep] };
    expect(canonicalJson(deep)).toBe(text);
  });
});
