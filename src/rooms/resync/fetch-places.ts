/**
 * How many states a process fetches at a time, and how many it asks of one server: however slowly it sends, in however many rooms
 * it is asked, others have places too. Places go by turns, a server after the other, and to rooms first that
 * somebody waits for.
 *
 * A place is for what comes and is worked at, not for silence: servers take minutes before they begin to answer, and those that never
 * do, or send a byte now and then, would hold all places for as long as a request may last. So whoever was given next to nothing for a
 * while gives his place back, goes on waiting for his answer, and queues behind the others when it comes; until he has a place
 * again, nothing more of it is read. The server is asked for no more states meanwhile.
 */
import { type ServerName } from '../../matrix/identifiers.ts';
import { onAbort } from '../../on-abort.ts';
import { createTurns, takeTurn } from '../../turns.ts';

/** As long as a busy server may take for one of many small answers. */
const QUIET_MS = 15_000;
/** In that time. Some 4 KiB a second: a state of 100,000 members would take five hours. */
const GIVEN_BYTES_MIN = 64 * 1024;

/** There was no place for a request for as long as it waited. */
export class NoPlaceError extends Error {
  override readonly name = 'NoPlaceError';
}

export interface Waiting {
  /** Ends the wait, also that for a place that was given back; not the work. */
  readonly signal: AbortSignal;
  /** How long a place is waited for, milliseconds; absent: until there is one. */
  readonly waitMs?: number;
  /** Asked when a place is free: the smallest goes before others, most of the time; absent: by turns only. */
  readonly urgency?: () => number;
}

/** The place of one piece of work, which gives it back where nothing comes. */
export interface Place {
  readonly received: (bytes: number) => void;
  /** Something was done with what came. */
  readonly worked: () => void;
  /** To be awaited before more is read: absent, the place is held. Rejects with the reason of the signal that ends the wait. */
  readonly regained: () => Promise<void> | undefined;
}

export interface FetchPlaces {
  /**
   * Runs `work` when there is a place for one more request to the server.
   *
   * @throws NoPlaceError; the reason of `signal` when it is aborted before; whatever the work throws
   */
  run<Result>(server: ServerName, waiting: Waiting, work: (place: Place) => Promise<Result>): Promise<Result>;
}

/** Nothing is fetched yet. */
export function createFetchPlaces({ inAll, ofServer }: { inAll: number; ofServer: number }): FetchPlaces {
  /** Held for as long as the server is asked, quiet or not. */
  const atServer = createTurns(Number.POSITIVE_INFINITY, ofServer);
  const places = createTurns(inAll);
  return {
    async run(server, { signal, waitMs, urgency }, work) {
      const leaving = new AbortController();
      const forget = onAbort(signal, () => leaving.abort(signal.reason));
      if (signal.aborted) leaving.abort(signal.reason);
      const inVain = (): void => leaving.abort(new NoPlaceError(`${server} has its share of the places`));
      const timer = waitMs === undefined ? undefined : setTimeout(inVain, waitMs);
      const takePlace = (): Promise<() => void> => takeTurn(places, server, leaving.signal, urgency);
      try {
        const leaveServer = await takeTurn(atServer, server, leaving.signal, urgency);
        try {
          const { place, leave } = holdPlace(await takePlace(), takePlace);
          clearTimeout(timer);
          try {
            return await work(place);
          } finally {
            leave();
          }
        } finally {
          leaveServer();
        }
      } finally {
        clearTimeout(timer);
        forget();
        leaving.abort(new Error('the work is over'));
      }
    },
  };
}

/** `first` gives the place back that was had. */
function holdPlace(
  first: () => void,
  takeAgain: () => Promise<() => void>,
): { readonly place: Place; readonly leave: () => void } {
  let giveBack: (() => void) | undefined = first;
  let coming: Promise<void> | undefined;
  let isOver = false;
  let given = GIVEN_BYTES_MIN;
  const regained = (): Promise<void> | undefined => {
    if (giveBack !== undefined || isOver) return undefined;
    coming ??= takeAgain().then((release) => {
      given = GIVEN_BYTES_MIN;
      coming = undefined;
      if (isOver) release();
      else giveBack = release;
    });
    // Whoever only works on, and reads nothing, does not wait for it.
    coming.catch(() => undefined);
    return coming;
  };
  const look = (): void => {
    if (given < GIVEN_BYTES_MIN) {
      giveBack?.();
      giveBack = undefined;
    }
    given = 0;
  };
  const timer = setInterval(look, QUIET_MS);
  const place: Place = {
    received: (bytes) => {
      given += bytes;
    },
    worked: () => {
      given = GIVEN_BYTES_MIN;
      void regained();
    },
    regained,
  };
  const leave = (): void => {
    isOver = true;
    clearInterval(timer);
    giveBack?.();
  };
  return { place, leave };
}
