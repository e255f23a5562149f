/** The frame of a measured run: everything still and counted from zero, then what was used until it ends. */
import { type RequestCount } from '../../src/simulator/contract.ts';
import { resetWrites, walBytes } from './database.ts';
import { type Use, settled, watchProcesses } from './process-watch.ts';
import { type Stage } from './stage.ts';

export interface Measured {
  readonly use: Use;
  /** Of the write-ahead log. */
  readonly walBytes: number;
  readonly requests: readonly RequestCount[];
}

/** Resolves when the run may begin; what it gives ends it. */
export async function startMeasuring({ simulator, database, processes }: Stage): Promise<() => Promise<Measured>> {
  await settled(processes);
  await simulator.resetCounts();
  await resetWrites(database);
  const walBefore = await walBytes(database);
  const stopWatching = watchProcesses(processes);
  return async () => {
    const use = stopWatching();
    return { use, walBytes: (await walBytes(database)) - walBefore, requests: await simulator.counts() };
  };
}
