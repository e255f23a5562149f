/** What `npm run bench:resync` prints of its runs: compact tables, plain text. */
import { type Share, type ThreadTime } from './cpu-profile.ts';
import { type StatementUse } from './database.ts';
import { type Limits } from './limits.ts';
import { type ProcessUse, type Use } from './process-watch.ts';
import { type ResyncRun, STEPS, type Step } from './resync-run.ts';
import { count, megabytes, percent, seconds, spreadOf, tableLines } from './table.ts';

/** Targets of the project at the sizes they are set for, in seconds, and of the worker's memory above idle. */
const TARGETS: Readonly<Record<number, Partial<Record<Step, string>>>> = {
  13_000: { 'join answered': '0.5', 'resync done: the room is whole': '10 (3)' },
  100_000: { 'resync done: the room is whole': '60 (20)' },
};
const WORKER_ABOVE_IDLE_MB_MAX = 300;

export interface MeasuredRun extends ResyncRun {
  readonly limits: Limits;
}

export function timelineLines(runs: readonly ResyncRun[], members: number): string[] {
  const targets = TARGETS[members];
  return tableLines(
    ['seconds since the join request', 'min', 'median', 'max', ...(targets === undefined ? [] : ['target (stretch)'])],
    STEPS.map((step) => [step, ...spread(runs.map(({ times }) => times[step])), targets?.[step] ?? '']),
  );
}

export function processLines(uses: readonly Use[]): string[] {
  const names = uses[0]?.processes.map(({ name }) => name) ?? [];
  const rows = names.map((name) => {
    const its = uses.flatMap(({ processes }) => processes.filter((use) => use.name === name));
    const most = (valueOf: (use: ProcessUse) => number): string => megabytes(Math.max(...its.map(valueOf)));
    return [
      name,
      ...spread(its.map(({ cpuSeconds }) => cpuSeconds)),
      most(({ idleBytes }) => idleBytes),
      most(({ peakBytes }) => peakBytes),
      most(({ idleBytes, peakBytes }) => peakBytes - idleBytes),
    ];
  });
  return [
    ...tableLines(
      ['processes', 'cpu s min', 'median', 'max', 'idle MB', 'peak MB', 'above idle'],
      [
        ...rows,
        ['this script', ...spread(uses.map(({ ownCpuSeconds }) => ownCpuSeconds))],
        ['everybody else on the machine', ...spread(uses.map(({ othersCpuSeconds }) => othersCpuSeconds))],
        ['withheld by the host', ...spread(uses.map(({ stolenSeconds }) => stolenSeconds))],
      ],
    ),
    `  (resident memory, the largest of all runs; target for the worker: at most ${WORKER_ABOVE_IDLE_MB_MAX} MB above idle)`,
  ];
}

/** Of one run: they differ by a handful. */
export function requestLines({ requests }: ResyncRun): string[] {
  const byEndpoint = new Map<string, { requests: number; bytes: number; failed: number; keyServers: number }>();
  for (const { endpoint, direction, requests: of, bodyBytes, failed, keyServers } of requests) {
    const name = direction === 'sent' ? `${endpoint} (pushed to us)` : endpoint;
    const sum = byEndpoint.get(name) ?? { requests: 0, bytes: 0, failed: 0, keyServers: 0 };
    byEndpoint.set(name, {
      requests: sum.requests + of,
      bytes: sum.bytes + bodyBytes,
      failed: sum.failed + failed,
      keyServers: sum.keyServers + keyServers,
    });
  }
  const rows = [...byEndpoint].sort(([, a], [, b]) => b.bytes - a.bytes);
  return tableLines(
    ['federation requests, last run', 'requests', 'MB', 'failed', 'keys of'],
    rows.map(([name, counts]) => [
      name,
      count(counts.requests),
      megabytes(counts.bytes),
      count(counts.failed),
      counts.keyServers === 0 ? '' : `${count(counts.keyServers)} servers`,
    ]),
  );
}

export function databaseLines({ writes, walBytes }: ResyncRun): string[] {
  return [
    ...tableLines(
      ['rows written, last run', 'inserted', 'updated', 'deleted'],
      writes.tables.map(({ table, inserted, updated, deleted }) => [table, ...[inserted, updated, deleted].map(count)]),
    ),
    `  ${count(writes.insertedAnywhere)} inserted in all, staging and catalogue included; write-ahead log ` +
      `${megabytes(walBytes)} MB; database ${megabytes(writes.sizeBytes)} MB`,
  ];
}

export function limitLines(runs: readonly MeasuredRun[]): string[] {
  const first = runs[0]!.limits;
  const rows = first.limits.map(({ step, done }, i) => [
    step,
    count(done),
    ...medians(runs.map(({ limits }) => limits.limits[i]!)),
  ]);
  const whole = spreadOf(runs.map(({ times }) => times['resync done: the room is whole'])).median;
  const two = spreadOf(runs.map(({ limits }) => limits.sum.twoCoresSeconds)).median;
  return [
    ...tableLines(
      ['physical limits, median s', 'done', 'one core', 'two cores'],
      [
        ...rows,
        ['the quickest of each: parse, hash, verify, COPY', '', ...medians(runs.map(({ limits }) => limits.sum))],
      ],
    ),
    `  (${count(first.events)} events, ${megabytes(first.bytes)} MB; COPY by one connection and by two, without any index; ` +
      `whole takes ${(whole / two).toFixed(1)} times the sum on two cores)`,
  ];
}

function medians(runs: readonly { readonly oneCoreSeconds: number; readonly twoCoresSeconds: number }[]): string[] {
  return [
    seconds(spreadOf(runs.map(({ oneCoreSeconds }) => oneCoreSeconds)).median, 3),
    seconds(spreadOf(runs.map(({ twoCoresSeconds }) => twoCoresSeconds)).median, 3),
  ];
}

/** What the extra pass under the profiler found. */
export interface SharesPass {
  readonly run: ResyncRun;
  readonly threads: readonly ThreadTime[];
  readonly workerPid: number;
  readonly servePid: number;
  readonly statements: { readonly allSeconds: number; readonly statements: readonly StatementUse[] } | undefined;
}

/**
 * The shares that the project is asked for, of the processor time of worker, serve and PostgreSQL. SQL is all of
 * PostgreSQL and the client's side of it in our processes; what profiles do not see (Temporal's core, the collector's
 * helpers, libuv's threads) is in the rest.
 */
export function shareLines(pass: SharesPass): string[] {
  const cpuOf = (name: string): number => pass.run.use.processes.find((use) => use.name === name)?.cpuSeconds ?? 0;
  const profiled = new Map<Share, number>();
  for (const { shares } of pass.threads) {
    for (const [share, of] of shares) profiled.set(share, (profiled.get(share) ?? 0) + of);
  }
  const own = cpuOf('worker') + cpuOf('serve');
  const busy = pass.threads.reduce((sum, { busySeconds }) => sum + busySeconds, 0);
  // Two threads that compete for one core are both busy; their shares are brought down to what they had of it.
  const scale = Math.min(1, own / busy);
  const postgres = cpuOf('PostgreSQL');
  const of = (share: Share): number => scale * (profiled.get(share) ?? 0);
  const sql = postgres + of('SQL client');
  const named = of('verification') + of('hashing') + of('parsing') + sql;
  const whole = own + postgres;
  const rows: [string, number][] = [
    ['verification', of('verification')],
    ['hashing and canonical JSON', of('hashing')],
    ['parsing and format', of('parsing')],
    ['SQL: PostgreSQL', postgres],
    ['SQL: the client in our processes', of('SQL client')],
    ['the rest', whole - named],
  ];
  const rest: Share[] = [
    'judging',
    'HTTP and TLS',
    'Temporal',
    'passing between threads',
    'telemetry and logs',
    'garbage collection',
    'other',
  ];
  const unseen = Math.max(0, own - busy);
  return [
    ...tableLines(
      ['shares of worker, serve and PostgreSQL', 'cpu s', 'share'],
      [
        ...rows.map(([name, cpu]) => [name, seconds(cpu), percent(cpu / whole)]),
        ...rest.map((share) => [`  ${share}`, seconds(of(share)), percent(of(share) / whole)]),
        ['  outside of JavaScript threads', seconds(unseen), percent(unseen / whole)],
      ],
    ),
    `  (an extra pass under the profiler, whole after ${seconds(pass.run.times['resync done: the room is whole'])} s; ` +
      `profiles ${seconds(busy)} s busy, processes ${seconds(own)} s on the processor)`,
  ];
}

export function threadLines({ threads, workerPid }: SharesPass): string[] {
  const blocks = threads
    .filter(({ busySeconds }) => busySeconds >= 0.05)
    .map(({ pid, thread, busySeconds, hottest }) =>
      tableLines(
        [`${pid === workerPid ? 'worker' : 'serve'}, ${thread} thread: ${seconds(busySeconds)} s busy`, 's'],
        hottest.map(({ name, file, seconds: took }) => [`${name}  ${file}`.trim(), seconds(took)]),
      ),
    );
  return blocks.flatMap((block) => [...block, '']);
}

export function statementLines({ statements }: Pick<SharesPass, 'statements'>): string[] {
  if (statements === undefined) return ['  (this PostgreSQL has no pg_stat_statements: no times of statements)'];
  return [
    ...tableLines(
      ['statements by time inside PostgreSQL', 's', 'calls', 'rows'],
      statements.statements.map(({ text, seconds: took, calls, rows }) => [
        text,
        seconds(took),
        count(calls),
        count(rows),
      ]),
    ),
    `  (all statements: ${seconds(statements.allSeconds)} s, waits included)`,
  ];
}

function spread(values: readonly number[]): string[] {
  const { min, median, max } = spreadOf(values);
  return [min, median, max].map((value) => seconds(value));
}
