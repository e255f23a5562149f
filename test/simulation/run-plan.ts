/** One run: a plan is played, and what came of it compared. */
import { compare } from './compare.ts';
import { type Coverage } from './coverage.ts';
import { type Plan } from './plan.ts';
import { Play, Stuck } from './play.ts';
import { type Machine } from './process.ts';
import { storyOf } from './story.ts';

export interface Ran {
  readonly plan: Plan;
  /** In words; empty: as it should be. */
  readonly differences: readonly string[];
  readonly delivered: number;
  readonly crashes: number;
  readonly coverage: Coverage;
  /** Of a run that differs, in lines. */
  readonly story: readonly string[];
}

/** Plays a plan and compares. What goes wrong otherwise is told as a difference, with where it went wrong. */
export async function runPlan(machine: Machine, plan: Plan): Promise<Ran> {
  const play = new Play(machine, plan);
  let differences: readonly string[] = [];
  let delivered = 0;
  let story: readonly string[] = [];
  try {
    await play.run();
    const compared = await compare(play);
    differences = compared.differences.length > 0 ? compared.differences : await play.clients.compare(compared.current);
    delivered = compared.delivered;
  } catch (error) {
    differences = [error instanceof Stuck ? error.message : `the simulation failed: ${stackOf(error)}`];
  }
  try {
    if (differences.length > 0) story = await storyOf(play);
  } finally {
    await play.end();
  }
  const { crashes, coverage } = play;
  return { plan, differences, delivered, crashes, coverage, story };
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
