/**
 * `npm run test:mutation -- [--sample N] [--seed S] [--only NAME]`: flips single rules of the protocol core, one at a time,
 * in a temporary copy of the project, and looks whether a test fails. A mutant that the tests of its own file miss is shown
 * to all tests of the core and to the differential ones; what even these miss is printed. Exits 1 if anything survived.
 *
 * Survivors are either rules without a test, or changes that change nothing (a comparison of what cannot be equal).
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { createRandom } from '../test/differential/random.ts';
import { mutantsOf, type Mutant } from './mutation/mutants.ts';

const root = fileURLToPath(new URL('..', import.meta.url));

/** The files that hold rules, and the tests that are about them. */
const TESTS_OF: Readonly<Record<string, readonly string[]>> = {
  'auth-events': ['auth-events'],
  'auth-rules': ['auth-rules'],
  'auth-rules-create': ['auth-rules'],
  'auth-rules-federation': ['auth-rules'],
  'auth-rules-membership': ['auth-rules'],
  'auth-rules-power-levels': ['auth-rules'],
  'auth-rules-third-party-invite': ['auth-rules'],
  'power-levels': ['auth-rules'],
  redaction: ['redaction'],
  'room-versions': ['auth-rules', 'redaction', 'event-format', 'hashes'],
  'state-resolution-v1': ['state-resolution'],
  'state-resolution-v2': ['state-resolution'],
  'power-sort': ['state-resolution'],
  'mainline-sort': ['state-resolution'],
  'auth-chain': ['state-resolution'],
  'pdu-checks': ['pdu-checks'],
};
const EVERY_TEST = ['test/matrix', 'test/differential'];
/** A mutant may loop for ever; that is noticed, too. */
const RUN_MS_MAX = 120_000;

const { values } = parseArgs({
  options: { sample: { type: 'string' }, seed: { type: 'string', default: '1' }, only: { type: 'string' } },
});
const names = Object.keys(TESTS_OF).filter((name) => values.only === undefined || name === values.only);
const sample = values.sample === undefined ? Infinity : Number(values.sample);
const seed = Number(values.seed);
if (names.length === 0 || Number.isNaN(sample) || !Number.isSafeInteger(seed)) {
  console.error(`usage: npm run test:mutation -- [--sample N] [--seed S] [--only ${Object.keys(TESTS_OF).join('|')}]`);
  process.exit(2);
}

/** The tests notice something: one fails, or they never end. */
async function areKilledBy(folder: string, tests: readonly string[]): Promise<boolean> {
  const child = spawn(process.execPath, ['node_modules/vitest/vitest.mjs', 'run', '--bail', '1', ...tests], {
    cwd: folder,
    stdio: 'ignore',
    // A group of its own: a mutant that loops does so in a process that vitest has started.
    detached: true,
  });
  const timer = setTimeout(() => process.kill(-child.pid!, 'SIGKILL'), RUN_MS_MAX);
  const [code] = (await once(child, 'exit')) as [number | null];
  clearTimeout(timer);
  return code !== 0;
}

async function survives(folder: string, mutant: Mutant, original: string): Promise<boolean> {
  const path = join(folder, mutant.file);
  const name = mutant.file.slice('src/matrix/'.length, -'.ts'.length);
  await writeFile(path, mutant.text);
  try {
    const own = (TESTS_OF[name] ?? []).map((test) => `test/matrix/${test}`);
    return !(await areKilledBy(folder, own)) && !(await areKilledBy(folder, EVERY_TEST));
  } finally {
    await writeFile(path, original);
  }
}

const folder = await mkdtemp(join(tmpdir(), 'rejoinder-mutation-'));
try {
  for (const part of ['src', 'test', 'scripts', 'package.json', 'tsconfig.json', 'vitest.config.ts'])
    await cp(join(root, part), join(folder, part), { recursive: true });
  await symlink(join(root, 'node_modules'), join(folder, 'node_modules'));
  if (await areKilledBy(folder, EVERY_TEST)) throw new Error('the tests fail without any change');

  const originals = new Map<string, string>();
  for (const name of names)
    originals.set(`src/matrix/${name}.ts`, await readFile(join(root, `src/matrix/${name}.ts`), 'utf8'));
  const random = createRandom(seed);
  const all = [...originals].flatMap(([file, source]) => mutantsOf(file, source));
  const chosen = all
    .map((mutant) => ({ mutant, rank: random.next() }))
    .sort((a, b) => a.rank - b.rank)
    .slice(0, sample)
    .map(({ mutant }) => mutant);
  console.log(`${all.length} single rules to flip in ${names.length} files; ${chosen.length} tried, seed ${seed}`);
  let survived = 0;
  for (const mutant of chosen) {
    if (!(await survives(folder, mutant, originals.get(mutant.file)!))) continue;
    survived++;
    console.log(`survived  ${mutant.file}:${mutant.line}  ${mutant.change}`);
  }
  console.log(`${chosen.length - survived} killed, ${survived} survived`);
  process.exitCode = survived === 0 ? 0 : 1;
} finally {
  await rm(folder, { recursive: true, force: true });
}
