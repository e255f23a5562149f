/**
 * `npm run test:mutation:resync -- [--runs N] [--only WORDS] [--lanes L]`: puts faults into a temporary copy of the project, one at a
 * time (mutation/resync-mutants.ts), and plays simulated rooms until one differs from the oracle: first the seed that is written
 * down for the fault, then all from 1 on. A seed that differs without the fault, too, finds nothing. L faults are tried side by side.
 * Prints a table of the faults, each with the seed that finds it and the first difference. Exits 1 if one survived N runs: then either generator or comparison has
 * a hole.
 */
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { openServer } from '../test/simulation/machines.ts';
import { type Ran } from '../test/simulation/run-plan.ts';
import { runSeries } from '../test/simulation/series.ts';
import { buildCopy, builtPath, builtSource } from './mutation/build-copy.ts';
import { PROJECT } from './mutation/copy-project.ts';
import { RESYNC_MUTANTS, type ResyncMutant, applied } from './mutation/resync-mutants.ts';

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
const mutants = RESYNC_MUTANTS.filter(({ name, kind }) => `${kind}: ${name}`.includes(values.only));
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
async function find(copy: string, { seed }: ResyncMutant): Promise<Ran | undefined> {
  const written = seed === undefined ? undefined : await firstDifference(copy, seed, 1);
  if (written !== undefined && (await isSound(written.plan.seed))) return written;
  for (let first = 1; first <= runs;) {
    const found = await firstDifference(copy, first, runs + 1 - first);
    if (found === undefined || (await isSound(found.plan.seed))) return found;
    first = found.plan.seed + 1;
  }
  return undefined;
}

function tell({ kind, name }: ResyncMutant, found: Ran | undefined): void {
  const [difference = ''] = found?.differences ?? [];
  const shown = difference.replaceAll(/\s+/g, ' ').slice(0, SHOWN_MAX);
  const by = found === undefined ? 'survived' : `seed ${found.plan.seed}: ${shown}`;
  console.log(`| ${kind} | ${name} | ${by.replaceAll('|', '/')} |`);
}

let survived = 0;
const left = mutants.toReversed();
/** Takes one fault after the other, each in the same copy. */
async function work(copy: string): Promise<void> {
  for (let mutant = left.pop(); mutant !== undefined; mutant = left.pop()) {
    const source = await readFile(join(PROJECT, mutant.file), 'utf8');
    const path = builtPath(copy, mutant.file);
    await writeFile(path, builtSource(applied(mutant, source)));
    const found = await find(copy, mutant);
    await writeFile(path, builtSource(source));
    if (found === undefined) survived += 1;
    tell(mutant, found);
  }
}

try {
  const copies = Array.from({ length: Math.min(lanes, mutants.length) }, (_, i) => join(folder, `broken-${i}`));
  await buildCopy(sound);
  for (const copy of copies) await cp(sound, copy, { recursive: true, verbatimSymlinks: true });
  console.log('| kind | fault | found by |\n| --- | --- | --- |');
  await Promise.all(copies.map(work));
  console.log(`\n${mutants.length - survived} found, ${survived} survived ${runs} runs each`);
  process.exitCode = survived === 0 ? 0 : 1;
} finally {
  await server.stop();
  await rm(folder, { recursive: true, force: true });
}
