/** One join of a room whose size is beyond what a simulator could hold: its members are made while they are sent. */
import { setTimeout as delay } from 'node:timers/promises';
import { joinAnswer } from '../../src/operator/answer-forms.ts';
import { startMeasuring } from './measured.ts';
import { monotonicUs, monotonicUsOf } from './monotonic.ts';
import { operatorCaller, parsed } from './operator.ts';
import { type Use } from './process-watch.ts';
import { type Stage } from './stage.ts';

const LOOK_EVERY_MS = 250;

export interface LargeRun {
  readonly wholeSeconds: number;
  /** Of the state's events, as the journal tells it; equal to the simulator's, or the run would have failed. */
  readonly members: number;
  readonly use: Use;
  readonly stateBodies: number;
  readonly stateBytes: number;
  /** The worker was killed so many times, at these seconds after the join. */
  readonly killedAt: readonly number[];
}

/** Joins the stage's room and waits until it is whole; kills the worker at these moments, seconds after the join. */
export async function runLarge(stage: Stage, killAt: readonly number[]): Promise<LargeRun> {
  const { simulator, operator, database, serverName } = stage;
  const [room] = simulator.rooms;
  // The ids are worked out once, which is no part of the join.
  const truth = await simulator.digest(room!.roomId);
  const caller = operatorCaller(operator);
  try {
    const stopMeasuring = await startMeasuring(stage);
    const fromUs = monotonicUs();
    const since = (): number => (monotonicUs() - fromUs) / 1e6;
    parsed(
      joinAnswer,
      'join',
      await caller.ask('/rooms/join', { room: room!.alias, user_id: `@bench:${serverName}`, via: [] }),
    );
    const killedAt: number[] = [];
    for (const kills = [...killAt]; ;) {
      const { rows } = await database.query<{ at: string }>(
        `SELECT recorded_at AS at FROM journal WHERE type = 'ResyncCompleted'`,
      );
      if (rows[0] !== undefined) {
        const wholeSeconds = (monotonicUsOf(Number(rows[0].at)) - fromUs) / 1e6;
        const { use, requests } = await stopMeasuring();
        const bodies = requests.filter(({ endpoint }) => endpoint === 'state');
        return {
          wholeSeconds,
          members: await membersOf(stage, truth.digest),
          use,
          stateBodies: bodies.reduce((sum, row) => sum + row.requests, 0),
          stateBytes: bodies.reduce((sum, row) => sum + row.bodyBytes, 0),
          killedAt,
        };
      }
      if (kills[0] !== undefined && since() > kills[0]) {
        kills.shift();
        killedAt.push(since());
        await stage.replaceWorker();
      }
      // A worker that is killed here ends "unasked": that is no failure of the run.
      await (killAt.length > 0 ? delay(LOOK_EVERY_MS) : Promise.race([delay(LOOK_EVERY_MS), stage.failed]));
    }
  } finally {
    await caller.close();
  }
}

/** Throws when the fetched state is not the one that the simulator has without our join. */
async function membersOf({ database }: Stage, digest: string): Promise<number> {
  const { rows } = await database.query<{ members: number; digest: string }>(
    `SELECT (data->'counts'->>'members')::int AS members, data->>'digest' AS digest FROM journal WHERE type = 'StateFetched'`,
  );
  const [fetched] = rows;
  if (fetched?.digest !== digest) {
    throw new Error(`the state is not the simulator's: ${fetched?.digest} and not ${digest}`);
  }
  return fetched.members;
}
