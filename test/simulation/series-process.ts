/**
 * A process of a series (series.ts): plays the seeds that it is sent, as many at a time, each on a machine that no other run uses
 * meanwhile, and answers with what each came to.
 */
import { type OwnMachine, machinesOn } from './machines.ts';
import { planOf } from './plan.ts';
import { runPlan } from './run-plan.ts';
import { type FromSeriesProcess, type ToSeriesProcess } from './series.ts';

const [databaseUrl] = process.argv.slice(2);
if (databaseUrl === undefined) throw new Error('usage: series-process.ts DATABASE_URL');

const machines = machinesOn(databaseUrl);
const free: OwnMachine[] = [];

async function play(seed: number): Promise<void> {
  const machine = free.pop() ?? (await machines.open());
  const { coverage, ...ran } = await runPlan(machine, planOf(seed));
  if (ran.differences.length === 0) free.push(machine);
  // Whatever it left is in nobody's way.
  else await machine.close();
  process.send?.({ ran, counts: coverage.counts } satisfies FromSeriesProcess);
}

async function end(): Promise<void> {
  for (const machine of free) await machine.close();
  await machines.close();
  process.disconnect();
}

process.on('message', (message: ToSeriesProcess) => {
  void (message.type === 'run' ? play(message.seed) : end());
});
