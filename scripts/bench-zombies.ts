/**
 * `npm run bench:zombies`: thousands of rooms whose state nobody gives, a fifth of them on one server that is out of reach.
 * What letting them wait costs, and how soon those of the dead server are whole when it is back.
 *
 * Runs from dist (`npm run build`), as what it measures does. Linux only.
 */
import { writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { readFlags } from './bench/flags.ts';
import { assertLinux } from './bench/proc.ts';
import { type ProcessUse } from './bench/process-watch.ts';
import { openStage } from './bench/stage.ts';
import { count, megabytes, percent, seconds, tableLines } from './bench/table.ts';
import { runZombies } from './bench/zombies-run.ts';

/** Longer than the run: what is measured is waiting, and no round of it. */
const RETRY = '24h';
const SHARE_OF_A_CORE_MAX = 0.03;

const flags = readFlags('bench:zombies', {
  numbers: { rooms: 5_000, dead: 1_000, members: 500, seconds: 60, 'in-flight': 50, seed: 1 },
  switches: ['safe'],
  texts: ['json'],
});
assertLinux();
const [rooms, dead] = [flags.number('rooms'), flags.number('dead')];
if (dead >= rooms) {
  console.error('--dead: expected fewer than --rooms');
  process.exit(2);
}
const note = (line: string): void => console.error(`  ${line}`);

const room = { roomVersion: '11', members: 1, servers: 1, messages: 1, crowd: flags.number('members') - 1 };
const stage = await openStage({
  seed: flags.number('seed'),
  residents: 2,
  rooms: Array.from({ length: rooms }, (_, i) => ({ ...room, residents: [i < rooms - dead ? 1 : 2] })),
  durability: flags.isSet('safe') ? 'safe' : 'throw-away',
  workers: 1,
  settings: { resync: { first_retry: RETRY, longest_retry: RETRY } },
  note,
});
try {
  const run = await runZombies(stage, {
    dead,
    idleSeconds: flags.number('seconds'),
    joinsInFlight: flags.number('in-flight'),
    note,
  });
  const { idle, back } = run;
  const shareOf = ({ cpuSeconds }: ProcessUse): number => cpuSeconds / idle.wallSeconds;
  const ours = idle.processes.filter(({ name }) => name === 'serve' || name === 'worker');
  const [core] = cpus();
  const lines = [
    `${cpus().length} cores, ${core?.model ?? 'unknown'}; Node ${process.versions.node}; all on this machine`,
    `${count(rooms)} rooms of ${count(flags.number('members'))} members, ${count(dead)} of them on one dead server, seed ${flags.number('seed')}`,
    `joined in ${seconds(run.joinSeconds, 1)} s; after ${seconds(run.untilWaitingSeconds, 1)} s all wait, and rest ${run.untilRestSeconds} s later; connections to the dead server for all its rooms: ${count(run.deadConnections)}`,
    '',
    `${seconds(idle.wallSeconds, 0)} s in which all wait`,
    ...tableLines(
      ['', 'of a core', 'MB'],
      idle.processes.map((use) => [use.name, percent(shareOf(use)), megabytes(use.idleBytes)]),
    ),
    `serve and worker together: ${percent(ours.reduce((sum, use) => sum + shareOf(use), 0))} of a core (target: under ${percent(SHARE_OF_A_CORE_MAX)})`,
    '',
    `the server is back, and says something in one room: it is asked after ${seconds(back.firstAsked)} s, by all ${count(dead)} rooms within ` +
      `${seconds(back.allAsked)} s (target: 60 after the first), and all are whole, each equal to the simulator's, after ${seconds(back.allWhole)} s (target: 300)`,
  ];
  console.log(lines.join('\n'));
  const file = flags.text('json');
  if (file !== undefined) await writeFile(file, `${JSON.stringify({ rooms, dead, ...run }, null, 2)}\n`);
} finally {
  await stage.close();
}
