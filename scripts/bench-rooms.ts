/**
 * `npm run bench:rooms`: many rooms joined at once, with one worker and with several. Whether all become whole, when, what
 * it costs, and how evenly the rooms are served. Each number of workers starts everything anew, with an empty database.
 *
 * Runs from dist (`npm run build`), as what it measures does. Linux only.
 */
import { writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { readFlags } from './bench/flags.ts';
import { assertLinux } from './bench/proc.ts';
import { processLines } from './bench/resync-report.ts';
import { type RoomTimes, type RoomsRun, fairness, runRooms } from './bench/rooms-run.ts';
import { openStage } from './bench/stage.ts';
import { count, megabytes, quantile, seconds, tableLines } from './bench/table.ts';

const ROOM_VERSION = '11';

const flags = readFlags('bench:rooms', {
  // `in-flight`: join requests at a time; more than rooms are all at once.
  numbers: { rooms: 200, members: 500, servers: 50, residents: 3, messages: 50, seed: 1, runs: 1, 'in-flight': 1_000 },
  switches: ['safe'],
  texts: ['workers', 'json'],
});
assertLinux();
const workerCounts = (flags.text('workers') ?? '1,3').split(',').map(Number);
if (!workerCounts.every((workers) => Number.isInteger(workers) && workers >= 1 && workers <= 16)) {
  console.error('--workers: expected numbers such as 1,3, each from 1 to 16');
  process.exit(2);
}

const note = (line: string): void => console.error(`  ${line}`);
const members = flags.number('members');
const shape = {
  roomVersion: ROOM_VERSION,
  members,
  servers: Math.min(flags.number('servers'), members),
  messages: flags.number('messages'),
};

interface Measured {
  readonly workers: number;
  readonly runs: readonly RoomsRun[];
}

async function measure(workers: number): Promise<Measured> {
  const runs: RoomsRun[] = [];
  for (let i = 1; i <= flags.number('runs'); i++) {
    note(`${workers} worker${workers === 1 ? '' : 's'}, run ${i} of ${flags.number('runs')}`);
    const stage = await openStage({
      seed: flags.number('seed'),
      residents: flags.number('residents'),
      rooms: Array.from({ length: flags.number('rooms') }, () => shape),
      durability: flags.isSet('safe') ? 'safe' : 'throw-away',
      workers,
      note,
    });
    try {
      runs.push(await runRooms(stage, flags.number('in-flight')));
    } finally {
      await stage.close();
    }
  }
  return { workers, runs };
}

function timeLines({ runs }: Measured): string[] {
  const row = (name: string, valueOf: (room: RoomTimes) => number, judge: (values: number[]) => string) =>
    runs.map(({ rooms }) => {
      const values = rooms.map(valueOf);
      return [name, ...[0, 0.5, 0.95, 1].map((share) => seconds(quantile(values, share))), judge(values)];
    });
  const nothing = (): string => '';
  return tableLines(
    ['seconds of a room', 'min', 'median', 'p95', 'max', 'fairness'],
    [
      ...row('asked to answered', ({ asked, answered }) => answered - asked, nothing),
      ...row(
        'answered to whole',
        ({ answered, whole }) => whole - answered,
        (values) => fairness(values).toFixed(3),
      ),
      ...row('first request to answered', ({ answered }) => answered, nothing),
      ...row(
        'first request to whole',
        ({ whole }) => whole,
        (values) => fairness(values).toFixed(3),
      ),
    ],
  );
}

function report({ workers, runs }: Measured): string[] {
  const last = runs.at(-1)!;
  const all = Math.max(...last.rooms.map(({ whole }) => whole));
  return [
    `${workers} worker${workers === 1 ? '' : 's'}: all ${count(last.rooms.length)} rooms whole after ${seconds(all)} s, ` +
      `${(last.rooms.length / all).toFixed(1)} rooms/s; each equal to the simulator's`,
    ...timeLines({ workers, runs }),
    ...processLines(runs.map(({ use }) => use)),
    `  ${count(last.requests)} federation requests; ${count(last.writes.tables.find(({ table }) => table === 'pdus')?.inserted ?? 0)} ` +
      `events stored; write-ahead log ${megabytes(last.walBytes)} MB`,
  ];
}

const measured: Measured[] = [];
for (const workers of workerCounts) measured.push(await measure(workers));

const [core] = cpus();
console.log(`${cpus().length} cores, ${core?.model ?? 'unknown'}; Node ${process.versions.node}; all on this machine`);
console.log(
  `${count(flags.number('rooms'))} rooms of ${count(members)} members on ${count(shape.servers)} servers, ` +
    `joined ${count(Math.min(flags.number('in-flight'), flags.number('rooms')))} at a time, seed ${flags.number('seed')}`,
);
for (const measurement of measured) console.log(`\n${report(measurement).join('\n')}`);
console.log("\n  (fairness: Jain's index of the rooms' times; 1: all the same)");

const file = flags.text('json');
if (file !== undefined) await writeFile(file, `${JSON.stringify({ shape, measured }, null, 2)}\n`);
