/** What is known of servers' health, for all rooms: one that cannot be reached costs each room no request of its own. */
import { FederationError } from '../../federation/error.ts';
import { type ServerName } from '../../matrix/identifiers.ts';
import { UNREACHABLE_FIRST_MS, UNREACHABLE_LONGEST_MS } from '../../resync/policy.ts';
import {
  type DestinationHealth,
  beginProbe,
  isOutOfReach,
  isOutdated,
  markRecovered,
  readDestinations,
  recordDestinationFailure,
} from '../../store/tables/destinations.ts';
import { type Store } from '../../store/open-store.ts';
import { type WakeContext, wakeWaitingFor } from './wake-waiting.ts';

/**
 * Servers' health as one piece of work sees it, of seconds or minutes: read once of each server, and from then on what becomes of
 * the work's own requests counts at once.
 */
export interface HealthView {
  /** Those of the servers of which nothing is asked now, and until when, milliseconds since the Unix epoch. */
  resting(serverNames: readonly ServerName[]): Promise<ReadonlyMap<ServerName, number>>;
  /**
   * Asks a server, unless it is known to be out of reach, or wants to be left alone: then the request fails at once, as the last
   * one did, and says until when. Notes what becomes of it. `heard` is to be called as soon as anything comes: a server is not
   * silent that has begun to answer this, or anything else that this process asked it meanwhile.
   */
  ask<T>(serverName: ServerName, request: (heard: () => void) => Promise<T>): Promise<T>;
}

/**
 * That a server answers is said again after so long, milliseconds: another process may have found it silent meanwhile, and nobody asks it
 * then but whoever does already.
 */
const SAID_AGAIN_AFTER_MS = 5_000;

/** How long others wait for what one request finds out of a server that was out of reach, milliseconds: to connect, and then some. */
const PROBE_MS = 30_000;

/** What one process knows beside the views. */
interface OwnAsking {
  /** Requests under way, by server. */
  readonly underWay: Map<ServerName, Set<{ isHeard: boolean }>>;
  /** Servers whose failures it has written down, until when they are left alone: no answer was written down since. */
  readonly failed: Map<ServerName, number>;
}

const NEVER = new AbortController().signal;

/** A process has one store. */
const own = new WeakMap<Store, OwnAsking>();

function ownAsking(store: Store): OwnAsking {
  const asking = own.get(store) ?? { underWay: new Map(), failed: new Map() };
  own.set(store, asking);
  return asking;
}

/** Looks at nothing yet. Its failures to read or to write are those of the database; all else is the servers'. */
export function viewHealth(context: WakeContext): HealthView {
  const { store, clock, logger } = context;
  const { underWay, failed } = ownAsking(store);
  /** Servers of which this view finds out whether they are back. */
  const probing = new Set<ServerName>();
  const seen = new Map<ServerName, Promise<DestinationHealth | undefined>>();
  /** Answered, which was written down then: what others learned after this view had looked is outdated as well. */
  const answered = new Map<ServerName, number>();
  const look = (serverNames: readonly ServerName[]): void => {
    const unseen = serverNames.filter((name) => !seen.has(name));
    if (unseen.length === 0) return;
    const reading = readDestinations(store, unseen);
    for (const name of unseen) {
      const health = reading.then((rows) => rows.get(name));
      health.catch(() => seen.delete(name));
      seen.set(name, health);
    }
  };
  const healthOf = async (serverName: ServerName): Promise<DestinationHealth | undefined> => {
    look([serverName]);
    return seen.get(serverName);
  };
  const heard = (serverName: ServerName): void => {
    for (const asked of underWay.get(serverName) ?? []) asked.isHeard = true;
  };
  const forget = async (serverName: ServerName, askedAt: number): Promise<void> => {
    const health = await healthOf(serverName);
    const saidAt = answered.get(serverName) ?? Number.NEGATIVE_INFINITY;
    const isSaid = Math.abs(clock.now() - saidAt) < SAID_AGAIN_AFTER_MS;
    if (health === undefined && isSaid && !failed.has(serverName)) return;
    if (health !== undefined && !isOutdated(health, askedAt)) return;
    answered.set(serverName, clock.now());
    failed.delete(serverName);
    seen.set(serverName, Promise.resolve(undefined));
    probing.delete(serverName);
    if (await markRecovered(store, serverName, askedAt)) {
      void wakeWaitingFor(context, serverName, NEVER).catch((error: unknown) => {
        logger.warn(
          { err: error, serverName },
          'rooms that wait for a server could not be woken; the sweep wakes them',
        );
      });
    }
  };
  /** Whether one that was out of reach is back is found out by one request; fails where another one does. */
  const probe = async (serverName: ServerName, { lastFailure }: DestinationHealth, now: number): Promise<void> => {
    const until = probing.has(serverName) ? undefined : await beginProbe(store, serverName, now, PROBE_MS);
    if (until !== undefined) {
      const reason = 'not asked: another request finds out whether it can be reached again';
      throw new FederationError(serverName, lastFailure, reason, { retryAfterMs: Math.max(1, until - now) });
    }
    probing.add(serverName);
  };
  const note = async (error: FederationError, asked: { readonly isHeard: boolean }, askedAt: number): Promise<void> => {
    const { serverName, kind: failure } = error;
    if (error.status !== undefined) heard(serverName);
    const patience = patienceOf(error, asked.isHeard);
    if (patience === undefined) {
      if (error.status !== undefined) await forget(serverName, askedAt);
      return;
    }
    const at = clock.now();
    const { failures = 0, notBefore = 0 } = (await healthOf(serverName)) ?? {};
    // Several at once that fail together are of one outage.
    if (notBefore > at) return;
    probing.delete(serverName);
    const restMs = Math.min(patience.firstMs * 2 ** Math.min(failures, 20), patience.longestMs);
    const known = { failures: failures + 1, notBefore: at + restMs, lastFailure: failure, probedUntil: 0 };
    seen.set(serverName, Promise.resolve(known));
    for (const [name, until] of failed) if (until <= at) failed.delete(name);
    failed.set(serverName, at + restMs);
    await recordDestinationFailure(store, { serverName, failure, ...patience, at });
  };
  return {
    async resting(serverNames) {
      look(serverNames);
      const resting = new Map<ServerName, number>();
      for (const name of serverNames) {
        const health = await healthOf(name);
        const until = health === undefined ? 0 : Math.max(health.notBefore, probing.has(name) ? 0 : health.probedUntil);
        if (until > clock.now()) resting.set(name, until);
      }
      return resting;
    },
    async ask(serverName, request) {
      const health = await healthOf(serverName);
      const now = clock.now();
      if (health !== undefined && health.notBefore > now) {
        const retryAfterMs = health.notBefore - now;
        const until = new Date(health.notBefore).toISOString();
        const reason = `not asked until ${until}: failed ${health.failures} times in a row (${health.lastFailure})`;
        throw new FederationError(serverName, health.lastFailure, reason, { retryAfterMs });
      }
      if (health !== undefined && isOutOfReach(health)) await probe(serverName, health, now);
      const asked = { isHeard: false };
      const others = underWay.get(serverName) ?? new Set();
      underWay.set(serverName, others.add(asked));
      try {
        const answer = await request(() => {
          heard(serverName);
          // The rest of it may take long to come, and rooms wait for the server.
          if (probing.delete(serverName)) forget(serverName, now).catch(() => undefined);
        });
        heard(serverName);
        await forget(serverName, now);
        return answer;
      } catch (error) {
        if (error instanceof FederationError && error.serverName === serverName) await note(error, asked, now);
        throw error;
      } finally {
        others.delete(asked);
        if (others.size === 0) underWay.delete(serverName);
      }
    },
  };
}

/** As a view of its own asks: for requests that may last for minutes, between which others learn of the server. */
export function askIfHealthy<T>(
  context: WakeContext,
  serverName: ServerName,
  request: (heard: () => void) => Promise<T>,
): Promise<T> {
  return viewHealth(context).ask(serverName, request);
}

/** How long a failure keeps everybody away; `undefined`: it says nothing of other requests. `isHeard`: something came meanwhile. */
function patienceOf(
  error: FederationError,
  isHeard: boolean,
): { readonly firstMs: number; readonly longestMs: number } | undefined {
  const { kind, retryAfterMs, isSilence } = error;
  if (retryAfterMs !== undefined) return { firstMs: retryAfterMs, longestMs: retryAfterMs };
  // An answer that takes too long to come is of that one answer, which may be big; where none came at all it is the server.
  const isOutOfReach = kind === 'unreachable' || (kind === 'timeout' && isSilence && !isHeard);
  return isOutOfReach ? { firstMs: UNREACHABLE_FIRST_MS, longestMs: UNREACHABLE_LONGEST_MS } : undefined;
}
