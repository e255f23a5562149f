/**
 * How many states a process fetches at a time, and of these how many from one server: however slowly it sends, in however many rooms
 * it is asked, others have places too. Places go by turns, a server after the other, and to rooms first that
 * somebody waits for.
 */
import { createTurns } from '../../federation/turns.ts';
import { type ServerName } from '../../matrix/identifiers.ts';
import { onAbort } from '../../on-abort.ts';

/** There was no place for a request for as long as it waited. */
export class NoPlaceError extends Error {
  override readonly name = 'NoPlaceError';
}

export interface Waiting {
  /** Ends the wait; not the work. */
  readonly signal: AbortSignal;
  /** How long a place is waited for, milliseconds; absent: until there is one. */
  readonly waitMs?: number;
  /** Asked when a place is free: it goes before others, most of the time. */
  readonly isUrgent?: () => boolean;
}

export interface FetchPlaces {
  /**
   * Runs `work` when there is a place for one more request to the server.
   *
   * @throws NoPlaceError; the reason of `signal` when it is aborted before; whatever the work throws
   */
  run<Result>(server: ServerName, waiting: Waiting, work: () => Promise<Result>): Promise<Result>;
}

/** Nothing is fetched yet. */
export function createFetchPlaces({ inAll, ofServer }: { inAll: number; ofServer: number }): FetchPlaces {
  const turns = createTurns(inAll, ofServer);
  return {
    run: (server, { signal, waitMs, isUrgent }, work) =>
      new Promise((resolve, reject) => {
        let hasLeft = signal.aborted;
        const leave = (reason: Error): void => {
          hasLeft = true;
          stopWaiting();
          reject(reason);
        };
        const forget = onAbort(signal, () => leave(signal.reason as Error));
        const inVain = (): void => leave(new NoPlaceError(`${server} has its share of the places`));
        const timer = waitMs === undefined ? undefined : setTimeout(inVain, waitMs);
        const stopWaiting = (): void => {
          clearTimeout(timer);
          forget();
        };
        if (hasLeft) {
          leave(signal.reason as Error);
          return;
        }
        const begin = async (): Promise<void> => {
          if (hasLeft) return;
          stopWaiting();
          await work().then(resolve, reject);
        };
        turns.run(server, begin, isUrgent);
      }),
  };
}
