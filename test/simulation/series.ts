/** Runs by consecutive seeds, each in a room of its own of one database, and what they came to. */
import { type Plan, planOf } from './plan.ts';
import { compare } from './compare.ts';
import { Coverage } from './coverage.ts';
import { Play, Stuck } from './play.ts';
import { type Machines } from './machines.ts';
import { type Machine } from './process.ts';

export interface Ran {
  readonly plan: Plan;
  /** In words; empty: as it should be. */
  readonly differences: readonly string[];
  readonly delivered: number;
  readonly crashes: number;
  readonly coverage: Coverage;
  /** The events of the room and what was done with them, a line each. */
  readonly story: readonly string[];
}

/** Plays a plan and compares. Throws for faults of the simulation only. */
export async function runPlan(machine: Machine, plan: Plan): Promise<Ran> {
  const play = new Play(machine, plan);
  let differences: readonly string[] = [];
  let delivered = 0;
  try {
    await play.run();
    const compared = await compare(play);
    differences = compared.differences;
    delivered = compared.delivered;
  } catch (error) {
    if (!(error instanceof Stuck)) throw error;
    differences = [error.message];
  } finally {
    await play.end();
  }
  const { crashes, coverage } = play;
  return { plan, differences, delivered, crashes, coverage, story: differences.length > 0 ? storyOf(play) : [] };
}

/** What a series came to. */
export interface SeriesResult {
  readonly failed: readonly Ran[];
  readonly coverage: Coverage;
  /** In no order. */
  readonly delivered: readonly number[];
  readonly crashed: number;
}

/** Runs `first`, `first + 1` and so on, several side by side, each on a machine of its own. */
export async function runSeries(
  machines: Machines,
  { first, runs, lanes }: { readonly first: number; readonly runs: number; readonly lanes: number },
  onFailure: (ran: Ran) => void = () => undefined,
): Promise<SeriesResult> {
  const failed: Ran[] = [];
  const coverage = new Coverage();
  const delivered: number[] = [];
  let crashed = 0;
  let next = first;
  const lane = async (): Promise<void> => {
    let machine = await machines.open();
    try {
      while (next < first + runs) {
        const ran = await runPlan(machine, planOf(next++));
        coverage.add(ran.coverage);
        delivered.push(ran.delivered);
        if (ran.crashes > 0) crashed += 1;
        if (ran.differences.length === 0) continue;
        failed.push(ran);
        onFailure(ran);
        // Whatever it left is in nobody's way.
        await machine.close();
        machine = await machines.open();
      }
    } finally {
      await machine.close();
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  return { failed, coverage, delivered, crashed };
}

/** Each event with its place and what is true of it, in the order in which they were made; then what was asked of whom. */
function storyOf({ world, residents, pushed }: Play): string[] {
  const short = (id: string): string => id.slice(0, 8);
  const events = [...world.events.values()].map(
    ({ eventId, type, stateKey, sender, content, prevEvents, authEvents }) => {
      const how = pushed.has(eventId) ? 'pushed' : residents.given.has(eventId) ? 'given' : '';
      const what = type === 'm.room.member' ? `${JSON.stringify(content['membership'])} of ${stateKey ?? ''}` : type;
      const cites = `prev ${prevEvents.map(short).join()} auth ${authEvents.map(short).join()}`;
      return `${short(eventId)} ${sender}: ${what}; ${cites} ${world.truth.judgementOf(eventId).rule ?? ''} ${how}`;
    },
  );
  return [...events, ...residents.asked];
}
