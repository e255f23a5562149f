/** One run of messages pushed into a room, and when they were taken in; compared with the simulator's room afterwards. */
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { type EventId, domainOf } from '../../src/matrix/identifiers.ts';
import { stateDigest } from '../../src/matrix/state-digest.ts';
import { type StatementUse, readStatements, watchStatements } from './database.ts';
import { startMeasuring } from './measured.ts';
import { monotonicUs, monotonicUsOf } from './monotonic.ts';
import { type OperatorCaller, operatorCaller, parsed } from './operator.ts';
import { type Use } from './process-watch.ts';
import { type Stage } from './stage.ts';

/** One cheap query each. */
const LOOK_EVERY_MS = 25;
const WAIT_MS_MAX = 300_000;
const STATEMENTS_SHOWN = 15;

const joinAnswer = z.object({ room_id: z.string(), partial: z.boolean() });
const stateList = z.object({ state: z.array(z.object({ event_id: z.string() })) });

export interface PushedMessages {
  readonly messages: number;
  readonly speakers: number;
  /** Pushed while `/state_ids` hangs; else into the whole room. */
  readonly isPartial: boolean;
}

/** Times in seconds. */
export interface ReceiveRun {
  /** From the first transaction on, until all messages were in the timeline. */
  readonly taken: number;
  /** Until their servers had an answer to all transactions. */
  readonly answered: number;
  /** From the answer of `/state_ids` until the room was whole; `null`: it was so before. */
  readonly whole: number | null;
  readonly use: Use;
  /** The longest from the first transaction on, where PostgreSQL counts statements; and the time of all. */
  readonly statements: StatementsOf | undefined;
}

export interface StatementsOf {
  readonly allSeconds: number;
  readonly statements: readonly StatementUse[];
}

/** Throws when a message is lost or rejected, or when the room does not become the simulator's. */
export async function runReceive(stage: Stage, pushed: PushedMessages): Promise<ReceiveRun> {
  const { simulator, operator } = stage;
  const room = simulator.rooms[0]!;
  const caller = operatorCaller(operator);
  try {
    const hanging = { fault: { kind: 'hold', at: { bytes: 1 } }, endpoint: 'state_ids' } as const;
    const hang = pushed.isPartial ? await simulator.inject(hanging) : undefined;
    const body = { room: room.alias, user_id: `@bench:${stage.serverName}`, via: [] };
    parsed(joinAnswer, 'join', await caller.ask('/rooms/join', body));
    if (hang === undefined) await until(stage, async () => isWhole(stage));
    else await Promise.race([hang.held(), stage.failed]);

    if (stage.countsStatements) await watchStatements(stage.database);
    const stopMeasuring = await startMeasuring(stage);
    const fromUs = monotonicUs();
    const eventIds = await emit(stage, pushed);
    const settled = simulator.pushesSettled().then(() => monotonicUs());
    await until(stage, async () => (await countTaken(stage, eventIds)) === eventIds.length);
    const takenUs = monotonicUs();
    const answeredUs = await settled;
    const releasedUs = monotonicUs();
    if (hang !== undefined) {
      await hang.remove();
      await hang.release();
      await until(stage, () => isWhole(stage));
    }
    const { use } = await stopMeasuring();
    const statements = stage.countsStatements ? await readStatements(stage.database, STATEMENTS_SHOWN) : undefined;
    const whole = hang === undefined ? null : ((await wholeAtUs(stage)) - releasedUs) / 1e6;
    await compare(stage, caller, eventIds);
    await stage.stopSystem();
    return { taken: (takenUs - fromUs) / 1e6, answered: (answeredUs - fromUs) / 1e6, whole, use, statements };
  } finally {
    await caller.close();
  }
}

/** Each speaker's messages one after the other, and each server's speakers, so that its transactions are full. */
async function emit({ simulator }: Stage, { messages, speakers }: PushedMessages): Promise<readonly EventId[]> {
  const { roomId } = simulator.rooms[0]!;
  const users = (await simulator.speakers(roomId, speakers)).toSorted((a, b) => (domainOf(a) < domainOf(b) ? -1 : 1));
  const drafts = Array.from({ length: messages }, (_, i) => ({
    sender: users[Math.floor((i * users.length) / messages)]!,
    type: 'm.room.message',
    content: { msgtype: 'm.text', body: `message ${String(i)} of the bench` },
  }));
  return simulator.emit(roomId, drafts);
}

async function until(stage: Stage, isSo: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + WAIT_MS_MAX;
  const look = async (): Promise<void> => {
    while (!(await isSo())) {
      if (performance.now() > deadline) throw new Error(`waited for ${WAIT_MS_MAX / 1_000} s in vain`);
      await delay(LOOK_EVERY_MS);
    }
  };
  await Promise.race([look(), stage.failed]);
}

async function isWhole({ database }: Stage): Promise<boolean> {
  const { rows } = await database.query('SELECT FROM rooms WHERE NOT partial AND current_state IS NOT NULL');
  return rows.length > 0;
}

/** Messages of the timeline that are accepted and shown. */
async function countTaken({ database }: Stage, eventIds: readonly EventId[]): Promise<number> {
  const { rows } = await database.query<{ taken: string }>(
    `SELECT count(*) AS taken FROM event_states WHERE event_id = ANY ($1::text[]) AND verdict = 'accepted' AND NOT soft_failed`,
    [eventIds],
  );
  return Number(rows[0]?.taken);
}

async function wholeAtUs({ database }: Stage): Promise<number> {
  const { rows } = await database.query<{ at: string }>(
    `SELECT recorded_at AS at FROM journal WHERE type = 'ResyncCompleted' ORDER BY position DESC LIMIT 1`,
  );
  return monotonicUsOf(Number(rows[0]?.at));
}

async function compare(stage: Stage, caller: OperatorCaller, eventIds: readonly EventId[]): Promise<void> {
  const { roomId } = stage.simulator.rooms[0]!;
  if ((await countTaken(stage, eventIds)) < eventIds.length) throw new Error('full state rejects what it should not');
  const path = `/rooms/${encodeURIComponent(roomId)}/state?members=true`;
  const { state } = parsed(stateList, path, await caller.ask(path));
  const truth = await stage.simulator.digest(roomId);
  if (stateDigest(state.map(({ event_id: eventId }) => eventId as EventId)) !== truth.digest) {
    throw new Error(`the room is not the simulator's: ${state.length} state events, it has ${truth.events}`);
  }
}
