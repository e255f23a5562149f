import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { cacheDirectory, cachedEntry } from '../../src/launch/cache.ts';
import { identify } from '../../src/launch/process-identity.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'rejoinder-cache-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const lines: string[] = [];
const progress = (line: string): void => void lines.push(line);

/** A build that ends when told to. */
function gate(): { opened: Promise<void>; open: () => void } {
  let open!: () => void;
  return { opened: new Promise((resolve) => (open = resolve)), open: () => open() };
}

test('the folder is REJOINDER_CACHE_DIR, else below the XDG cache folder', () => {
  expect(cacheDirectory({ REJOINDER_CACHE_DIR: '/a', XDG_CACHE_HOME: '/b' })).toBe('/a');
  expect(cacheDirectory({ REJOINDER_CACHE_DIR: '', XDG_CACHE_HOME: '/b' })).toBe('/b/rejoinder');
  expect(cacheDirectory({})).toMatch(/\.cache\/rejoinder$/);
});

test('two starts at once build an entry once, and the second says that it waits', async () => {
  const { opened, open } = gate();
  const begun = gate();
  let builds = 0;
  const entry = {
    directory,
    name: 'thing-v1',
    progress,
    build: async (temporary: string): Promise<void> => {
      builds += 1;
      begun.open();
      await opened;
      await writeFile(join(temporary, 'file'), 'whole');
    },
  };
  const first = cachedEntry(entry);
  await begun.opened;
  const said = gate();
  const second = cachedEntry({ ...entry, progress: () => said.open() });
  await said.opened;
  open();
  expect(await second).toBe(await first);
  expect(builds).toBe(1);
  expect(await readFile(join(directory, 'thing-v1', 'file'), 'utf8')).toBe('whole');
  expect(await readdir(directory)).toEqual(['thing-v1']);
});

test('a build that fails leaves nothing, and the next one may succeed', async () => {
  const entry = { directory, name: 'thing-v1', progress };
  const failing = async (temporary: string): Promise<void> => {
    await writeFile(join(temporary, 'half'), '');
    throw new Error('no network');
  };
  await expect(cachedEntry({ ...entry, build: failing })).rejects.toThrow('no network');
  expect(await readdir(directory)).toEqual([]);
  await cachedEntry({ ...entry, build: () => Promise.resolve() });
  expect(await readdir(directory)).toEqual(['thing-v1']);
});

test('the lock of a builder that was killed is taken over, and what it had begun is removed', async () => {
  const builder = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' });
  await once(builder, 'spawn');
  const holder = identify(builder.pid);
  await writeFile(join(directory, '.thing-v1.lock'), JSON.stringify({ ...holder, token: 'dead' }));
  await mkdir(join(directory, '.thing-v1.building-dead'));
  builder.kill('SIGKILL');
  await once(builder, 'exit');
  await cachedEntry({ directory, name: 'thing-v1', progress, build: () => Promise.resolve() });
  expect(lines.at(-1)).toContain('taking over');
  expect(await readdir(directory)).toEqual(['thing-v1']);
});

test('an entry that no longer works is built anew', async () => {
  await mkdir(join(directory, 'thing-v1'));
  const path = await cachedEntry({
    directory,
    name: 'thing-v1',
    progress,
    build: (temporary) => writeFile(join(temporary, 'interpreter'), ''),
    isUsable: (found) =>
      access(join(found, 'interpreter')).then(
        () => true,
        () => false,
      ),
  });
  expect(await readdir(path)).toEqual(['interpreter']);
});
