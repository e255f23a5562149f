import { describe, expect, test } from 'vitest';
import { canonicalJson } from '../../../src/matrix/json/canonical-json.ts';
import { JSON_DEPTH_MAX, parseJson, parseJsonObject, parseWholeObject } from '../../../src/matrix/json/strict-json.ts';

function ruleOf(source: string | Uint8Array): string {
  const parsed = parseJson(source);
  return parsed.ok ? 'accepted' : parsed.rule;
}

function valueOf(source: string): unknown {
  const parsed = parseJson(source);
  return parsed.ok ? parsed.value : parsed;
}

describe('reading JSON of strangers', () => {
  test('gives the values that JSON.parse gives', () => {
    const text = '{"a":[1,-2,true,false,null,"x\\n\\u00e9\\ud83d\\ude00"],"b":{"":{}},"c":9007199254740991}';
    expect(valueOf(text)).toEqual(JSON.parse(text));
    expect(valueOf(Buffer.from(text).toString())).toEqual(JSON.parse(text));
  });

  test.each([
    ['{"a":1,"a":1}', 'json.duplicate-key'],
    ['{"a":{"b":1,"c":[{"x":1,"\\u0078":2}]}}', 'json.duplicate-key'],
    ['{"__proto__":1,"__proto__":2}', 'json.duplicate-key'],
    ['{"a":"\\ud800"}', 'json.surrogate'],
    ['{"\\uDfff":1}', 'json.surrogate'],
    ['["\\ude00\\ud83d"]', 'json.surrogate'],
    ['{"a":NaN}', 'json.syntax'],
    ['{"a":Infinity}', 'json.syntax'],
    ['{"a":1e400}', 'json.number'],
    ['{"a":-1e400}', 'json.number'],
    [`{"a":1${'0'.repeat(5000)}}`, 'json.number'],
    ['{"a":01}', 'json.syntax'],
    ['{"a":1,}', 'json.syntax'],
    ["{'a':1}", 'json.syntax'],
    ['', 'json.syntax'],
    ['{"a":1} {}', 'json.syntax'],
    ['\ufeff{}', 'json.syntax'],
    ['[', 'json.syntax'],
    ['"\u0001"', 'json.syntax'],
    ['\ud800', 'json.syntax'],
  ])('refuses %s by the rule %s', (text, rule) => {
    expect(ruleOf(text)).toBe(rule);
  });

  test('refuses bytes that are not UTF-8, and surrogates encoded as such', () => {
    expect(ruleOf(Uint8Array.from([0x22, 0xff, 0x22]))).toBe('json.utf8');
    expect(ruleOf(Uint8Array.from([0x22, 0xed, 0xa0, 0x80, 0x22]))).toBe('json.utf8');
    expect(ruleOf(Uint8Array.from([0x22, 0xc0, 0x80, 0x22]))).toBe('json.utf8');
  });

  test('refuses a lone surrogate that stands raw in a string', () => {
    expect(ruleOf('{"a":"\ud800"}')).toBe('json.surrogate');
  });

  test('refuses depth bombs without recursing into them', () => {
    expect(ruleOf('['.repeat(100_000) + ']'.repeat(100_000))).toBe('json.depth');
    expect(ruleOf('{"a":'.repeat(100_000) + '1' + '}'.repeat(100_000))).toBe('json.depth');
    expect(ruleOf('['.repeat(JSON_DEPTH_MAX) + ']'.repeat(JSON_DEPTH_MAX))).toBe('accepted');
  });

  test('does not take brackets, colons and numbers inside strings for structure', () => {
    const text = JSON.stringify({ a: '[[[{"b":1.5,"b":1e3}' + '['.repeat(2_000), b: '\\"', 'c:1.0': ':' });
    expect(valueOf(text)).toEqual(JSON.parse(text));
  });

  test('keeps __proto__ and constructor as ordinary keys', () => {
    const parsed = parseJsonObject('{"__proto__":{"polluted":1.5},"constructor":{"x":1}}');
    expect(parsed.ok && Object.keys(parsed.value)).toEqual(['__proto__', 'constructor']);
    expect(parsed.ok && canonicalJson(parsed.value)).toBe('{"__proto__":{"polluted":1.5},"constructor":{"x":1}}');
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
  });

  test('reads a string of a megabyte, also on the careful path', () => {
    const long = '\\"x'.repeat(350_000);
    const parsed = parseJson(`{"a":"${long}","b":1.5}`);
    expect(parsed.ok && (parsed.value as { a: string }).a.length).toBe(700_000);
  });

  test('refuses values that are no object where an object is wanted', () => {
    for (const text of ['[]', 'null', '1', '"a"']) {
      const parsed = parseJsonObject(text);
      expect(parsed.ok || parsed.rule).toBe('json.object');
    }
  });
});

describe('a whole that holds something deep', () => {
  const deep = (levels: number, inmost: string): string =>
    `{"b":${'[{"x":'.repeat(levels / 2)}${inmost}${'}]'.repeat(levels / 2)},"a":[1,"é\\n"]}`;
  const read = (text: string) => parseWholeObject(Buffer.from(text));

  test('is read, and has its canonical JSON', () => {
    for (const levels of [10, 600, 9_000]) {
      const parsed = read(deep(levels, ' 1.50 '));
      const inmost = deep(levels, '1.5').replace(/^\{(.*),"a":(.*)\}$/, '{"a":$2,$1}');
      expect(parsed.ok && canonicalJson(parsed.value)).toBe(inmost);
    }
  });

  test.each([
    ['nested deeper than anybody can read', deep(100_000, '1'), 'json.depth'],
    ['no JSON', deep(600, '1,'), 'json.syntax'],
    ['with a key twice', deep(600, '{"k":1,"k":1}'), 'json.duplicate-key'],
    ['with a lone surrogate', deep(600, '"\\ud800"'), 'json.surrogate'],
    ['with a lone surrogate in a name', deep(600, '{"\\ud800":1}'), 'json.surrogate'],
    ['with a number beyond any', deep(600, '1e400'), 'json.number'],
    ['that is no object', `[${'['.repeat(600)}${']'.repeat(600)}]`, 'json.object'],
  ])('%s is refused', (_, text, rule) => {
    const parsed = read(text);
    expect(parsed.ok || parsed.rule).toBe(rule);
  });
});

describe('numbers that a double cannot hold as written', () => {
  test.each([
    ['1.0', '1.0'],
    ['1e3', '1000.0'],
    ['1.10', '1.1'],
    ['-0', '0'],
    ['-0.0', '-0.0'],
    ['0.0', '0.0'],
    ['0e5', '0.0'],
    ['1E16', '1e+16'],
    ['1e15', '1000000000000000.0'],
    ['1.5e300', '1.5e+300'],
    ['0.0001', '0.0001'],
    ['0.00001', '1e-05'],
    ['-2.5e-10', '-2.5e-10'],
    ['5e-324', '5e-324'],
    ['1e-400', '0.0'],
    ['123456789.123456789123456789', '123456789.12345679'],
    ['9007199254740993', '9007199254740993'],
    ['-123456789012345678901234567890', '-123456789012345678901234567890'],
  ])('%s is %s in canonical JSON, as in the reference implementation', (literal, canonical) => {
    const parsed = parseJson(`{"a":[${literal}],"b":${literal}}`);
    expect(parsed.ok && canonicalJson(parsed.value)).toBe(`{"a":[${canonical}],"b":${canonical}}`);
  });
});

test('a whole request holds five million values at the most, and a third of that where it must be read carefully', () => {
  const listOf = (count: number, value: string) => Buffer.from(`{"a":[${Array(count).fill(value).join()}]}`);
  const ofEvents = (events: number): number => events * 32_768;
  expect(parseWholeObject(listOf(ofEvents(50), '1'))).toMatchObject({ ok: true });
  expect(parseWholeObject(listOf(5_000_001, '1'))).toEqual({
    ok: false,
    rule: 'json.values',
    reason: 'over 5000000 values',
  });
  expect(parseWholeObject(listOf(ofEvents(5), '1e1'))).toMatchObject({ ok: true });
  expect(parseWholeObject(listOf(1_700_001, '1e1'))).toMatchObject({ ok: false, rule: 'json.values' });
  // What stands in strings is no value.
  expect(parseWholeObject(Buffer.from(`{"a":"${','.repeat(2_000_000)}"}`))).toMatchObject({ ok: true });
});
