/**
 * The loop that tells application services what happens. Any number of processes run it. Each looks what there is to tell, and remembers up to
 * where there was nothing; a transaction is leased to one at a time, so a killed process loses nothing, and what it had begun is done by
 * another when its lease ends.
 */
import {
  type NothingFor,
  type ServiceState,
  ensureServices,
  noteNothing,
  readServices,
  retryService,
} from '../store/tables/app-services.ts';
import { type DeliverContext, type PageReader, createPageReader, tellService } from './deliver.ts';
import { interested } from './interest.ts';
import { type Matching } from './matching.ts';
import { type AppService } from './registration.ts';

/** How long what another process wrote waits here at the most, what passes in rooms, and what was paused. */
const POLL_MS = 1_000;
/** How long what this one wrote does: what happens meanwhile is told with it, and a busy server looks no more often. */
const GATHER_MS = 20;
/** How often, and after how many positions, it is written down that there was nothing to tell: who starts looks at no more again. */
const NOTE_MS = 300_000;
const NOTE_POSITIONS = 10_000;

export interface Telling {
  /** Something happened. */
  poke(): void;
  /** A service is heard from again. */
  retry(serviceId: string): void;
  /** Up to where nothing else is of interest to services, as far as this process has looked. */
  readonly looked: ReadonlyMap<string, number>;
  /** Ends what is under way; it is sent again by the next. */
  close(): Promise<void>;
}

/** Starts at once, and takes over what was left. Services that want to be told nothing are let be. */
export function startTelling(
  context: DeliverContext & { readonly matching: Matching },
  services: readonly AppService[],
): Telling {
  const { store, clock, logger, matching } = context;
  const told = new Map(
    services.flatMap((one) => (one.url === null ? [] : [[one.id, interested(one, matching)] as const])),
  );
  const ids = [...told.keys()];
  const closing = new AbortController();
  const runs = new Set<Promise<void>>();
  const looked = new Map<string, number>();
  /** Services that are told by this process just now. */
  const busy = new Set<string>();
  let notedAt = clock.now();
  let isReady = false;
  let pokes = 0;
  let gathering: NodeJS.Timeout | undefined;

  const run = (work: () => Promise<void>): void => {
    if (closing.signal.aborted) return;
    const running = work()
      .catch((error: unknown) => {
        if (closing.signal.aborted) return;
        logger.warn({ err: error }, 'an application service could not be told something; it is tried again');
      })
      .finally(() => runs.delete(running));
    runs.add(running);
  };

  const look = async (): Promise<void> => {
    if (!isReady) await ensureServices(store, ids);
    isReady = true;
    const { head, services: states } = await readServices(store, ids);
    const readPage = createPageReader(store);
    const idle: NothingFor[] = [];
    for (const state of states) {
      const { serviceId, sent, isFree, retryAt, transaction } = state;
      const upTo = Math.max(sent, looked.get(serviceId) ?? 0);
      looked.set(serviceId, upTo);
      if (busy.has(serviceId) || !isFree) continue;
      if (transaction === undefined && upTo > sent) idle.push({ serviceId, sent, upTo });
      if (transaction === undefined ? upTo < head : retryAt <= clock.now()) run(() => tell(state, readPage));
    }
    await note(idle);
  };

  const note = async (idle: readonly NothingFor[]): Promise<void> => {
    const isDue = clock.now() - notedAt >= NOTE_MS || idle.some(({ sent, upTo }) => upTo - sent >= NOTE_POSITIONS);
    if (!isDue || idle.length === 0) return;
    notedAt = clock.now();
    await noteNothing(store, idle);
  };

  const tell = async (state: ServiceState, readPage: PageReader): Promise<void> => {
    const { serviceId } = state;
    const to = told.get(serviceId);
    if (to === undefined) return;
    const before = pokes;
    let isMore = false;
    busy.add(serviceId);
    try {
      const from = { ...state, looked: looked.get(serviceId) ?? state.sent, readPage };
      const { outcome, looked: upTo } = await tellService(context, to, from, closing.signal);
      looked.set(serviceId, Math.max(upTo, looked.get(serviceId) ?? 0));
      isMore = outcome === 'more' || outcome === 'overtaken';
    } finally {
      busy.delete(serviceId);
    }
    // While it was told, whoever looked let it be.
    if (isMore || pokes !== before) poke();
  };

  const poke = (): void => {
    if (ids.length === 0) return;
    pokes += 1;
    gathering ??= setTimeout(() => {
      gathering = undefined;
      run(look);
    }, GATHER_MS);
  };

  const timer = setInterval(poke, POLL_MS);
  poke();
  return {
    poke,
    looked,
    retry: (serviceId) => {
      run(async () => {
        await retryService(store, serviceId);
        poke();
      });
    },
    close: async () => {
      clearInterval(timer);
      clearTimeout(gathering);
      closing.abort(new Error('the server is closing'));
      while (runs.size > 0) await Promise.all(runs);
    },
  };
}
