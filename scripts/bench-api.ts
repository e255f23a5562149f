/**
 * `npm run bench:api`: what clients get, and when. Many requests wait for the members of a partial room: how much heap each holds,
 * beside a bare server that holds the same, and how soon all are answered; one request after the other of a whole room; first syncs,
 * of a big partial room and of many rooms; long polls that nothing wakes; and how soon a message is in another client's sync, alone
 * and while a big room is made whole, and how much longer that takes. The listener is a process of its own beside `serve`.
 *
 * Runs from dist (`npm run build`), as what it measures does. Linux only.
 */
import { cpus } from 'node:os';
import { type BlockedRun, runBlocked, runWhole } from './bench/api-run.ts';
import { resyncSeconds, runFirstSyncs, runIdle, runManyRooms, runTalk } from './bench/api-sync-run.ts';
import { readFlags } from './bench/flags.ts';
import { assertLinux } from './bench/proc.ts';
import { type Stage, openStage } from './bench/stage.ts';
import { count, percent, quantile, seconds, spreadOf, tableLines } from './bench/table.ts';

const SERVERS = 20;
const BIG_SERVERS = 4_000;
const PARTS = ['blocked', 'whole', 'first-sync', 'many-rooms', 'idle', 'talk'] as const;
type Part = (typeof PARTS)[number];

const sizes = { blocked: 2_000, 'blocked-members': 1_000, members: 13_000, 'big-members': 100_000 };
const amounts = { rooms: 1_000, syncs: 200, polls: 500, 'idle-seconds': 20, rate: 50, 'talk-seconds': 20 };
const flags = readFlags('bench:api', {
  numbers: { ...sizes, ...amounts, seed: 1, runs: 3 },
  switches: PARTS.map((part) => `only-${part}`),
  texts: [],
});
assertLinux();
const note = (line: string): void => console.error(`  ${line}`);

async function withStage<Result>(members: number, work: (stage: Stage) => Promise<Result>): Promise<Result> {
  const servers = Math.min(members >= sizes['big-members'] ? BIG_SERVERS : SERVERS, members);
  const stage = await openStage({
    seed: flags.number('seed'),
    residents: 2,
    rooms: [{ roomVersion: '11', members, servers, messages: 50 }],
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

async function runs<Result>(members: number, work: (stage: Stage) => Promise<Result>): Promise<Result[]> {
  const results: Result[] = [];
  for (let i = 0; i < flags.number('runs'); i += 1) results.push(await withStage(members, work));
  return results;
}

const row = (title: string, values: readonly number[], shown: (value: number) => string): string[] => {
  const { min, median, max } = spreadOf(values);
  return [title, shown(min), shown(median), shown(max)];
};
const head = ['', 'min', 'median', 'max'];
const fine = (value: number): string => seconds(value, 3);
const tell = (title: string, rows: string[][]): void => console.log(`\n${title}\n${tableLines(head, rows).join('\n')}`);

/** One row for the p50 and one for the p99 of each run. */
const quantileRows = (title: string, ofRuns: readonly (readonly number[])[]): string[][] =>
  [0.5, 0.99].map((share) =>
    row(
      `${title}, p${share * 100}, s`,
      ofRuns.map((values) => quantile(values, share)),
      fine,
    ),
  );

const MEASURED: Readonly<Record<Part, () => Promise<void>>> = {
  async blocked() {
    const members = flags.number('blocked-members');
    const measured = await runs(members, (stage) => runBlocked(stage, flags.number('blocked')));
    const of = (value: (run: BlockedRun) => number): number[] => measured.map(value);
    const bytes = count(measured[0]?.answerBytes ?? 0);
    tell(`${count(flags.number('blocked'))} requests for ${count(members)} members (${bytes} bytes) wait`, [
      row(
        'heap each, bytes',
        of(({ heapEach }) => heapEach),
        count,
      ),
      row(
        'heap each in a bare server, bytes',
        of(({ bareHeapEach }) => bareHeapEach),
        count,
      ),
      row(
        'difference, bytes',
        of(({ heapEach, bareHeapEach }) => heapEach - bareHeapEach),
        count,
      ),
      row(
        'completion to the last answer, s',
        of(({ answered }) => answered),
        seconds,
      ),
    ]);
  },
  async whole() {
    const members = flags.number('members');
    const { seconds: times, bytes } = await withStage(members, (stage) => runWhole(stage, flags.number('runs')));
    tell(`/members of ${count(members)} (${count(bytes)} bytes), one after the other`, [row('seconds', times, fine)]);
  },
  async 'first-sync'() {
    const members = flags.number('big-members');
    const measured = await runs(members, (stage) => runFirstSyncs(stage, flags.number('syncs')));
    tell(`first lazy /sync in a partial room of ${count(members)}`, quantileRows('one sync', measured));
  },
  async 'many-rooms'() {
    const rooms = flags.number('rooms');
    const times = await withStage(SERVERS, (stage) => runManyRooms(stage, rooms, flags.number('runs')));
    tell(`first lazy /sync of ${count(rooms)} rooms`, [row('seconds', times, fine)]);
  },
  async idle() {
    const polls = flags.number('polls');
    const shares = await runs(SERVERS, (stage) => runIdle(stage, polls, flags.number('idle-seconds')));
    tell(`${count(polls)} long polls that nothing wakes`, [row('of a core', shares, percent)]);
  },
  async talk() {
    const [rate, members] = [flags.number('rate'), flags.number('big-members')];
    const quiet = await runs(SERVERS, (stage) => runTalk(stage, rate, flags.number('talk-seconds')));
    const beside = await runs(members, (stage) => runTalk(stage, rate, 'while-resynced'));
    const alone = await runs(members, resyncSeconds);
    tell(`${count(rate)} messages a second, from PUT to another client's sync; ${count(members)} members resynced`, [
      ...quantileRows(
        'quiet',
        quiet.map(({ arrivals }) => arrivals),
      ),
      ...quantileRows(
        'beside a resync',
        beside.map(({ arrivals }) => arrivals),
      ),
      row(
        'that resync, s',
        beside.map(({ resync }) => resync ?? NaN),
        seconds,
      ),
      row('one without messages, s', alone, seconds),
    ]);
  },
};

const [core] = cpus();
console.log(`${cpus().length} cores, ${core?.model ?? 'unknown'}; Node ${process.versions.node}; all on this machine`);
const only = PARTS.filter((part) => flags.isSet(`only-${part}`));
for (const part of only.length > 0 ? only : PARTS) await MEASURED[part]();
