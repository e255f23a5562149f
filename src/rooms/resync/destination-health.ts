/** What is known of servers' health, for all rooms: one that cannot be reached costs each room no request of its own. */
import { FederationError } from '../../federation/error.ts';
import { type ServerName } from '../../matrix/identifiers.ts';
import { UNREACHABLE_FIRST_MS, UNREACHABLE_LONGEST_MS } from '../../resync/policy.ts';
import {
  type DestinationHealth,
  forgetDestinationFailures,
  readDestinations,
  recordDestinationFailure,
} from '../../store/tables/destinations.ts';
import { type RoomsContext } from '../context.ts';

/**
 * Servers' health as one piece of work sees it, of seconds or minutes: read once of each server, and from then on what becomes of
 * the work's own requests counts at once.
 */
export interface HealthView {
  /** Those of the servers of which nothing is asked now, and until when, milliseconds since the Unix epoch. */
  resting(serverNames: readonly ServerName[]): Promise<ReadonlyMap<ServerName, number>>;
  /**
   * Asks a server, unless it is known to be out of reach, or wants to be left alone: then the request fails at once, as the last
   * one did, and says until when. Notes what becomes of it.
   */
  ask<T>(serverName: ServerName, request: () => Promise<T>): Promise<T>;
}

/** Looks at nothing yet. Its failures to read or to write are those of the database; all else is the servers'. */
export function viewHealth({ store, clock }: Pick<RoomsContext, 'store' | 'clock'>): HealthView {
  const seen = new Map<ServerName, Promise<DestinationHealth | undefined>>();
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
  const forget = async (serverName: ServerName): Promise<void> => {
    if ((await healthOf(serverName)) === undefined) return;
    seen.set(serverName, Promise.resolve(undefined));
    await forgetDestinationFailures(store, serverName);
  };
  const note = async (error: FederationError): Promise<void> => {
    const { serverName, kind: failure } = error;
    const patience = patienceOf(error);
    if (patience === undefined) {
      if (error.status !== undefined) await forget(serverName);
      return;
    }
    const at = clock.now();
    const { failures = 0, notBefore = 0 } = (await healthOf(serverName)) ?? {};
    // Several at once that fail together are of one outage.
    if (notBefore > at) return;
    const restMs = Math.min(patience.firstMs * 2 ** Math.min(failures, 20), patience.longestMs);
    seen.set(serverName, Promise.resolve({ failures: failures + 1, notBefore: at + restMs, lastFailure: failure }));
    await recordDestinationFailure(store, { serverName, failure, ...patience, at });
  };
  return {
    async resting(serverNames) {
      look(serverNames);
      const resting = new Map<ServerName, number>();
      for (const name of serverNames) {
        const health = await healthOf(name);
        if (health !== undefined && health.notBefore > clock.now()) resting.set(name, health.notBefore);
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
      try {
        const answer = await request();
        await forget(serverName);
        return answer;
      } catch (error) {
        if (error instanceof FederationError && error.serverName === serverName) await note(error);
        throw error;
      }
    },
  };
}

/** As a view of its own asks: for requests that may last for minutes, between which others learn of the server. */
export function askIfHealthy<T>(
  context: Pick<RoomsContext, 'store' | 'clock'>,
  serverName: ServerName,
  request: () => Promise<T>,
): Promise<T> {
  return viewHealth(context).ask(serverName, request);
}

/** How long a failure keeps everybody away; `undefined`: it says nothing of other requests. */
function patienceOf(error: FederationError): { readonly firstMs: number; readonly longestMs: number } | undefined {
  const { kind, retryAfterMs, isSilence } = error;
  if (retryAfterMs !== undefined) return { firstMs: retryAfterMs, longestMs: retryAfterMs };
  // An answer that takes too long to come is of that one answer, which may be big; where none came at all it is the server.
  const isOutOfReach = kind === 'unreachable' || (kind === 'timeout' && isSilence);
  return isOutOfReach ? { firstMs: UNREACHABLE_FIRST_MS, longestMs: UNREACHABLE_LONGEST_MS } : undefined;
}
