import { expect, test } from 'vitest';
import { type ServerName } from '../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { isServerAllowed } from '../../src/matrix/server-acl.ts';

const allowed = (content: JsonObject | undefined, name: string): boolean =>
  isServerAllowed(content, name as ServerName);
const denying = (...deny: string[]): JsonObject => ({ allow: ['*'], deny });

test('a room without an ACL lets everybody take part', () => {
  expect(allowed(undefined, 'evil.example')).toBe(true);
});

test('a denied server is out by name and by glob, others are in', () => {
  expect(allowed(denying('evil.example'), 'evil.example')).toBe(false);
  expect(allowed(denying('*.evil.example'), 'sub.evil.example')).toBe(false);
  expect(allowed(denying('*.evil.example'), 'evil.example')).toBe(true);
  expect(allowed(denying('evi?.example'), 'evil.example')).toBe(false);
  expect(allowed(denying('evi?.example'), 'evi.example')).toBe(true);
  expect(allowed(denying('e*l*ple'), 'evil.example')).toBe(false);
  expect(allowed(denying('evil.example'), 'good.example')).toBe(true);
});

test('dots and brackets of a pattern are themselves', () => {
  expect(allowed(denying('a.example'), 'abexample')).toBe(true);
  expect(allowed(denying('[ab].example'), 'a.example')).toBe(true);
});

test('case and port make no difference', () => {
  expect(allowed(denying('Evil.EXAMPLE'), 'evil.example:8448')).toBe(false);
  expect(allowed(denying('evil.example'), 'EVIL.example')).toBe(false);
});

test('who is not allowed is denied, also where the lists are missing or no lists', () => {
  expect(allowed({ allow: ['good.example'] }, 'other.example')).toBe(false);
  expect(allowed({ allow: ['good.example'] }, 'good.example')).toBe(true);
  expect(allowed({}, 'good.example')).toBe(false);
  expect(allowed({ allow: 'good.example' }, 'good.example')).toBe(false);
  expect(allowed({ allow: [1, null, 'good.example'], deny: { a: 1 } }, 'good.example')).toBe(true);
});

test('IP literals may be denied as a kind, and only by the word false', () => {
  for (const name of ['1.2.3.4', '1.2.3.4:8448', '[2001:db8::1]', '[2001:db8::1]:8448']) {
    expect(allowed({ allow: ['*'], allow_ip_literals: false }, name)).toBe(false);
    expect(allowed({ allow: ['*'], allow_ip_literals: 0 }, name)).toBe(true);
    expect(allowed({ allow: ['*'] }, name)).toBe(true);
  }
  expect(allowed({ allow: ['*'], allow_ip_literals: false }, '1.2.3.example')).toBe(true);
  expect(allowed({ allow: ['*'], deny: ['[2001:db8::1]'] }, '[2001:db8::1]:8448')).toBe(false);
});

test('a pattern of stars does not make matching slow', () => {
  const pattern = `${'*a'.repeat(5_000)}b`;
  expect(allowed(denying(pattern), 'a'.repeat(230))).toBe(true);
});
