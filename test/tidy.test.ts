/** Habits of the project that no linter knows. */
import { access, readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));
const SPEC_VERSION = 'v1.16';

async function filesIn(folder: string): Promise<string[]> {
  const entries = await readdir(join(root, folder), { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length));
}

/** Our own sources and texts; generated files and fixtures are not ours to keep tidy. */
async function ownFiles(): Promise<string[]> {
  const folders = ['src', 'workflows', 'activities', 'scripts', 'test', 'docs'];
  const files = (await Promise.all(folders.map(filesIn))).flat();
  return files.filter((file) => /\.(ts|md)$/.test(file) && !/^test\/(fixtures|histories)\//.test(file));
}

/** Lines that match, as `file:line`. */
async function linesMatching(pattern: RegExp, files: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const file of files) {
    const lines = (await readFile(join(root, file), 'utf8')).split('\n');
    lines.forEach((line, index) => pattern.test(line) && found.push(`${file}:${index + 1}`));
  }
  return found;
}

test(`every link to the Matrix specification is to ${SPEC_VERSION}`, async () => {
  const otherVersions = new RegExp(`spec\\.matrix\\.org/(?!${SPEC_VERSION.replace('.', '\\.')}/)`);
  expect(
    await linesMatching(
      otherVersions,
      (await ownFiles()).filter((file) => file !== 'test/tidy.test.ts'),
    ),
  ).toEqual([]);
});

test('every folder of src, and every other folder of the project, is on the map', async () => {
  const text = await readFile(join(root, 'docs/ARCHITECTURE.md'), 'utf8');
  const foldersIn = async (folder: string): Promise<string[]> =>
    (await readdir(join(root, folder), { withFileTypes: true }))
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => `${folder}${name}/`);
  const passing = /^(\.(?!ci\/).*|node_modules|dist|coverage|rejoinder-data)\/$/;
  const folders = [...(await foldersIn('src/')), ...(await foldersIn('')).filter((name) => !passing.test(name))];
  expect(folders.filter((folder) => folder !== 'src/' && !text.includes(`\`${folder}\``))).toEqual([]);
});

test('every file and folder that the pages in docs name is there', async () => {
  const missing: string[] = [];
  for (const page of await filesIn('docs')) {
    const text = await readFile(join(root, page), 'utf8');
    for (const [, path = ''] of text.matchAll(/`((?:src|workflows|activities|scripts|test|migrations)\/[\w./-]*)`/g)) {
      await access(join(root, path)).catch(() => missing.push(`${page}: ${path}`));
    }
  }
  expect(missing).toEqual([]);
});

test('every file of ours that is no test says at its head what it is for', async () => {
  const files = (await ownFiles()).filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts'));
  const heads = await Promise.all(
    files.map(async (file) => (await readFile(join(root, file), 'utf8')).replace(/^#!.*\n/, '')),
  );
  expect(files.filter((_, index) => !heads[index]?.startsWith('/**'))).toEqual([]);
});

test('every exported function of src says in a docstring what its name cannot', async () => {
  const bare: string[] = [];
  for (const file of (await filesIn('src')).filter((name) => name.endsWith('.ts'))) {
    const text = await readFile(join(root, file), 'utf8');
    const documented = new Set<string>();
    for (const { 1: above = '', 2: name = '' } of text.matchAll(/^(.*)\nexport (?:async )?function\*? ?(\w+)/gm)) {
      // Of several overloads the first has it.
      if (above.endsWith('*/')) documented.add(name);
      else if (!documented.has(name)) bare.push(`${file}: ${name}`);
    }
  }
  expect(bare).toEqual([]);
});

test('the name of every test file ends in a kind that vitest.config.ts knows', async () => {
  const files = (await filesIn('test')).filter((file) => file.endsWith('.test.ts'));
  const kinds = /^[a-z0-9-]+(\.(pg|workflow|federation|interop|simulation))?\.test\.ts$/;
  expect(files.filter((file) => !kinds.test(file.split('/').at(-1) ?? ''))).toEqual([]);
});

test('the journal of the migrations names each of their files once, in order, and each has its snapshot', async () => {
  const files = await filesIn('migrations');
  const namesOf = (pattern: RegExp): string[] => files.flatMap((file) => pattern.exec(file)?.[1] ?? []).sort();
  const journal = JSON.parse(await readFile(join(root, 'migrations/meta/_journal.json'), 'utf8')) as {
    readonly entries: readonly { readonly idx: number; readonly tag: string }[];
  };
  expect(journal.entries.map(({ tag }) => tag)).toEqual(namesOf(/^migrations\/([^/]+)\.sql$/));
  const numbers = journal.entries.map(({ tag }) => tag.slice(0, 4));
  expect(numbers).toEqual(journal.entries.map((_, i) => String(i).padStart(4, '0')));
  expect(journal.entries.map(({ idx }) => idx)).toEqual(numbers.map(Number));
  const snapshots = namesOf(/^migrations\/meta\/(\d+)_snapshot\.json$/);
  expect(snapshots).toEqual(numbers);
  // Each is made from the one before it: two that are made from the same are of two branches.
  const made = await Promise.all(
    snapshots.map(async (number) => {
      const text = await readFile(join(root, `migrations/meta/${number}_snapshot.json`), 'utf8');
      return JSON.parse(text) as { readonly id: string; readonly prevId: string };
    }),
  );
  expect(made.slice(1).map(({ prevId }) => prevId)).toEqual(made.slice(0, -1).map(({ id }) => id));
});

test('nothing is exported by default but configuration, and nothing is left to do', async () => {
  const files = (await ownFiles()).filter((file) => file.endsWith('.ts') && file !== 'test/tidy.test.ts');
  expect(await linesMatching(/^export default|\b(TODO|FIXME|XXX)\b/, files)).toEqual([]);
});

test('tests are told by one word, test, and not by another', async () => {
  const files = (await filesIn('test')).filter((file) => file.endsWith('.ts') && file !== 'test/tidy.test.ts');
  expect(await linesMatching(/^\s*it(\.\w+)?\(|\bit\b.*from 'vitest'/, files)).toEqual([]);
});
