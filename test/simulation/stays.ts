/** Sequences by consecutive seeds, some side by side, each lane on a machine of its own. */
import { type Machines } from './machines.ts';
import { staysPlanOf } from './stays-plan.ts';
import { type StaysRan, playStays } from './stays-play.ts';

export interface StaysSeries {
  readonly first: number;
  readonly runs: number;
  readonly lanes: number;
}

export interface StaysResult {
  readonly failed: readonly StaysRan[];
  readonly counts: ReadonlyMap<string, number>;
}

export async function runStays(
  machines: Machines,
  { first, runs, lanes }: StaysSeries,
  onFailure: (ran: StaysRan) => void = () => undefined,
): Promise<StaysResult> {
  const seeds = Array.from({ length: runs }, (_, i) => first + i).reverse();
  const failed: StaysRan[] = [];
  const counts = new Map<string, number>();
  const lane = async (): Promise<void> => {
    const machine = await machines.open();
    for (let seed = seeds.pop(); seed !== undefined; seed = seeds.pop()) {
      const ran = await playStays(machine, staysPlanOf(seed));
      for (const [what, times] of ran.counts) counts.set(what, (counts.get(what) ?? 0) + times);
      if (ran.differences.length === 0) continue;
      failed.push(ran);
      onFailure(ran);
    }
    await machine.close();
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  return { failed, counts };
}
