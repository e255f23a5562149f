/** One run of clients that ask for the members of a room: many who wait for a partial one, and one after the other of a whole one. */
import { setTimeout as delay } from 'node:timers/promises';
import { joinAnswer } from '../../src/operator/answer-forms.ts';
import { type Listener, startListener } from './api-listener.ts';
import { monotonicUs, monotonicUsOf } from './monotonic.ts';
import { operatorCaller, parsed } from './operator.ts';
import { type Stage } from './stage.ts';

const LOOK_EVERY_MS = 25;
const WAIT_MS_MAX = 900_000;

/** Bytes are of one waiting request, times in seconds. */
export interface BlockedRun {
  readonly heapEach: number;
  readonly bareHeapEach: number;
  /** From the journalled completion until the last byte of the last answer. */
  readonly answered: number;
  readonly answerBytes: number;
}

/** Requests begun at a time: more connections than a listener's backlog has places for are reset on a busy machine. */
const BEGUN_AT_ONCE = 100;

/** Heap that each of `count` requests takes while it is held. */
async function hold(
  listener: Listener,
  roomId: string,
  count: number,
): Promise<{ each: number; answers: Promise<number[]> }> {
  const before = await listener.ask();
  const begun: Promise<number>[] = [];
  while (begun.length < count) {
    const more = Math.min(BEGUN_AT_ONCE, count - begun.length);
    for (let i = 0; i < more; i += 1) begun.push(listener.members(roomId));
    // One that is answered should have waited; those of a bare server fail when it is closed.
    const first = Promise.race(begun);
    first.catch(() => undefined);
    await Promise.race([first, until(async () => (await listener.ask()).waiting === begun.length)]);
  }
  const answers = Promise.all(begun);
  answers.catch(() => undefined);
  return { each: ((await listener.ask()).heapBytes - before.heapBytes) / count, answers };
}

/** Joins the stage's room, whose state a resident holds back until `count` requests for its members wait. */
export async function runBlocked(stage: Stage, count: number): Promise<BlockedRun> {
  const { simulator } = stage;
  const hang = await simulator.inject({ fault: { kind: 'hold', at: { bytes: 1 } }, endpoint: 'state_ids' });
  const roomId = await join(stage);
  await Promise.race([hang.held(), stage.failed]);
  const bare = await startListener('bare', stage.serverName);
  const bareEach = (await hold(bare, roomId, count)).each;
  bare.close();
  const listener = await startListener(stage.databaseUrl, stage.serverName);
  try {
    const { each, answers } = await hold(listener, roomId, count);
    await hang.remove();
    await hang.release();
    const lengths = await Promise.race([answers, stage.failed]);
    const endedUs = monotonicUs();
    const answered = (endedUs - (await wholeAtUs(stage))) / 1e6;
    return { heapEach: each, bareHeapEach: bareEach, answered, answerBytes: Math.max(...lengths) };
  } finally {
    listener.close();
  }
}

/** Seconds that each of `times` requests for the members of the stage's room takes once it is whole, and the bytes of one. */
export async function runWhole(stage: Stage, times: number): Promise<{ seconds: number[]; bytes: number }> {
  const roomId = await join(stage);
  const listener = await startListener(stage.databaseUrl, stage.serverName);
  try {
    let bytes = await Promise.race([listener.members(roomId), stage.failed]);
    const seconds: number[] = [];
    for (let i = 0; i < times; i++) {
      const from = performance.now();
      bytes = await listener.members(roomId);
      seconds.push((performance.now() - from) / 1_000);
    }
    return { seconds, bytes };
  } finally {
    listener.close();
  }
}

/** Joins the stage's room; gives its id. */
export async function join({ simulator, operator, serverName }: Stage): Promise<string> {
  const caller = operatorCaller(operator);
  try {
    const body = { room: simulator.rooms[0]!.alias, user_id: `@bench:${serverName}`, via: [] };
    return parsed(joinAnswer, 'join', await caller.ask('/rooms/join', body)).room_id;
  } finally {
    await caller.close();
  }
}

/** Looks every 25 ms. */
export async function until(isSo: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + WAIT_MS_MAX;
  while (!(await isSo())) {
    if (performance.now() > deadline) throw new Error(`waited for ${WAIT_MS_MAX / 1_000} s in vain`);
    await delay(LOOK_EVERY_MS);
  }
}

/** When the stage's room was whole, by the clock of `monotonicUs`. */
export async function wholeAtUs({ database }: Stage): Promise<number> {
  const { rows } = await database.query<{ at: string }>(
    `SELECT recorded_at AS at FROM journal WHERE type = 'ResyncCompleted' ORDER BY position DESC LIMIT 1`,
  );
  return monotonicUsOf(Number(rows[0]?.at));
}
