/**
 * `npm run test:simulation -- [--runs N] [--seed S] [--lanes L] [--processes P] [--until-different] [--story] [--shrink]`: plays
 * simulated rooms by consecutive seeds against the real code over a PostgreSQL of its own, L at a time in P processes, and compares
 * each with an oracle (test/simulation/). Prints what differs, with the seed that shows it again, and what the series has covered;
 * with `--story` what was done and decided in a run that differs, with `--shrink` the shortest plan that still fails.
 * With `--stays` sequences of joins, leaves, kicks, bans, purges and deaths are played instead (test/simulation/stays-plan.ts), 200 where
 * nothing else is said, L side by side in this process.
 * Exits 1 if anything differed, or if a series of hundreds did not meet all that it has to (test/simulation/coverage.ts).
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { REQUIRED, RUNS_FOR_COVERAGE } from '../test/simulation/coverage.ts';
import { machinesOn, openServer } from '../test/simulation/machines.ts';
import { type Ran } from '../test/simulation/run-plan.ts';
import { runSeries } from '../test/simulation/series.ts';
import { shrink } from '../test/simulation/shrink.ts';
import { runStays } from '../test/simulation/stays.ts';

/** Differences printed of a run: the first ones mostly make the others. */
const TOLD_MAX = 5;

const { values } = parseArgs({
  options: {
    runs: { type: 'string' },
    seed: { type: 'string', default: '1' },
    lanes: { type: 'string', default: '6' },
    processes: { type: 'string', default: String(availableParallelism()) },
    'until-different': { type: 'boolean', default: false },
    story: { type: 'boolean', default: false },
    shrink: { type: 'boolean', default: false },
    stays: { type: 'boolean', default: false },
  },
});
const [runs, first, lanes, processes] = [
  values.runs ?? (values.stays ? '200' : '100'),
  values.seed,
  values.lanes,
  values.processes,
].map(Number) as [number, number, number, number];
if (![runs, first, lanes, processes].every((value) => Number.isSafeInteger(value) && value > 0)) {
  console.error(
    'usage: npm run test:simulation -- [--runs N] [--seed S] [--lanes L] [--processes P] [--until-different] [--story] [--shrink] [--stays]',
  );
  process.exit(2);
}

const folder = await mkdtemp(join(tmpdir(), 'rejoinder-simulation-'));
const server = await openServer(folder);
const started = performance.now();
try {
  if (values.stays) await playAllStays();
  else await playRooms();
} finally {
  await server.stop();
  await rm(folder, { recursive: true, force: true });
}

async function playAllStays(): Promise<void> {
  const machines = machinesOn(server.databaseUrl);
  try {
    const { failed, counts } = await runStays(machines, { first, runs, lanes }, ({ plan, differences, story }) => {
      console.log(`seed ${plan.seed} (version ${plan.version}, ${plan.leave}):`);
      for (const line of [...differences, ...(values.story ? story : [])]) console.log(`  ${line}`);
    });
    console.log(
      [...counts]
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([what, times]) => `${what}: ${times}`)
        .join('\n'),
    );
    const seconds = ((performance.now() - started) / 1_000).toFixed(1);
    console.log(`${runs} sequences from seed ${first}: ${failed.length} are not as they should be; ${seconds} s`);
    process.exitCode = failed.length > 0 ? 1 : 0;
  } finally {
    await machines.close();
  }
}

async function playRooms(): Promise<void> {
  const { failed, coverage, delivered, crashed } = await runSeries(
    { databaseUrl: server.databaseUrl, first, runs, lanes, processes, untilDifferent: values['until-different'] },
    tell,
  );
  console.log(coverage.lines().join('\n'));
  const median = delivered.toSorted((a, b) => a - b)[Math.floor(delivered.length / 2)] ?? 0;
  const seconds = ((performance.now() - started) / 1_000).toFixed(1);
  console.log(
    `${runs} runs from seed ${first}: ${failed.length} differ; a median of ${median} events delivered, ${crashed} with a crash; ${seconds} s`,
  );
  const lacking = coverage.lacking(REQUIRED);
  const isAsked = runs >= RUNS_FOR_COVERAGE;
  if (lacking.length > 0) console.log(`${isAsked ? 'LACKING' : 'not met by so few'}: ${lacking.join('; ')}`);
  process.exitCode = failed.length > 0 || (isAsked && lacking.length > 0) ? 1 : 0;
  if (values.shrink && failed.length > 0) await shrinkAll(failed);
}

function tell({ plan, delivered, differences, story }: Ran, isStoryTold = values.story): void {
  console.log(`seed ${plan.seed} (version ${plan.version}, ${delivered} delivered):`);
  for (const difference of differences.slice(0, TOLD_MAX)) console.log(`  ${difference}`);
  for (const line of isStoryTold ? story : []) console.log(`    ${line}`);
}

async function shrinkAll(failed: readonly Ran[]): Promise<void> {
  const machines = machinesOn(server.databaseUrl);
  try {
    for (const ran of failed) {
      const shortest = await shrink(machines, ran, ({ plan }) => {
        process.stderr.write(`seed ${plan.seed}: ${plan.past.length} + ${plan.steps.length} steps\n`);
      });
      tell(shortest, true);
    }
  } finally {
    await machines.close();
  }
}
