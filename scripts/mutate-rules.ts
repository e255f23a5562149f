/**
 * `npm run test:mutation -- [--sample N] [--seed S] [--only NAME]`: flips single rules of the protocol core, one at a time,
 * in a temporary copy of the project, and looks whether a test fails. A mutant that the tests of its own file miss is shown
 * to all tests of the core and to the differential ones; what even these miss is printed. Exits 1 if anything survived.
 *
 * Survivors are either rules without a test, or changes that change nothing; the latter can be written away: a comparison
 * of what is never equal, or a quick way beside the rule. Printed as well is what deserves a look though it did not survive:
 * rules that only tests of other files hold, and mutants that ran out of time, which a busy machine may do to any.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { createRandom } from '../test/differential/random.ts';
import { copyProject } from './mutation/copy-project.ts';
import { mutantsOf } from './mutation/mutants.ts';

/** The files that hold rules, and the tests that are about them. */
const TESTS_OF: Readonly<Record<string, readonly string[]>> = {
  'auth/auth-events': ['auth/auth-events'],
  'auth/auth-rules': ['auth/auth-rules'],
  'auth/auth-rules-create': ['auth/auth-rules'],
  'auth/auth-rules-federation': ['auth/auth-rules'],
  'auth/auth-rules-membership': ['auth/auth-rules'],
  'auth/auth-rules-power-levels': ['auth/auth-rules'],
  'auth/auth-rules-third-party-invite': ['auth/auth-rules'],
  'auth/power-levels': ['auth/auth-rules'],
  'signing/redaction': ['signing/redaction'],
  'room-versions': ['room-versions', 'signing/redaction'],
  'state-resolution/state-resolution-v1': [
    'state-resolution/state-resolution-v1',
    'state-resolution/state-resolution.test',
  ],
  'state-resolution/state-resolution-v2': [
    'state-resolution/state-resolution-v2',
    'state-resolution/state-resolution.test',
  ],
  'state-resolution/power-sort': ['state-resolution/power-sort'],
  'state-resolution/mainline-sort': ['state-resolution/mainline-sort'],
  'state-resolution/auth-chain': ['state-resolution/auth-chain'],
  'pdu-checks': ['pdu-checks'],
};
const EVERY_TEST = ['test/matrix', 'test/differential'];
/** All tests but those of speed: on a busy machine these fail, whatever was flipped. */
const TEST_NAMES = '^(?!.*is judged at once)(?!.*is resolved in seconds)';
/** A mutant may loop for ever; that is noticed, too. The tests of a file take a few seconds. */
const OWN_RUN_MS_MAX = 120_000;
/** All tests take half a minute on a quiet machine. */
const UNCHANGED_RUN_MS_MAX = 600_000;
/** How many times the time without a change all tests may take, since others may begin to use the machine meanwhile. */
const RUN_TIMES_MAX = 5;

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

/** What tests made of a mutant: the name of the first that failed, or nothing. */
type Outcome = { readonly kind: 'passed' | 'endless' } | { readonly kind: 'failed'; readonly test: string };

/** The parts of vitest's JSON report that name a failure. */
interface Report {
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly assertionResults: readonly { readonly status: string; readonly fullName: string }[];
  }[];
}

async function runTests(folder: string, tests: readonly string[], runMsMax: number): Promise<Outcome> {
  const file = join(folder, 'report.json');
  await rm(file, { force: true });
  const options = ['--testNamePattern', TEST_NAMES, '--bail', '1', '--reporter=json', `--outputFile.json=${file}`];
  const child = spawn(process.execPath, ['node_modules/vitest/vitest.mjs', 'run', ...options, ...tests], {
    cwd: folder,
    stdio: 'ignore',
    // A group of its own: a mutant that loops does so in a process that vitest has started.
    detached: true,
  });
  const timer = setTimeout(() => process.kill(-child.pid!, 'SIGKILL'), runMsMax);
  const [code] = (await once(child, 'exit')) as [number | null];
  clearTimeout(timer);
  if (code === null) return { kind: 'endless' };
  if (code === 0) return { kind: 'passed' };
  const text = await readFile(file, 'utf8').catch(() => undefined);
  const results = text === undefined ? [] : (JSON.parse(text) as Report).testResults;
  const [failed] = results
    .flatMap(({ assertionResults }) => assertionResults)
    .filter((test) => test.status === 'failed');
  // A file that cannot even be loaded has no tests to fail, and a test that eats all memory leaves no report.
  const broken = results.find(({ status }) => status === 'failed');
  return { kind: 'failed', test: failed?.fullName ?? (broken ? relative(folder, broken.name) : 'vitest itself') };
}

const folder = await mkdtemp(join(tmpdir(), 'rejoinder-mutation-'));
try {
  await copyProject(folder, ['src', 'test', 'scripts']);
  const started = performance.now();
  const unchanged = await runTests(folder, EVERY_TEST, UNCHANGED_RUN_MS_MAX);
  if (unchanged.kind === 'endless') throw new Error('without any change the tests take too long');
  if (unchanged.kind === 'failed') throw new Error(`without any change a test fails: ${unchanged.test}`);
  const everyRunMsMax = Math.max(OWN_RUN_MS_MAX, RUN_TIMES_MAX * (performance.now() - started));

  const originals = new Map<string, string>();
  for (const name of names) {
    originals.set(`src/matrix/${name}.ts`, await readFile(join(folder, `src/matrix/${name}.ts`), 'utf8'));
  }
  const random = createRandom(seed);
  const all = [...originals].flatMap(([file, source]) => mutantsOf(file, source));
  const chosen = all
    .map((mutant) => ({ mutant, rank: random.next() }))
    .sort((a, b) => a.rank - b.rank)
    .slice(0, sample)
    .map(({ mutant }) => mutant);
  console.log(`${all.length} single rules to flip in ${names.length} files; ${chosen.length} tried, seed ${seed}`);
  const counts = { survived: 0, elsewhere: 0, endless: 0 };
  for (const mutant of chosen) {
    const path = join(folder, mutant.file);
    await writeFile(path, mutant.text);
    const name = mutant.file.slice('src/matrix/'.length, -'.ts'.length);
    const own = (TESTS_OF[name] ?? []).map((test) => `test/matrix/${test}`);
    const where = `${mutant.file}:${mutant.line}  ${mutant.change}`;
    let outcome = await runTests(folder, own, OWN_RUN_MS_MAX);
    if (outcome.kind === 'passed') {
      outcome = await runTests(folder, EVERY_TEST, everyRunMsMax);
      if (outcome.kind === 'failed') {
        counts.elsewhere++;
        console.log(`elsewhere ${where}  noticed by: ${outcome.test}`);
      }
    }
    if (outcome.kind === 'passed') {
      counts.survived++;
      console.log(`survived  ${where}`);
    } else if (outcome.kind === 'endless') {
      counts.endless++;
      console.log(`endless   ${where}`);
    }
    await writeFile(path, originals.get(mutant.file)!);
  }
  const killed = chosen.length - counts.survived;
  const remarks = `${counts.elsewhere} by tests of other files, ${counts.endless} by never ending`;
  console.log(`${killed} killed (${remarks}), ${counts.survived} survived`);
  process.exitCode = counts.survived === 0 ? 0 : 1;
} finally {
  await rm(folder, { recursive: true, force: true });
}
