/** Makes a plan that fails short: takes out steps, many at a time first, as long as the rest still fails. */
import { type Machines } from './machines.ts';
import { type Plan, type Step } from './plan.ts';
import { type Ran, runPlan } from './run-plan.ts';

/** Runs of one shrinking; each takes about a second. */
const RUNS_MAX = 400;

/** @returns the shortest run that was found to fail, and the one given if none is shorter */
export async function shrink(machines: Machines, given: Ran, onShorter: (ran: Ran) => void): Promise<Ran> {
  let best = given;
  let runs = 0;
  const fails = async (plan: Plan): Promise<boolean> => {
    if (runs >= RUNS_MAX) return false;
    runs += 1;
    // Names and ids are those of the seed, so each try needs a database without them.
    const machine = await machines.open();
    try {
      const ran = await runPlan(machine, plan);
      if (ran.differences.length === 0) return false;
      best = ran;
      onShorter(ran);
      return true;
    } finally {
      await machine.close();
    }
  };
  const shorten = async (part: 'past' | 'steps'): Promise<boolean> => {
    const before = best.plan[part].length;
    for (let size = Math.ceil(before / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
      for (let at = best.plan[part].length - size; at > -size; at -= size) {
        const left: readonly Step[] = best.plan[part].filter((_, i) => i < at || i >= at + size);
        if (left.length < best.plan[part].length) await fails({ ...best.plan, [part]: left });
      }
    }
    return best.plan[part].length < before;
  };
  while ((await shorten('steps')) || (await shorten('past'))) if (runs >= RUNS_MAX) break;
  return best;
}
