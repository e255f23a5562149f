/**
 * The gauges of partial rooms and of what waits to be judged: asked of the database when somebody scrapes, but not at every
 * scrape, and never for long.
 */
import { type Gauge } from 'prom-client';
import { type Clock } from '../clock.ts';
import { type CorrectionsEverywhere } from '../store/events/corrections.ts';
import { type LackingEverywhere } from '../store/events/missing-events.ts';
import { type Backlog } from '../store/tables/staged-reads.ts';
import { type BacklogNumber, type PartialPhase } from './instruments.ts';

/** Several Prometheus servers, or a person who reloads a page, cost one query in this time. */
const KEPT_MS = 5_000;
/** Prometheus gives up after 10 s by default, and then it has none of the other numbers either. */
const QUERY_MS_MAX = 3_000;

/** Partial rooms in the database, by phase; phases without rooms are absent. */
export type CountPartialRooms = () => Promise<ReadonlyMap<string, number>>;

export interface PartialRoomsLogger {
  warn(fields: object, message: string): void;
}

const PHASES: Readonly<Record<PartialPhase, true>> = {
  fetching: true,
  waiting: true,
  parked: true,
  cancelled: true,
  walking: true,
};

/** What sets the gauge. While the database does not answer there is no number, which is better than an old one. */
export function collectPartialRooms(
  count: CountPartialRooms,
  clock: Clock,
  logger: PartialRoomsLogger,
): (gauge: Gauge<'phase'>) => Promise<void> {
  const ask = askNowAndThen(count, clock, logger, 'partial rooms cannot be counted; their metric is absent');
  return async (gauge) => {
    const counts = await ask();
    gauge.reset();
    if (counts === undefined) return;
    for (const phase of Object.keys(PHASES)) gauge.set({ phase }, counts.get(phase) ?? 0);
  };
}

/** What waits to be judged, or to be judged again, in all rooms, and what degraded rooms lack. */
export type BacklogEverywhere = Backlog & LackingEverywhere & CorrectionsEverywhere;

/** What sets the gauges of the backlog of all rooms, which share one question. */
export function collectBacklog(
  read: () => Promise<BacklogEverywhere>,
  clock: Clock,
  logger: PartialRoomsLogger,
): (gauge: Gauge, number: BacklogNumber) => Promise<void> {
  const ask = askNowAndThen(read, clock, logger, 'what is staged cannot be counted; its metrics are absent');
  const ageOf = (oldestAt: number | null): number =>
    oldestAt === null ? 0 : Math.max(0, clock.now() - oldestAt) / 1000;
  return async (gauge, number) => {
    const backlog = await ask();
    gauge.remove();
    if (backlog === undefined) return;
    const numbers: Readonly<Record<BacklogNumber, number>> = {
      staged: backlog.staged,
      stagedAge: ageOf(backlog.oldestStagedAt),
      gaps: backlog.gaps,
      gapsAge: ageOf(backlog.oldestGapAt),
      lacking: backlog.lacking,
      lackingAge: ageOf(backlog.oldestLackingSince),
      degraded: backlog.degraded,
      corrections: backlog.corrections,
      correctionsAge: ageOf(backlog.oldestCorrectionSince),
    };
    gauge.set(numbers[number]);
  };
}

/** Asks at most so often, and gives the last answer meanwhile; `undefined` while there is none. */
export function askNowAndThen<Answer>(
  question: () => Promise<Answer>,
  clock: Clock,
  logger: PartialRoomsLogger,
  complaint: string,
): () => Promise<Answer | undefined> {
  let asked: { readonly at: number; readonly answer: Promise<Answer | undefined> } | undefined;
  const ask = (): Promise<Answer | undefined> =>
    within(QUERY_MS_MAX, question()).catch((error: unknown) => {
      logger.warn({ err: error }, complaint);
      return undefined;
    });
  return () => {
    if (asked === undefined || Math.abs(clock.now() - asked.at) >= KEPT_MS) asked = { at: clock.now(), answer: ask() };
    return asked.answer;
  };
}

async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
