/**
 * Runs by consecutive seeds, and what they came to. A series is spread over processes, since one has work for one core; each
 * run has a bound in real time, and one that does not end takes its process with it and is told by its seed.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { Coverage } from './coverage.ts';
import { planOf } from './plan.ts';
import { type Ran } from './run-plan.ts';

/** Of one run, while others run beside it on a machine that is busy besides; alone it takes a second. */
const RUN_MS_MAX = 5 * 60_000;
/** A run makes some hundred MB of what it needs for a moment. */
const HEAP = ['--max-semi-space-size=64'];
const SERIES_PROCESS = fileURLToPath(new URL('series-process.ts', import.meta.url));

export type ToSeriesProcess = { readonly type: 'run'; readonly seed: number } | { readonly type: 'end' };

export interface FromSeriesProcess {
  readonly ran: Omit<Ran, 'coverage'>;
  /** The counts of its coverage. */
  readonly counts: ReadonlyMap<string, number>;
}

export interface Series {
  /** Of the server's superuser. */
  readonly databaseUrl: string;
  readonly first: number;
  readonly runs: number;
  /** Runs side by side, in as many processes as there are cores. */
  readonly lanes: number;
  /** Nothing new is begun once a run has differed. */
  readonly untilDifferent?: boolean;
  /** `test/simulation/series-process.js` of a built copy of the project, whose code is played; from source, of this one, when absent. */
  readonly builtProcess?: string;
  /** As many as there are cores when absent. */
  readonly processes?: number;
}

/** What a series came to. */
export interface SeriesResult {
  readonly failed: readonly Ran[];
  readonly coverage: Coverage;
  /** In no order. */
  readonly delivered: readonly number[];
  readonly crashed: number;
}

/** Runs `first`, `first + 1` and so on. */
export async function runSeries(
  series: Series,
  onFailure: (ran: Ran) => void = () => undefined,
): Promise<SeriesResult> {
  const { first, runs } = series;
  const failed: Ran[] = [];
  const coverage = new Coverage();
  const delivered: number[] = [];
  let crashed = 0;
  const seeds = Array.from({ length: runs }, (_, i) => first + i).reverse();
  const take = (ran: Ran): void => {
    coverage.add(ran.coverage);
    delivered.push(ran.delivered);
    if (ran.crashes > 0) crashed += 1;
    if (ran.differences.length === 0) return;
    failed.push(ran);
    onFailure(ran);
    if (series.untilDifferent === true) seeds.length = 0;
  };
  const processes = Math.min(series.lanes, series.processes ?? availableParallelism());
  const lanes = Math.ceil(series.lanes / processes);
  const work = async (): Promise<void> => {
    while (seeds.length > 0) {
      const running = new RunningProcess({ ...series, lanes }, seeds, take);
      await running.ended;
    }
  };
  await Promise.all(Array.from({ length: processes }, work));
  return { failed, coverage, delivered, crashed };
}

/** A process of a series, until there are no seeds any more or one of its runs does not end. */
class RunningProcess {
  readonly ended: Promise<void>;
  readonly #child: ChildProcess;
  readonly #seeds: number[];
  readonly #take: (ran: Ran) => void;
  readonly #timers = new Map<number, NodeJS.Timeout>();

  constructor(
    { databaseUrl, lanes, builtProcess }: Pick<Series, 'databaseUrl' | 'lanes' | 'builtProcess'>,
    seeds: number[],
    take: (ran: Ran) => void,
  ) {
    this.#seeds = seeds;
    this.#take = take;
    this.#child = fork(builtProcess ?? SERIES_PROCESS, [databaseUrl], {
      execArgv: [...HEAP, ...(builtProcess === undefined ? ['--import', 'tsx'] : [])],
      serialization: 'advanced',
    });
    this.#child.on('message', (message: FromSeriesProcess) => {
      this.#hear(message);
    });
    for (let lane = 0; lane < lanes; lane += 1) this.#next();
    this.ended = new Promise((resolve, reject) => {
      this.#child.once('error', reject);
      this.#child.once('exit', (code, signal) => {
        // Killed by us, or by itself: what was under way is tried again, but for what did not end.
        for (const [seed, timer] of this.#timers) {
          clearTimeout(timer);
          this.#seeds.push(seed);
        }
        if (code === 0 || signal === 'SIGKILL') resolve();
        else reject(new Error(`a process of the simulation ended with ${code ?? signal ?? ''}`));
      });
    });
  }

  #next(): void {
    const seed = this.#seeds.pop();
    if (seed === undefined) {
      if (this.#timers.size === 0) this.#send({ type: 'end' });
      return;
    }
    this.#timers.set(
      seed,
      setTimeout(() => this.#giveUp(seed), RUN_MS_MAX),
    );
    this.#send({ type: 'run', seed });
  }

  #hear({ ran, counts }: FromSeriesProcess): void {
    const { seed } = ran.plan;
    clearTimeout(this.#timers.get(seed));
    this.#timers.delete(seed);
    const coverage = new Coverage();
    for (const [what, times] of counts) coverage.count(what, times);
    this.#take({ ...ran, coverage });
    this.#next();
  }

  #giveUp(seed: number): void {
    this.#timers.delete(seed);
    const differences = [`the run did not end within ${RUN_MS_MAX / 1_000} s`];
    const nothing = { delivered: 0, crashes: 0, coverage: new Coverage(), story: [] };
    this.#take({ plan: planOf(seed), differences, ...nothing });
    this.#child.kill('SIGKILL');
  }

  #send(message: ToSeriesProcess): void {
    if (this.#child.connected) this.#child.send(message);
  }
}
