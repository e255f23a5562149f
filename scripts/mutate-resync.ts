/**
 * `npm run test:mutation:resync -- [--runs N] [--only WORDS] [--lanes L]`, `npm run test:mutation:devices`: puts faults into a temporary copy
 * of the project, one at a time (mutation/resync-mutants.ts, mutation/device-mutants.ts), and plays simulated rooms until one differs from the oracle: first the seed that is written
 * down for the fault, then all from 1 on; or the test that is written down for it. A seed that differs without the fault, too, finds nothing. L faults are tried side by side.
 * Prints a table of the faults, each with the seed that finds it and the first difference. Exits 1 if one survived N runs: then either generator or comparison has
 * a hole.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { openServer } from '../test/simulation/machines.ts';
import { type Ran } from '../test/simulation/run-plan.ts';
import { runSeries } from '../test/simulation/series.ts';
import { buildCopy, builtPath, builtSource } from './mutation/build-copy.ts';
import { PROJECT, copyProject } from './mutation/copy-project.ts';
import { DEVICE_MUTANTS } from './mutation/device-mutants.ts';
import { type FindingTest, RESYNC_MUTANTS, type ResyncMutant, applied } from './mutation/resync-mutants.ts';

/** Characters of a difference that are shown. */
const SHOWN_MAX = 110;

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '300' },
    lanes: { type: 'string', default: String(availableParallelism()) },
    only: { type: 'string', default: '' },
  },
});
const [runs, lanes] = [values.runs, values.lanes].map(Number) as [number, number];
const mutants = [...RESYNC_MUTANTS, ...DEVICE_MUTANTS].filter(({ name, kind }) =>
  `${kind}: ${name}`.includes(values.only),
);
if (mutants.length === 0 || ![runs, lanes].every((value) => Number.isSafeInteger(value) && value > 0)) {
  console.error('usage: npm run test:mutation:resync -- [--runs N] [--lanes L] [--only WORDS]');
  process.exit(2);
}

const folder = await mkdtemp(join(tmpdir(), 'rejoinder-mutation-'));
const server = await openServer(join(folder, 'postgres'));
const sound = join(folder, 'sound');
/** Whether a seed differs without any fault. */
const soundness = new Map<number, boolean>();

/** Plays seeds until something differs; `undefined`: nothing did. */
async function firstDifference(copy: string, first: number, count: number): Promise<Ran | undefined> {
  const builtProcess = builtPath(copy, 'test/simulation/series-process.ts');
  const series = { databaseUrl: server.databaseUrl, first, runs: count, lanes: 1, processes: 1, builtProcess };
  const { failed } = await runSeries({ ...series, untilDifferent: true });
  return failed.toSorted((a, b) => a.plan.seed - b.plan.seed)[0];
}

async function isSound(seed: number): Promise<boolean> {
  const known = soundness.get(seed) ?? (await firstDifference(sound, seed, 1)) === undefined;
  soundness.set(seed, known);
  return known;
}

/** What finds the fault that is in a copy. */
async function find(copy: string, { foundBy }: ResyncMutant): Promise<Ran | undefined> {
  const written = typeof foundBy === 'number' ? await firstDifference(copy, foundBy, 1) : undefined;
  if (written !== undefined && (await isSound(written.plan.seed))) return written;
  for (let first = 1; first <= runs;) {
    const found = await firstDifference(copy, first, runs + 1 - first);
    if (found === undefined || (await isSound(found.plan.seed))) return found;
    first = found.plan.seed + 1;
  }
  return undefined;
}

function tell({ kind, name }: ResyncMutant, by: string): void {
  console.log(`| ${kind} | ${name} | ${by.replaceAll('|', '/')} |`);
}

function told({ plan, differences: [difference = ''] }: Ran): string {
  return `seed ${plan.seed}: ${difference.replaceAll(/\s+/g, ' ').slice(0, SHOWN_MAX)}`;
}

/** Whether a test of the copy passes; a title that no test has is one that does not. */
async function passes(copy: string, { file, title }: FindingTest): Promise<boolean> {
  const vitest = ['node_modules/vitest/vitest.mjs', 'run', '--project', 'pg', file, '--testNamePattern', title];
  const child = spawn(process.execPath, vitest, { cwd: copy, stdio: 'ignore' });
  const [code] = (await once(child, 'exit')) as [number | null];
  return code === 0;
}

let survived = 0;
const byTests = mutants.filter(({ foundBy }) => typeof foundBy === 'object');
const left = mutants.filter((mutant) => !byTests.includes(mutant)).toReversed();

/** Faults that tests find, one after the other, in a copy with the tests in it. */
async function workByTests(copy: string): Promise<void> {
  if (byTests.length === 0) return;
  await copyProject(copy, ['src', 'test', 'scripts', 'activities', 'workflows', 'migrations']);
  for (const mutant of byTests) {
    const { foundBy } = mutant;
    if (typeof foundBy !== 'object') continue;
    const source = await readFile(join(PROJECT, mutant.file), 'utf8');
    const isSoundThere = await passes(copy, foundBy);
    await writeFile(join(copy, mutant.file), applied(mutant, source));
    const isFound = isSoundThere && !(await passes(copy, foundBy));
    await writeFile(join(copy, mutant.file), source);
    if (!isFound) survived += 1;
    tell(
      mutant,
      isFound ? `${foundBy.file}: ${foundBy.title}` : isSoundThere ? 'survived' : 'its test fails without it',
    );
  }
}

/** Takes one fault after the other, each in the same copy. */
async function work(copy: string): Promise<void> {
  for (let mutant = left.pop(); mutant !== undefined; mutant = left.pop()) {
    const source = await readFile(join(PROJECT, mutant.file), 'utf8');
    const path = builtPath(copy, mutant.file);
    await writeFile(path, builtSource(applied(mutant, source)));
    const found = await find(copy, mutant);
    await writeFile(path, builtSource(source));
    if (found === undefined) survived += 1;
    tell(mutant, found === undefined ? 'survived' : told(found));
  }
}

try {
  const copies = Array.from({ length: Math.min(lanes, left.length) }, (_, i) => join(folder, `broken-${i}`));
  if (copies.length > 0) await buildCopy(sound);
  for (const copy of copies) await cp(sound, copy, { recursive: true, verbatimSymlinks: true });
  console.log('| kind | fault | found by |\n| --- | --- | --- |');
  await Promise.all(copies.map(work));
  await workByTests(join(folder, 'tested'));
  console.log(`\n${mutants.length - survived} found, ${survived} survived ${runs} runs each`);
  process.exitCode = survived === 0 ? 0 : 1;
} finally {
  await server.stop();
  await rm(folder, { recursive: true, force: true });
}
