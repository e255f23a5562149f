/**
 * The newest entries of the journal, in memory, for all who follow it: one look at the database a moment, whoever many they
 * are. It runs while somebody follows, and holds a bounded number of entries; who is further behind reads pages instead.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { type JournalPage, type RecordedEntry, readJournalPage } from '../../store/journal/journal-pages.ts';
import { type RoomsContext } from '../context.ts';

/** Entries of one look, and entries kept: some hundred bytes each, a few KB at the most. */
const LOOK_ENTRIES_MAX = 500;
const KEPT_ENTRIES_MAX = 1_000;
/** Between two looks, so that a busy journal is read in pages and not row by row. */
const PAUSE_MS = 20;
/** While notifications cannot be heard, an entry is told this late. */
const POLL_MS = 1_000;
/** After a look that failed, as while the database is away. */
const RETRY_MS = 1_000;
/** One wait for the next entry; it begins anew. */
const WAIT_MS = 600_000;

export class JournalTail {
  readonly #context: Pick<RoomsContext, 'store' | 'notifier' | 'logger'>;
  readonly #sleepers = new Set<() => void>();
  /** All that are between two positions, in their order; not every position has one. */
  #entries: RecordedEntry[] = [];
  #from = 0;
  #position = 0;
  #running: AbortController | undefined;

  constructor(context: Pick<RoomsContext, 'store' | 'notifier' | 'logger'>) {
    this.#context = context;
  }

  /** Follows the journal from `head` on, unless it does so already. */
  start(head: number): void {
    if (this.#running !== undefined) return;
    this.#running = new AbortController();
    this.#from = head;
    this.#position = head;
    void this.#run(this.#running.signal);
  }

  /** Forgets everything, and looks no more. */
  stop(): void {
    this.#running?.abort();
    this.#running = undefined;
    this.#entries = [];
  }

  /** The entries after a position, as far as they are known; `undefined`: some of them are not held here. */
  since(position: number): readonly RecordedEntry[] | undefined {
    if (this.#running === undefined || position < this.#from) return undefined;
    const first = this.#entries.findIndex((entry) => entry.position > position);
    return first < 0 ? [] : this.#entries.slice(first);
  }

  /** Resolves when there are new entries, when `ms` are over or when the signal is aborted. */
  wait(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', wake);
        this.#sleepers.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, ms);
      signal.addEventListener('abort', wake, { once: true });
      this.#sleepers.add(wake);
      if (signal.aborted) wake();
    });
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { store, notifier, logger } = this.#context;
    const look = async (): Promise<JournalPage | undefined> => {
      const page = await readJournalPage(store, { after: this.#position, limit: LOOK_ENTRIES_MAX });
      return page.entries.length === 0 ? undefined : page;
    };
    const isStopped = (): boolean => signal.aborted;
    while (!isStopped()) {
      try {
        const page = await notifier.waitFor(null, look, { signal, timeoutMs: WAIT_MS, pollMs: POLL_MS });
        // A tail that was stopped may run again by now, and elsewhere.
        if (isStopped()) return;
        if (page !== undefined) this.#take(page);
        await delay(PAUSE_MS, undefined, { signal });
      } catch (error) {
        if (isStopped()) return;
        logger.warn({ err: error }, 'the journal could not be read for those who follow it');
        await delay(RETRY_MS, undefined, { signal }).catch(() => undefined);
      }
    }
  }

  #take({ entries, next }: JournalPage): void {
    const purged = new Set(entries.flatMap(({ event, roomId }) => (event.type === 'RoomPurged' ? [roomId] : [])));
    // Their entries are no more, but for those of what came after.
    const before = purged.size === 0 ? this.#entries : this.#entries.filter(({ roomId }) => !purged.has(roomId));
    const all = [...before, ...entries];
    const forgotten = Math.max(0, all.length - KEPT_ENTRIES_MAX);
    this.#from = all[forgotten - 1]?.position ?? this.#from;
    this.#entries = all.slice(forgotten);
    this.#position = next;
    for (const wake of [...this.#sleepers]) wake();
  }
}
