import { expect, test } from 'vitest';
import { createPasswords } from '../../src/accounts/passwords.ts';

const passwords = createPasswords({ ln: 1, r: 1, p: 1 });

test('a password matches its own hash, and no other does', async () => {
  const hash = await passwords.hash('correct horse \u0000 ü');
  expect(hash).toMatch(/^\$scrypt\$ln=1,r=1,p=1\$/);
  expect(await passwords.matches('correct horse \u0000 ü', hash)).toBe(true);
  expect(await passwords.matches('correct horse', hash)).toBe(false);
});

test('one password has another hash each time', async () => {
  expect(await passwords.hash('s3kr1t')).not.toBe(await passwords.hash('s3kr1t'));
});

test('nobody has a password that matches', async () => {
  expect(await passwords.matches('', null)).toBe(false);
  expect(await passwords.matches('x'.repeat(10_000), null)).toBe(false);
});

test('a hash that was made at another cost still matches', async () => {
  const dearer = createPasswords({ ln: 3, r: 2, p: 2 });
  expect(await passwords.matches('s3kr1t', await dearer.hash('s3kr1t'))).toBe(true);
});

test.each([
  ['of five characters', 'short'],
  ['of more than 512 bytes', 'ü'.repeat(257)],
])('a password %s is refused', async (_what, password) => {
  await expect(passwords.hash(password)).rejects.toMatchObject({ kind: 'weak-password' });
});

test('what it costs in use is told by the hash: 32 MiB, three times', async () => {
  expect(await createPasswords().hash('s3kr1t')).toMatch(/^\$scrypt\$ln=15,r=8,p=3\$/);
});

test('a crowd is not let in at once: who comes when too many wait is told to come back', async () => {
  const asked = await Promise.allSettled(Array.from({ length: 100 }, () => passwords.matches('s3kr1t', null)));
  const refused = asked.filter(({ status }) => status === 'rejected');
  expect(refused.length).toBeGreaterThan(0);
  expect(refused.length).toBeLessThan(100);
  expect(refused[0]).toMatchObject({ reason: { kind: 'too-many' } });
  expect(await passwords.matches('s3kr1t', await passwords.hash('s3kr1t'))).toBe(true);
});
