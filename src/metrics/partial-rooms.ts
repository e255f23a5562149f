/** The gauge of partial rooms: asked of the database when somebody scrapes, but not at every scrape, and never for long. */
import { type Gauge } from 'prom-client';
import { type Clock } from '../clock.ts';
import { type PartialPhase } from './instruments.ts';

/** Several Prometheus servers, or a person who reloads a page, cost one query in this time. */
const KEPT_MS = 5_000;
/** Prometheus gives up after 10 s by default, and then it has none of the other numbers either. */
const QUERY_MS_MAX = 3_000;

/** Partial rooms in the database, by phase; phases without rooms are absent. */
export type CountPartialRooms = () => Promise<ReadonlyMap<string, number>>;

export interface PartialRoomsLogger {
  warn(fields: object, message: string): void;
}

const PHASES: Readonly<Record<PartialPhase, true>> = { fetching: true, waiting: true, walking: true };

/** What sets the gauge. While the database does not answer there is no number, which is better than an old one. */
export function collectPartialRooms(
  count: CountPartialRooms,
  clock: Clock,
  logger: PartialRoomsLogger,
): (gauge: Gauge<'phase'>) => Promise<void> {
  let asked: { readonly at: number; readonly answer: Promise<ReadonlyMap<string, number> | undefined> } | undefined;
  const ask = (): Promise<ReadonlyMap<string, number> | undefined> =>
    within(QUERY_MS_MAX, count()).catch((error: unknown) => {
      logger.warn({ err: error }, 'partial rooms cannot be counted; their metric is absent');
      return undefined;
    });
  return async (gauge) => {
    if (asked === undefined || Math.abs(clock.now() - asked.at) >= KEPT_MS) asked = { at: clock.now(), answer: ask() };
    const counts = await asked.answer;
    gauge.reset();
    if (counts === undefined) return;
    for (const phase of Object.keys(PHASES)) gauge.set({ phase }, counts.get(phase) ?? 0);
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
