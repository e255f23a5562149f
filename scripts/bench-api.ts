/**
 * `npm run bench:api`: what clients get of a room's members. Many requests wait for a partial room: how much heap each holds, beside
 * a bare server that holds the same, and how soon all are answered. Then one request after the other of a whole room. The listener
 * is a process of its own beside `serve`; everything is started anew for each run of the first, and once for the second.
 *
 * Runs from dist (`npm run build`), as what it measures does. Linux only.
 */
import { cpus } from 'node:os';
import { type BlockedRun, runBlocked, runWhole } from './bench/api-run.ts';
import { readFlags } from './bench/flags.ts';
import { assertLinux } from './bench/proc.ts';
import { type Stage, openStage } from './bench/stage.ts';
import { count, seconds, spreadOf, tableLines } from './bench/table.ts';

const SERVERS = 20;

const flags = readFlags('bench:api', {
  numbers: { blocked: 2_000, 'blocked-members': 1_000, members: 13_000, seed: 1, runs: 3 },
  switches: ['only-blocked', 'only-whole'],
  texts: [],
});
assertLinux();
const note = (line: string): void => console.error(`  ${line}`);

async function withStage<Result>(members: number, work: (stage: Stage) => Promise<Result>): Promise<Result> {
  const stage = await openStage({
    seed: flags.number('seed'),
    residents: 2,
    rooms: [{ roomVersion: '11', members, servers: Math.min(SERVERS, members), messages: 50 }],
    durability: 'throw-away',
    workers: 1,
    note,
  });
  try {
    return await work(stage);
  } finally {
    await stage.close();
  }
}

const row = (title: string, values: readonly number[], shown: (value: number) => string): string[] => {
  const { min, median, max } = spreadOf(values);
  return [title, shown(min), shown(median), shown(max)];
};
const head = ['', 'min', 'median', 'max'];

const [core] = cpus();
console.log(`${cpus().length} cores, ${core?.model ?? 'unknown'}; Node ${process.versions.node}; all on this machine`);
if (!flags.isSet('only-whole')) {
  const runs: BlockedRun[] = [];
  for (let i = 0; i < flags.number('runs'); i++) {
    runs.push(await withStage(flags.number('blocked-members'), (stage) => runBlocked(stage, flags.number('blocked'))));
  }
  const answer = runs[0]?.answerBytes ?? 0;
  console.log(
    `\n${count(flags.number('blocked'))} requests for ${count(flags.number('blocked-members'))} members (${count(answer)} bytes) wait`,
  );
  const rows = [
    row(
      'heap each, bytes',
      runs.map(({ heapEach }) => heapEach),
      count,
    ),
    row(
      'heap each in a bare server, bytes',
      runs.map(({ bareHeapEach }) => bareHeapEach),
      count,
    ),
    row(
      'difference, bytes',
      runs.map(({ heapEach, bareHeapEach }) => heapEach - bareHeapEach),
      count,
    ),
    row(
      'completion to the last answer, s',
      runs.map(({ answered }) => answered),
      seconds,
    ),
  ];
  console.log(tableLines(head, rows).join('\n'));
}
if (!flags.isSet('only-blocked')) {
  const members = flags.number('members');
  const { seconds: times, bytes } = await withStage(members, (stage) => runWhole(stage, flags.number('runs')));
  console.log(`\n/members of ${count(members)} (${count(bytes)} bytes), one after the other`);
  console.log(tableLines(head, [row('seconds', times, (value) => seconds(value, 3))]).join('\n'));
}
