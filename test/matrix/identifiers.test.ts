import { describe, expect, test } from 'vitest';
import {
  parseEventId,
  parseRoomAlias,
  parseRoomId,
  parseServerName,
  parseUserId,
} from '../../src/matrix/identifiers.ts';

describe('room ids and aliases', () => {
  test.each(['a\tb', 'a\nb', 'a\r\nb', 'a\u0001b', 'a\u007fb', '', ' ', '🐟', '!', '#', '"\\{}'])(
    'may have the local part %j',
    (localpart) => {
      for (const server of ['example.org', 'example.org:8448', '[2001:db8::1]:99']) {
        expect(parseRoomId(`!${localpart}:${server}`)).toBe(`!${localpart}:${server}`);
        expect(parseRoomAlias(`#${localpart}:${server}`)).toBe(`#${localpart}:${server}`);
      }
    },
  );

  test.each(['a\0b:example.org', 'a:exa\nmple.org', 'a:', 'a:b c', `${'x'.repeat(250)}:x.org`, 'a:b:c:d'])(
    'may not be %j',
    (rest) => {
      for (const parse of [parseRoomId, parseRoomAlias, parseUserId]) {
        for (const sigil of '!#@') expect(parse(`${sigil}${rest}`)).toBeUndefined();
      }
    },
  );

  test('of version 12 are a hash', () => {
    expect(parseRoomId(`!${'a-_'.repeat(14)}a`)).toBeDefined();
    for (const text of [`!${'a'.repeat(42)}`, `!${'a'.repeat(42)}\n`, '!']) expect(parseRoomId(text)).toBeUndefined();
  });
});

test('an event id holds no control characters, in which lists of them are joined', () => {
  for (const text of ['$a\nb:x.org', '$a\tb', '$\0']) expect(parseEventId(text)).toBeUndefined();
  expect(parseEventId('$a b:x.org')).toBe('$a b:x.org');
});

describe('server names', () => {
  test.each([
    'x'.repeat(231),
    `${'x.'.repeat(124)}org`,
    'x'.repeat(255),
    'example.org:99999',
    'example.org:0',
    '1.2.3.4',
    '[::1]',
  ])('may be %s', (name) => expect(parseServerName(name)).toBe(name));

  test.each(['x'.repeat(256), 'example.org:', 'example.org:123456', 'exa mple', 'ex_ample', '', ':80', 'a:b'])(
    'may not be %j',
    (name) => expect(parseServerName(name)).toBeUndefined(),
  );
});
