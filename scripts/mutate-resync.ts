/**
 * `npm run test:mutation:resync -- [--runs N] [--only WORDS] [--lanes L]`: puts faults into a temporary copy of the project, one at a
 * time (mutation/resync-mutants.ts), and plays simulated rooms until one differs from the oracle. Prints a table of the faults, each
 * with the seed that finds it and the first difference. Exits 1 if one survived N runs: then either generator or comparison has
 * a hole.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { copyProject } from './mutation/copy-project.ts';
import { RESYNC_MUTANTS, type ResyncMutant, applied } from './mutation/resync-mutants.ts';

/** Characters of a difference that are shown. */
const SHOWN_MAX = 110;

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '120' },
    lanes: { type: 'string', default: '6' },
    only: { type: 'string', default: '' },
  },
});
const { runs, lanes, only } = values;
const mutants = RESYNC_MUTANTS.filter(({ name, kind }) => `${kind}: ${name}`.includes(only));
if (mutants.length === 0 || ![runs, lanes].every((value) => /^[1-9]\d*$/.test(value))) {
  console.error('usage: npm run test:mutation:resync -- [--runs N] [--lanes L] [--only WORDS]');
  process.exit(2);
}

interface Found {
  readonly seed: string;
  readonly difference: string;
}

/** Plays until something differs; `undefined`: nothing did. */
async function simulate(folder: string): Promise<Found | undefined> {
  const options = ['--runs', runs, '--lanes', lanes, '--until-different'];
  const child = spawn(process.execPath, ['--import', 'tsx', 'scripts/simulate.ts', ...options], {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let told = '';
  child.stdout.on('data', (part: Buffer) => (told += part.toString()));
  child.stderr.on('data', (part: Buffer) => (told += part.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  if (code === 0) return undefined;
  const found = /^seed (\d+) .*\n {2}(.*)$/m.exec(told);
  if (found?.[1] === undefined || found[2] === undefined) {
    throw new Error(`the simulation failed: ${told.slice(-2_000)}`);
  }
  return { seed: found[1], difference: found[2] };
}

function tell({ kind, name }: ResyncMutant, found: Found | undefined): void {
  const by = found === undefined ? 'survived' : `seed ${found.seed}: ${found.difference.slice(0, SHOWN_MAX)}`;
  console.log(`| ${kind} | ${name} | ${by.replaceAll('|', '/')} |`);
}

const folder = await mkdtemp(join(tmpdir(), 'rejoinder-mutation-'));
try {
  await copyProject(folder, ['src', 'activities', 'workflows', 'migrations', 'test', 'scripts']);
  console.log('| kind | fault | found by |\n| --- | --- | --- |');
  let survived = 0;
  for (const mutant of mutants) {
    const path = join(folder, mutant.file);
    const source = await readFile(path, 'utf8');
    await writeFile(path, applied(mutant, source));
    const found = await simulate(folder);
    await writeFile(path, source);
    if (found === undefined) survived += 1;
    tell(mutant, found);
  }
  console.log(`\n${mutants.length - survived} found, ${survived} survived ${runs} runs each`);
  process.exitCode = survived === 0 ? 0 : 1;
} finally {
  await rm(folder, { recursive: true, force: true });
}
