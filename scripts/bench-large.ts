/**
 * `npm run bench:large`: a room of a million members, made by the simulator while they are sent. How long until it is whole, and how much
 * the worker needs for it; then the same with a worker that is killed at random moments.
 *
 * Runs from dist (`npm run build`), as what it measures does. Linux only.
 */
import { writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { seededRandom } from '../src/simulator/seeded-random.ts';
import { readFlags } from './bench/flags.ts';
import { type LargeRun, runLarge } from './bench/large-run.ts';
import { assertLinux } from './bench/proc.ts';
import { processLines } from './bench/resync-report.ts';
import { openStage } from './bench/stage.ts';
import { count, megabytes, seconds } from './bench/table.ts';

/** People with a history, among whom the crowd is. */
const MEMBERS = 100;
const SERVERS = 50;
const WHOLE_SECONDS_MAX = 600;
const WORKER_ABOVE_IDLE_MB_MAX = 400;

const flags = readFlags('bench:large', {
  numbers: { members: 1_000_000, kills: 5, seed: 1 },
  switches: ['safe', 'no-kills'],
  texts: ['json'],
});
assertLinux();
const note = (line: string): void => console.error(`  ${line}`);
const members = flags.number('members');

async function run(killAt: readonly number[]): Promise<LargeRun> {
  const stage = await openStage({
    seed: flags.number('seed'),
    residents: 1,
    rooms: [{ roomVersion: '11', members: MEMBERS, servers: SERVERS, messages: 5, crowd: members - MEMBERS }],
    durability: flags.isSet('safe') ? 'safe' : 'throw-away',
    workers: 1,
    settings: { federation: { state_size_max: '4G' } },
    note,
  });
  try {
    return await runLarge(stage, killAt);
  } finally {
    await stage.close();
  }
}

const [core] = cpus();
console.log(`${cpus().length} cores, ${core?.model ?? 'unknown'}; Node ${process.versions.node}; all on this machine`);
console.log(`a room of ${count(members)} members, seed ${flags.number('seed')}`);
const clean = await run([]);
console.log(
  [
    `whole after ${seconds(clean.wholeSeconds, 1)} s (target: ${WHOLE_SECONDS_MAX}), ${count(clean.members)} members, a body of ${megabytes(clean.stateBytes)} MB`,
    ...processLines([clean.use]),
    `  (of this bench the worker's target is ${WORKER_ABOVE_IDLE_MB_MAX} MB above idle)`,
  ].join('\n'),
);
let killed: LargeRun | undefined;
if (!flags.isSet('no-kills')) {
  const random = seededRandom(flags.number('seed'), 'kills');
  const killAt = Array.from({ length: flags.number('kills') }, () => random.fraction() * clean.wholeSeconds);
  killed = await run(killAt.sort((a, b) => a - b));
  console.log(
    `\nkilled ${killed.killedAt.length} times, after ${killed.killedAt.map((at) => seconds(at, 1)).join(', ')} s: whole after ` +
      `${seconds(killed.wholeSeconds, 1)} s; ${killed.stateBodies} bodies of the state were asked for (target: one, and one for each kill while it comes)`,
  );
}
const file = flags.text('json');
if (file !== undefined) await writeFile(file, `${JSON.stringify({ members, clean, killed }, null, 2)}\n`);
