import { chmodSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readOrCreateSecret, readSecretFile } from '../src/secret-file.ts';

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'rejoinder-secret-'));
  path = join(folder, 'data', 'token');
});
afterEach(() => rmSync(folder, { recursive: true }));

describe('a secret in a file', () => {
  test('is made once, for its owner only, and kept', async () => {
    expect(await readOrCreateSecret(path, () => 'first')).toBe('first');
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readFileSync(path, 'utf8')).toBe('first\n');
    expect(await readOrCreateSecret(path, () => 'second')).toBe('first');
  });

  test('is the same for all who make it at once, and leaves nothing beside it', async () => {
    const made = await Promise.all(
      Array.from({ length: 8 }, (_, at) => readOrCreateSecret(path, () => `secret ${at}`)),
    );
    expect(new Set(made).size).toBe(1);
    expect(readdirSync(join(folder, 'data'))).toEqual(['token']);
  });

  test.each([0o640, 0o604, 0o660, 0o644])('that others may read (%o) is refused', async (mode) => {
    await readOrCreateSecret(path, () => 'x');
    chmodSync(path, mode);
    await expect(readSecretFile(path)).rejects.toThrow(/has mode 06\d\d.*chmod 600/);
    await expect(readOrCreateSecret(path, () => 'y')).rejects.toThrow(/chmod 600/);
  });

  test('that is empty is refused', async () => {
    path = join(folder, 'token');
    writeFileSync(path, '\n', { mode: 0o600 });
    await expect(readSecretFile(path)).rejects.toThrow(/is empty/);
  });

  test('whose folder is a file is refused by name', async () => {
    writeFileSync(join(folder, 'data'), '');
    await expect(readOrCreateSecret(path, () => 'x')).rejects.toThrow(path);
  });

  test('that is not there is not made by looking', async () => {
    expect(await readSecretFile(path)).toBeUndefined();
    expect(readdirSync(folder)).toEqual([]);
  });
});
