/**
 * Many rooms whose state nobody gives: those of one resident are refused it, those of another resident cannot even reach that one.
 * What it costs to let them wait, and how soon the latter are whole when their server is back. All are joined while the worker
 * stands still, so that every first round finds the residents as they are to be found.
 */
import { setTimeout as delay } from 'node:timers/promises';
import pLimit from 'p-limit';
import { joinAnswer } from '../../src/operator/answer-forms.ts';
import { type RoomId } from '../../src/matrix/identifiers.ts';
import { startMeasuring } from './measured.ts';
import { operatorCaller, parsed } from './operator.ts';
import { cpuSecondsOfTree } from './proc.ts';
import { type Use } from './process-watch.ts';
import { compareAll } from './rooms-run.ts';
import { type Stage } from './stage.ts';

const LOOK_EVERY_MS = 250;
/** Nothing more comes to wait, or becomes whole, for so long: something hangs. */
const STANDSTILL_MS_MAX = 300_000;
/** Of a core, in each of so many seconds in a row. */
const REST_SHARE_MAX = 0.1;
const REST_SECONDS = 12;
const REST_SECONDS_MAX = 300;

export interface ZombiesPlan {
  /** Of the rooms of the stage the last so many are on the dead resident, its second. */
  readonly dead: number;
  readonly idleSeconds: number;
  readonly joinsInFlight: number;
  readonly note: (line: string) => void;
}

export interface ZombiesRun {
  readonly joinSeconds: number;
  /** From when the worker went on until all rooms waited. */
  readonly untilWaitingSeconds: number;
  /** Connections to the dead resident until then, for all its rooms. */
  readonly deadConnections: number;
  /** From then until the worker had done what a round leaves to be done, such as its search attributes ten seconds later. */
  readonly untilRestSeconds: number;
  /** While all wait. */
  readonly idle: Use;
  /** After the resident was back: its first room asked, all of them had asked, all were whole. */
  readonly back: { readonly firstAsked: number; readonly allAsked: number; readonly allWhole: number };
}

export async function runZombies(stage: Stage, plan: ZombiesPlan): Promise<ZombiesRun> {
  const { simulator, operator, serverName, processes } = stage;
  const { note } = plan;
  const [refusing, dead] = simulator.residents;
  const worker = processes.find(({ name }) => name === 'worker')!.pid;
  const deadRooms = simulator.rooms.slice(-plan.dead);
  const caller = operatorCaller(operator);
  try {
    process.kill(worker, 'SIGSTOP');
    const began = performance.now();
    const limit = pLimit(plan.joinsInFlight);
    const joins = simulator.rooms.map(({ alias }) =>
      limit(async () => {
        const answer = await caller.ask('/rooms/join', { room: alias, user_id: `@bench:${serverName}`, via: [] });
        parsed(joinAnswer, alias, answer);
      }),
    );
    await Promise.race([Promise.all(joins), stage.failed]);
    const joinSeconds = (performance.now() - began) / 1_000;
    note(`${simulator.rooms.length} rooms joined after ${joinSeconds.toFixed(1)} s`);

    const fault = { kind: 'status', status: 404, errcode: 'M_NOT_FOUND' } as const;
    await simulator.inject({ fault, server: refusing!, endpoint: 'state_ids' });
    const down = await simulator.inject({ fault: { kind: 'down' }, server: dead! });
    const going = performance.now();
    process.kill(worker, 'SIGCONT');
    await until(
      stage,
      simulator.rooms.length,
      `SELECT count(*) AS done FROM resyncs WHERE phase IN ('waiting', 'parked')`,
    );
    const untilWaitingSeconds = (performance.now() - going) / 1_000;
    const deadConnections = await down.hits();
    note(`all wait after ${untilWaitingSeconds.toFixed(1)} s`);

    const untilRestSeconds = await untilAtRest(worker);
    note(`what their first round left is done after ${untilRestSeconds} s`);
    const stopMeasuring = await startMeasuring(stage);
    await delay(plan.idleSeconds * 1_000);
    const { use: idle } = await stopMeasuring();

    await down.remove();
    const [first] = deadRooms;
    const backAt = Date.now();
    // It speaks in one of its rooms, as a server that is back does.
    const [sender] = await simulator.speakers(first!.roomId, 1);
    const content = { body: 'I am back', msgtype: 'm.text' };
    await simulator.emit(first!.roomId, [{ sender: sender!, type: 'm.room.message', content }]);
    await until(stage, plan.dead, `SELECT count(*) AS done FROM rooms WHERE NOT partial`);
    const back = await timesOf(stage, backAt);
    await compareAll(
      stage,
      caller,
      deadRooms.map(({ roomId }) => roomId),
    );
    return { joinSeconds, untilWaitingSeconds, untilRestSeconds, deadConnections, idle, back };
  } finally {
    process.kill(worker, 'SIGCONT');
    await caller.close();
  }
}

/** Seconds until the process has been at rest for a while, or has not come to rest, which the measurement will tell. */
async function untilAtRest(pid: number): Promise<number> {
  let resting = 0;
  let seconds = 0;
  for (let before = cpuSecondsOfTree(pid); resting < REST_SECONDS && seconds < REST_SECONDS_MAX; seconds += 1) {
    await delay(1_000);
    const now = cpuSecondsOfTree(pid);
    resting = now - before < REST_SHARE_MAX ? resting + 1 : 0;
    before = now;
  }
  return seconds;
}

async function until({ database, failed }: Stage, wanted: number, query: string): Promise<void> {
  let done = 0;
  for (let movedAt = performance.now(); done < wanted;) {
    await Promise.race([delay(LOOK_EVERY_MS), failed]);
    const { rows } = await database.query<{ done: string }>(query);
    const now = Number(rows[0]?.done);
    if (now > done) movedAt = performance.now();
    done = now;
    if (performance.now() - movedAt > STANDSTILL_MS_MAX) {
      throw new Error(`${done} of ${wanted} rooms, and none more for ${STANDSTILL_MS_MAX / 1_000} s`);
    }
  }
}

/** By the journal, in seconds since the server was back. */
async function timesOf({ database }: Stage, backAt: number): Promise<ZombiesRun['back']> {
  const { rows } = await database.query<{ room: RoomId; asked: string; whole: string }>(
    `SELECT room_id AS room, min(recorded_at) FILTER (WHERE type = 'StateFetchStarted') AS asked,
            max(recorded_at) FILTER (WHERE type = 'ResyncCompleted') AS whole
       FROM journal WHERE recorded_at >= $1 AND room_id IN (SELECT room_id FROM rooms WHERE NOT partial)
      GROUP BY room_id`,
    [backAt],
  );
  const since = (at: string): number => (Number(at) - backAt) / 1_000;
  const asked = rows.map((row) => since(row.asked));
  return {
    firstAsked: Math.min(...asked),
    allAsked: Math.max(...asked),
    allWhole: Math.max(...rows.map((row) => since(row.whole))),
  };
}
