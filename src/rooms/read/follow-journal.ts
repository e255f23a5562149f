/**
 * The journal for third parties: pages on demand, and followers. A follower has a position and nothing else: he takes the
 * next entries when he has room for them, from the shared tail, or by pages of his own while he is further behind. So a slow
 * one costs a page of memory, and one who went away nothing.
 */
import { type JournalPage, readJournalPage } from '../../store/journal/journal-pages.ts';
import { readHead } from '../../store/journal/journal.ts';
import { type RoomsContext } from '../context.ts';
import { type JournalFilter, type JournalPart, type JournalReads } from '../contract.ts';
import { RoomError } from '../error.ts';
import { JournalTail } from './journal-tail.ts';

/** Entries handed to a follower at once: some 50 KB. */
const FOLLOWED_AT_ONCE_MAX = 100;
/** Followers of one process: each holds a connection and, while he is slow, a hundred entries. */
const FOLLOWERS_MAX = 200;
const RETRY_MS = 30_000;
/** Whom there is nothing to tell is told so, and how far the journal was looked through for him. */
const HEARTBEAT_MS = 15_000;

export interface JournalReadsOptions {
  readonly followersMax?: number;
  readonly heartbeatMs?: number;
}

/** What the operator API reads of the journal, of all rooms. */
export function journalReads(
  context: Pick<RoomsContext, 'store' | 'notifier' | 'clock' | 'logger'>,
  { followersMax = FOLLOWERS_MAX, heartbeatMs = HEARTBEAT_MS }: JournalReadsOptions = {},
): JournalReads {
  const { store, clock, logger } = context;
  const tail = new JournalTail(context);
  const followers = new Set<object>();
  let turn: Promise<unknown> = Promise.resolve();

  /** One page at a time for all who are behind: they must not take every connection of the store. */
  const pageInTurn = (after: number, filter: JournalFilter, signal: AbortSignal): Promise<JournalPage> => {
    const read = turn.then(() => {
      signal.throwIfAborted();
      return readJournalPage(store, { ...filter, after, limit: FOLLOWED_AT_ONCE_MAX });
    });
    turn = read.catch(() => undefined);
    return read;
  };

  /** What comes after a position, which may be nothing yet: it waits for that, but not for what is wanted. */
  const partAfter = async (
    after: number,
    filter: JournalFilter,
    signal: AbortSignal,
    waitMs: number,
  ): Promise<JournalPart> => {
    const newer = tail.since(after);
    if (newer === undefined) {
      const page = await pageInTurn(after, filter, signal);
      // Whoever was the last may have gone, and this one with him.
      if (page.next === page.head && !signal.aborted) tail.start(page.head);
      return page;
    }
    if (newer.length === 0) await tail.wait(waitMs, signal);
    const some = newer.slice(0, FOLLOWED_AT_ONCE_MAX);
    return { entries: some.filter(isWanted(filter)), next: some.at(-1)?.position ?? after };
  };

  async function* partsAfter(from: number, filter: JournalFilter, signal: AbortSignal): AsyncGenerator<JournalPart> {
    let after = from;
    // At once, so that he knows where he stands before anything happens.
    yield { entries: [], next: after };
    let dueAt = clock.now() + heartbeatMs;
    const isOver = (): boolean => signal.aborted;
    while (!isOver()) {
      const { entries, next } = await partAfter(after, filter, signal, dueAt - clock.now()).catch((error: unknown) => {
        if (isOver()) return { entries: [], next: after };
        throw error;
      });
      after = next;
      if (isOver() || (entries.length === 0 && clock.now() < dueAt)) continue;
      yield { entries, next };
      dueAt = clock.now() + heartbeatMs;
    }
  }

  return {
    page: async ({ after, limit, ...filter }) => {
      if (after === 'now') {
        const head = await readHead(store);
        return { entries: [], next: head, head };
      }
      const page = await readJournalPage(store, { ...filter, after, limit });
      requireWithin(after, page.head);
      return page;
    },
    follow: async ({ after, ...filter }, signal) => {
      signal.throwIfAborted();
      if (followers.size >= followersMax) {
        const options = { retryAfterMs: RETRY_MS };
        throw new RoomError('too-many', `${followersMax} readers follow the journal here; try again later`, options);
      }
      const follower = {};
      const leave = (): void => {
        if (followers.delete(follower) && followers.size === 0) tail.stop();
      };
      followers.add(follower);
      signal.addEventListener('abort', leave, { once: true });
      try {
        const head = await readHead(store);
        const from = after === 'now' ? head : after;
        requireWithin(from, head);
        signal.throwIfAborted();
        return followed(partsAfter(from, filter, signal), leave, (position) =>
          logger.warn({ position }, 'a reader of the journal took nothing for too long and was cut'),
        );
      } catch (error) {
        leave();
        throw error;
      }
    },
  };
}

/** A position that was never given is of another journal, or of one that was lost. */
function requireWithin(after: number, head: number): void {
  if (after <= head) return;
  throw new RoomError('invalid', `from: position ${after} is beyond the newest one, ${head}`);
}

function isWanted({ roomId, types }: JournalFilter): (entry: JournalPage['entries'][number]) => boolean {
  return (entry) =>
    (roomId === undefined || entry.roomId === roomId) && (types === undefined || types.has(entry.event.type));
}

/** Leaves however the reading ends; `cut` notes that it was not the reader's wish, with what he was handed last. */
function followed(
  parts: AsyncIterable<JournalPart>,
  leave: () => void,
  onCut: (position: number | null) => void,
): Awaited<ReturnType<JournalReads['follow']>> {
  let handed: number | null = null;
  async function* handing(): AsyncGenerator<JournalPart> {
    try {
      for await (const part of parts) {
        handed = part.next;
        yield part;
      }
    } finally {
      leave();
    }
  }
  return { parts: handing(), cut: () => onCut(handed) };
}
