/** Writes the numbers of a running fetch for readers of the API, seldom enough to cost nothing, the last ones included. */
import { setTimeout as delay } from 'node:timers/promises';
import { type RoomsContext } from '../src/rooms/context.ts';
import { type FetchNumbers } from '../src/rooms/resync/fetch-progress.ts';
import { type FetchAttempt, deleteFetchProgress, writeFetchProgress } from '../src/store/tables/fetch-progress.ts';

/** A reader sees numbers at most so old; a fetch reports some ten times as often. */
const WRITE_EVERY_MS = 250;

export interface ProgressWriter {
  /** Returns at once; numbers that come faster than they are written replace each other. */
  readonly report: (numbers: FetchNumbers) => void;
  /** Ends the writing and takes the row away. Never rejects. */
  close(): Promise<void>;
}

export function createProgressWriter(
  { store, clock, logger }: Pick<RoomsContext, 'store' | 'clock' | 'logger'>,
  { roomId, epoch, attemptNo }: FetchAttempt,
): ProgressWriter {
  const attempt = { roomId, epoch, attemptNo };
  const closing = new AbortController();
  let latest: FetchNumbers | undefined;
  let writing: Promise<void> | undefined;

  const writeAll = async (): Promise<void> => {
    while (latest !== undefined && !closing.signal.aborted) {
      const numbers = latest;
      latest = undefined;
      await writeFetchProgress(store, { ...attempt, ...numbers, at: clock.now() }).catch((error: unknown) =>
        logger.debug({ err: error, roomId }, 'the progress of a fetch could not be written'),
      );
      await delay(WRITE_EVERY_MS, undefined, { signal: closing.signal }).catch(() => undefined);
    }
    writing = undefined;
  };

  return {
    report: (numbers) => {
      latest = numbers;
      writing ??= writeAll();
    },
    close: async () => {
      closing.abort();
      await writing;
      await deleteFetchProgress(store, attempt).catch((error: unknown) =>
        logger.debug({ err: error, roomId }, 'the progress of a fetch that is over could not be deleted'),
      );
    },
  };
}
