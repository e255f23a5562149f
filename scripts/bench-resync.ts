/**
 * `npm run bench:resync`: how long a join of a big room takes, and the resync that makes it whole, with what it costs. Each
 * run starts everything anew, with an empty database and no keys (scripts/bench/stage.ts); beside each run stand the
 * physical limits of the machine over the same events. One more pass runs under the profiler, for the shares of the work.
 *
 * Runs from dist (`npm run build`), as what it measures does. Linux only.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { readProfiles } from './bench/cpu-profile.ts';
import { readStatements } from './bench/database.ts';
import { readFlags } from './bench/flags.ts';
import { measureLimits } from './bench/limits.ts';
import { assertLinux } from './bench/proc.ts';
import {
  type MeasuredRun,
  type SharesPass,
  databaseLines,
  limitLines,
  processLines,
  requestLines,
  shareLines,
  statementLines,
  threadLines,
  timelineLines,
} from './bench/resync-report.ts';
import { runResync } from './bench/resync-run.ts';
import { type Stage, type StageOptions, openStage } from './bench/stage.ts';
import { count, megabytes, seconds } from './bench/table.ts';

const ROOM_VERSION = '11';
const STATEMENTS_SHOWN = 10;

const flags = readFlags('bench:resync', {
  // As #element:matrix.org when the Synapse team measured it. `latency` is milliseconds before each answer, `bandwidth`
  // bytes a second of each connection; 0: as quick as it goes.
  numbers: { members: 13_000, servers: 1_300, residents: 3, messages: 200, seed: 1, runs: 3, latency: 0, bandwidth: 0 },
  switches: ['safe', 'skip-shares', 'hot'],
  texts: ['json'],
});
assertLinux();

const note = (line: string): void => console.error(`  ${line}`);
const members = flags.number('members');
const options: StageOptions = {
  seed: flags.number('seed'),
  residents: flags.number('residents'),
  rooms: [
    {
      roomVersion: ROOM_VERSION,
      members,
      servers: Math.min(flags.number('servers'), members),
      messages: flags.number('messages'),
    },
  ],
  ...(flags.number('latency') > 0 ? { latencyMs: flags.number('latency') } : {}),
  ...(flags.number('bandwidth') > 0 ? { bytesPerSecond: flags.number('bandwidth') } : {}),
  durability: flags.isSet('safe') ? 'safe' : 'throw-away',
  workers: 1,
  note,
};

async function onStage<Result>(given: StageOptions, act: (stage: Stage) => Promise<Result>): Promise<Result> {
  const stage = await openStage(given);
  try {
    return await act(stage);
  } finally {
    await stage.close();
  }
}

function describe({ simulator, postgresMajor }: Stage): string {
  const [room] = simulator.rooms;
  const [core] = cpus();
  return [
    `${cpus().length} cores, ${core?.model ?? 'unknown'}; Node ${process.versions.node}, PostgreSQL ${postgresMajor} ` +
      `(${options.durability === 'safe' ? 'durable' : 'without fsync'}), Temporal, simulator: all on this machine`,
    `${count(room?.members ?? 0)} members on ${count(room?.servers ?? 0)} servers, ${simulator.residents.length} residents, ` +
      `version ${ROOM_VERSION}, seed ${options.seed}: ${count(room?.stateEvents ?? 0)} state events, ` +
      `${megabytes(room?.stateBytes ?? 0)} MB`,
  ].join('\n');
}

/** The same run once more, with profiles of serve and worker and with statements counted: slower, and not timed. */
async function sharesPass(): Promise<SharesPass> {
  const profileDirectory = await mkdtemp(join(tmpdir(), 'rejoinder-profiles-'));
  try {
    return await onStage({ ...options, profileDirectory }, async (stage) => {
      const run = await runResync(stage);
      const pidOf = (name: string): number => stage.processes.find((process) => process.name === name)?.pid ?? 0;
      return {
        run,
        threads: await readProfiles(profileDirectory, run.window),
        workerPid: pidOf('worker'),
        servePid: pidOf('serve'),
        statements: stage.countsStatements ? await readStatements(stage.database, STATEMENTS_SHOWN) : undefined,
      };
    });
  } finally {
    await rm(profileDirectory, { recursive: true, force: true });
  }
}

const runs: MeasuredRun[] = [];
let scene = '';
for (let i = 1; i <= flags.number('runs'); i++) {
  note(`run ${i} of ${flags.number('runs')}`);
  const run = await onStage(options, async (stage) => {
    scene = describe(stage);
    const measured = await runResync(stage);
    return { ...measured, limits: await measureLimits(stage.databaseUrl, ROOM_VERSION) };
  });
  if (run.failedAttempts > 0) note(`failed state fetches before: ${run.failedAttempts}`);
  note(`whole after ${seconds(run.times['resync done: the room is whole'])} s, equal to the simulator's room`);
  runs.push(run);
}
const last = runs.at(-1)!;
console.log(scene);
console.log(
  `${runs.length} runs, each equal to the simulator's room: ${count(last.stateEvents)} state events, ` +
    `${count(last.joinedMembers)} joined, digest ${last.digest.slice(0, 12)}…`,
);
const blocks = [
  timelineLines(runs, members),
  processLines(runs.map(({ use }) => use)),
  requestLines(last),
  databaseLines(last),
  limitLines(runs),
];
for (const block of blocks) console.log(`\n${block.join('\n')}`);

let shares: SharesPass | undefined;
if (!flags.isSet('skip-shares')) {
  note('one more pass, under the profiler');
  shares = await sharesPass();
  console.log(`\n${shareLines(shares).join('\n')}`);
  if (flags.isSet('hot')) console.log(`\n${[...threadLines(shares), ...statementLines(shares)].join('\n')}`);
}

const file = flags.text('json');
if (file !== undefined) {
  // A Map is no JSON.
  const threads = shares?.threads.map((thread) => ({ ...thread, shares: Object.fromEntries(thread.shares) }));
  const passes = shares === undefined ? undefined : { ...shares, threads };
  await writeFile(
    file,
    `${JSON.stringify({ scene: scene.split('\n'), options: options.rooms, runs, shares: passes }, null, 2)}\n`,
  );
}
