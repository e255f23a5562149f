/**
 * `npm run bench:receive`: messages of many members of a big room, pushed by their servers, fifty a transaction. First while
 * the room is partial and `/state_ids` hangs at every resident: how soon all are in the timeline, and how soon after the
 * answer the room is whole. Then the same in a room that is whole. Each run starts everything anew, with an empty database.
 *
 * Runs from dist (`npm run build`), as what it measures does. Linux only.
 */
import { writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { readFlags } from './bench/flags.ts';
import { assertLinux } from './bench/proc.ts';
import { type ReceiveRun, runReceive } from './bench/receive-run.ts';
import { processLines, statementLines } from './bench/resync-report.ts';
import { openStage } from './bench/stage.ts';
import { count, quantile, seconds, tableLines } from './bench/table.ts';

const ROOM_VERSION = '11';
/** So few that each has messages for whole transactions. */
const SERVERS = 20;

const flags = readFlags('bench:receive', {
  numbers: { members: 13_000, speakers: 500, messages: 1_000, residents: 3, seed: 1, runs: 1 },
  switches: ['safe'],
  texts: ['json', 'profile'],
});
assertLinux();

const note = (line: string): void => console.error(`  ${line}`);
const members = flags.number('members');
const shape = { roomVersion: ROOM_VERSION, members, servers: Math.min(SERVERS, members), messages: 50 };

async function measure(isPartial: boolean): Promise<ReceiveRun[]> {
  const runs: ReceiveRun[] = [];
  for (let i = 1; i <= flags.number('runs'); i++) {
    note(`${isPartial ? 'partial' : 'whole'} room, run ${i} of ${flags.number('runs')}`);
    const profile = flags.text('profile');
    const stage = await openStage({
      seed: flags.number('seed'),
      residents: flags.number('residents'),
      rooms: [shape],
      durability: flags.isSet('safe') ? 'safe' : 'throw-away',
      workers: 1,
      ...(profile === undefined ? {} : { profileDirectory: `${profile}/${isPartial ? 'partial' : 'whole'}-${i}` }),
      note,
    });
    try {
      const pushed = { speakers: flags.number('speakers'), messages: flags.number('messages') };
      runs.push(await runReceive(stage, { ...pushed, isPartial }));
    } finally {
      await stage.close();
    }
  }
  return runs;
}

function report(name: string, runs: readonly ReceiveRun[]): string[] {
  const row = (title: string, of: (run: ReceiveRun) => number | null): string[][] => {
    const values = runs.map(of).filter((value) => value !== null);
    return values.length === 0 ? [] : [[title, ...[0, 0.5, 1].map((share) => seconds(quantile(values, share)))]];
  };
  return [
    ...tableLines(
      [name, 'min', 'median', 'max'],
      [
        ...row('first transaction to all messages in the timeline', ({ taken }) => taken),
        ...row('first transaction to all answered', ({ answered }) => answered),
        ...row('answer of /state_ids to the room whole', ({ whole }) => whole),
      ],
    ),
    ...processLines(runs.map(({ use }) => use)),
    ...runs.flatMap((run) => (run.statements === undefined ? [] : ['', ...statementLines(run)])),
  ];
}

const partial = await measure(true);
const whole = await measure(false);
const [core] = cpus();
console.log(`${cpus().length} cores, ${core?.model ?? 'unknown'}; Node ${process.versions.node}; all on this machine`);
console.log(
  `${count(flags.number('messages'))} messages of ${count(flags.number('speakers'))} members, pushed into a room of ` +
    `${count(members)} on ${count(shape.servers)} servers, seed ${flags.number('seed')}`,
);
console.log(`\n${report('seconds, partial room', partial).join('\n')}`);
console.log(`\n${report('seconds, whole room', whole).join('\n')}`);

const file = flags.text('json');
if (file !== undefined) await writeFile(file, `${JSON.stringify({ shape, partial, whole }, null, 2)}\n`);
