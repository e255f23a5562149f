/**
 * The loop that tells application services what happens. Any number of processes run it: each service is leased to one at a time, so a
 * killed process loses nothing, and what it had begun is done by another when its lease ends.
 */
import {
  type ServiceDelivery,
  endServiceLease,
  ensureServices,
  leaseServices,
  retryService,
} from '../store/tables/app-services.ts';
import { type DeliverContext, SERVICE_LEASE_MS, tellService } from './deliver.ts';
import { interested } from './interest.ts';
import { type AppService } from './registration.ts';

/** How long what another process wrote waits here at the most, and what was paused. */
const POLL_MS = 1_000;
/** How long what this one wrote does: what happens meanwhile is told with it, and a busy server looks no more often. */
const GATHER_MS = 20;

export interface Telling {
  /** Something happened. */
  poke(): void;
  /** A service is heard from again. */
  retry(serviceId: string): void;
  /** Ends what is under way; it is sent again by the next. */
  close(): Promise<void>;
}

/** Starts at once, and takes over what was left. Services that want to be told nothing are let be. */
export function startTelling(context: DeliverContext, services: readonly AppService[]): Telling {
  const told = new Map(services.flatMap((one) => (one.url === null ? [] : [[one.id, interested(one)] as const])));
  const ids = [...told.keys()];
  const closing = new AbortController();
  const runs = new Set<Promise<void>>();
  const { store, clock, logger } = context;
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
    const due = await leaseServices(store, ids, { now: clock.now(), leaseMs: SERVICE_LEASE_MS });
    for (const delivery of due) run(() => tell(delivery));
  };

  const tell = async (delivery: ServiceDelivery): Promise<void> => {
    const { lease } = delivery;
    const to = told.get(lease.serviceId);
    const before = pokes;
    let isMore = false;
    try {
      isMore = to !== undefined && (await tellService(context, to, delivery, closing.signal)) === 'more';
    } finally {
      await endServiceLease(store, lease);
    }
    // While it was told, whoever looked found it taken.
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
