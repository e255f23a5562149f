/** One run: a plan is played, and what came of it compared. */
import { compare } from './compare.ts';
import { type Coverage } from './coverage.ts';
import { type Plan } from './plan.ts';
import { Play, Stuck } from './play.ts';
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

/** Plays a plan and compares. What goes wrong otherwise is told as a difference, with where it went wrong. */
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
    differences = [error instanceof Stuck ? error.message : `the simulation failed: ${stackOf(error)}`];
  } finally {
    await play.end();
  }
  const { crashes, coverage } = play;
  return { plan, differences, delivered, crashes, coverage, story: differences.length > 0 ? storyOf(play) : [] };
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
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
