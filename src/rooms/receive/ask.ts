/** The requests of one errand, within what it may spend. */
import { type RequestOptions } from '../../federation/contract.ts';
import { FederationError } from '../../federation/error.ts';
import { type ServerName } from '../../matrix/identifiers.ts';
import { type FailureClass } from '../../resync/events.ts';
import { type RoomsContext } from '../context.ts';
import { type HealthView, viewHealth } from '../resync/destination-health.ts';
import { ANSWER_BYTES_MAX, type Spending } from './budgets.ts';

/** One server's time: another may know, too. */
const REQUEST_MS_MAX = 5_000;

/** What is said of answers only that have begun: as long as they may be, where nobody knows how long they were. */
const BEGAN: ReadonlySet<FailureClass> = new Set(['too-large', 'malformed']);

/** An errand under way: what it may spend, and what it has learned of those it asked. */
export interface Asking {
  readonly spending: Spending;
  readonly health: HealthView;
  /**
   * What the server answered, an event or events for the most part; `undefined`: nothing of use, nothing may be asked any more, or it is left alone by
   * all rooms, or by this errand since it was silent. Throws for faults of ours only.
   */
  readonly ask: <Answer extends object>(
    server: ServerName,
    request: (options: RequestOptions) => Promise<Answer>,
  ) => Promise<Answer | undefined>;
}

/** Nothing is asked yet, and nobody looked at. */
export function beginAsking(context: RoomsContext, spending: Spending): Asking {
  const health = viewHealth(context);
  /** Did not answer in time: an errand has no time for a second try, nor for each of many things that one server may know. */
  const silent = new Set<ServerName>();
  return {
    spending,
    health,
    async ask(server, request) {
      if (silent.has(server) || !spending.mayAsk(server)) return undefined;
      const timeUp = AbortSignal.timeout(REQUEST_MS_MAX);
      const signal = AbortSignal.any([spending.signal, timeUp]);
      /** Of this answer, of use or not; `undefined`: it has not begun, as far as is known. */
      let came: number | undefined;
      const options = (heard: () => void): RequestOptions => ({
        signal,
        bytesMax: ANSWER_BYTES_MAX,
        onReceived: (bytes) => {
          heard();
          came = (came ?? 0) + bytes;
        },
      });
      try {
        const answer = await health.ask(server, (heard) => request(options(heard)));
        came ??= bytesOf(answer);
        return answer;
      } catch (error) {
        if (!(error instanceof FederationError) && !signal.aborted) throw error;
        if (signal.aborted) silent.add(server);
        if (timeUp.aborted) spending.wasSilent(server);
        if (error instanceof FederationError && BEGAN.has(error.kind)) came ??= ANSWER_BYTES_MAX;
        context.logger.debug({ err: error }, 'a server could not help with a pushed event');
        return undefined;
      } finally {
        spending.received(server, came ?? 0);
      }
    },
  };
}

/** Of events; what else is asked for is small. */
function bytesOf(answer: object): number {
  const events: readonly unknown[] = Array.isArray(answer) ? answer : [answer];
  return events.reduce<number>((sum, event) => sum + (event instanceof Uint8Array ? event.length : 0), 0);
}
