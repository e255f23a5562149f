/**
 * Many rooms joined at once, and when each of them is joined and whole. The times are the journal's: whoever is watched
 * by a request a room would be measured with its watcher.
 */
import { setTimeout as delay } from 'node:timers/promises';
import pLimit from 'p-limit';
import { joinAnswer, stateAnswer } from '../../src/operator/answer-forms.ts';
import { type EventId, type RoomId } from '../../src/matrix/identifiers.ts';
import { stateDigest } from '../../src/matrix/state-digest.ts';
import { type DatabaseWrites, readWrites } from './database.ts';
import { startMeasuring } from './measured.ts';
import { monotonicUs, monotonicUsOf } from './monotonic.ts';
import { type OperatorCaller, operatorCaller, parsed } from './operator.ts';
import { type Use } from './process-watch.ts';
import { type Stage } from './stage.ts';

/** One cheap query each; the times do not depend on it. */
const LOOK_EVERY_MS = 250;
/** Without a further room becoming whole for so long something hangs. Longer than a heartbeat timeout and a retry. */
const STANDSTILL_MS_MAX = 120_000;
/** Rooms whose whole state is compared with the simulator's at a time. */
const COMPARED_AT_ONCE = 4;

/** One room's times, in seconds since the first join request was sent. */
export interface RoomTimes {
  readonly roomId: string;
  readonly asked: number;
  readonly answered: number;
  readonly whole: number;
}

export interface RoomsRun {
  readonly rooms: readonly RoomTimes[];
  readonly use: Use;
  readonly writes: DatabaseWrites;
  readonly walBytes: number;
  readonly requests: number;
}

/** Joins all rooms of the stage, `inFlight` requests at a time, and waits until all are whole and equal to the simulator's. */
export async function runRooms(stage: Stage, inFlight: number): Promise<RoomsRun> {
  const { simulator, operator, database, serverName } = stage;
  const caller = operatorCaller(operator);
  try {
    const stopMeasuring = await startMeasuring(stage);
    const fromUs = monotonicUs();
    const since = (atUs: number): number => (atUs - fromUs) / 1e6;
    const limit = pLimit(inFlight);
    const joins = simulator.rooms.map(({ alias }) =>
      limit(async () => {
        const asked = since(monotonicUs());
        const answer = await caller.ask('/rooms/join', { room: alias, user_id: `@bench:${serverName}`, via: [] });
        return { roomId: parsed(joinAnswer, alias, answer).room_id, asked, answered: since(answer.atUs) };
      }),
    );
    const joined = await Promise.race([Promise.all(joins), stage.failed]);
    await Promise.race([untilWhole(stage, joined.length), stage.failed]);

    const { requests: counts, ...measured } = await stopMeasuring();
    const requests = counts.reduce((sum, count) => sum + count.requests, 0);
    const wholeAt = await completions(stage);
    const rooms = joined.map((room) => ({ ...room, whole: since(wholeAt.get(room.roomId) ?? NaN) }));
    await compareAll(stage, caller);
    await stage.stopSystem();
    return { rooms, ...measured, writes: await readWrites(database), requests };
  } finally {
    await caller.close();
  }
}

async function untilWhole({ database }: Stage, rooms: number): Promise<void> {
  let whole = 0;
  for (let movedAt = performance.now(); whole < rooms;) {
    await delay(LOOK_EVERY_MS);
    const { rows } = await database.query<{ whole: string }>('SELECT count(*) AS whole FROM rooms WHERE NOT partial');
    const now = Number(rows[0]?.whole);
    if (now > whole) movedAt = performance.now();
    whole = now;
    if (performance.now() - movedAt > STANDSTILL_MS_MAX) {
      throw new Error(`${whole} of ${rooms} rooms are whole, and none became so for ${STANDSTILL_MS_MAX / 1_000} s`);
    }
  }
}

/** Room to the moment its completion was journalled, on the monotonic clock. */
async function completions({ database }: Stage): Promise<Map<string, number>> {
  const { rows } = await database.query<{ room: string; at: string }>(
    `SELECT room_id AS room, recorded_at AS at FROM journal WHERE type = 'ResyncCompleted'`,
  );
  return new Map(rows.map(({ room, at }) => [room, monotonicUsOf(Number(at))]));
}

/** Holds the whole states of rooms, all of the stage's unless told otherwise, against the simulator's. Throws where one differs. */
export async function compareAll(
  { simulator }: Stage,
  caller: OperatorCaller,
  roomIds: readonly RoomId[] = simulator.rooms.map(({ roomId }) => roomId),
): Promise<void> {
  const limit = pLimit(COMPARED_AT_ONCE);
  const compare = async (roomId: RoomId): Promise<void> => {
    const path = `/rooms/${encodeURIComponent(roomId)}/state?members=true`;
    const { state } = parsed(stateAnswer, path, await caller.ask(path));
    const truth = await simulator.digest(roomId);
    if (stateDigest(state.map(({ event_id: eventId }) => eventId as EventId)) !== truth.digest) {
      throw new Error(`${roomId} is not the simulator's: ${state.length} state events, it has ${truth.events}`);
    }
  };
  await Promise.all(roomIds.map((roomId) => limit(() => compare(roomId))));
}

/**
 * Jain's index of fairness: 1 when all had the same, 1/n when one had everything. Here of the times from a room's answer to
 * its being whole.
 *
 * Source: Jain, Chiu and Hawe, "A Quantitative Measure of Fairness", DEC Research Report TR-301, 1984.
 */
export function fairness(values: readonly number[]): number {
  const sum = values.reduce((of, value) => of + value, 0);
  return sum ** 2 / (values.length * values.reduce((of, value) => of + value ** 2, 0));
}
