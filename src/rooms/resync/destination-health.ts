/** What is known of a server's health, for all rooms: one that cannot be reached costs each room no request of its own. */
import { FederationError } from '../../federation/error.ts';
import { type ServerName } from '../../matrix/identifiers.ts';
import { UNREACHABLE_FIRST_MS, UNREACHABLE_LONGEST_MS } from '../../resync/policy.ts';
import {
  forgetDestinationFailures,
  readDestination,
  recordDestinationFailure,
} from '../../store/tables/destinations.ts';
import { type RoomsContext } from '../context.ts';

/**
 * Asks a server, unless it is known to be out of reach, or wants to be left alone: then the request fails at once, as the last
 * one did, and says until when. Notes what becomes of it.
 */
export async function askIfHealthy<T>(
  { store, clock }: Pick<RoomsContext, 'store' | 'clock'>,
  serverName: ServerName,
  ask: () => Promise<T>,
): Promise<T> {
  const health = await readDestination(store, serverName);
  const now = clock.now();
  if (health !== undefined && health.notBefore > now) {
    const retryAfterMs = health.notBefore - now;
    const until = new Date(health.notBefore).toISOString();
    const reason = `not asked until ${until}: failed ${health.failures} times in a row (${health.lastFailure})`;
    throw new FederationError(serverName, health.lastFailure, reason, { retryAfterMs });
  }
  try {
    const answer = await ask();
    if (health !== undefined) await forgetDestinationFailures(store, serverName);
    return answer;
  } catch (error) {
    if (error instanceof FederationError && error.serverName === serverName) {
      const patience = patienceOf(error);
      const failure = error.kind;
      if (patience !== undefined) {
        await recordDestinationFailure(store, { serverName, failure, ...patience, at: clock.now() });
      } else if (health !== undefined && error.status !== undefined) {
        await forgetDestinationFailures(store, serverName);
      }
    }
    throw error;
  }
}

/** How long a failure keeps everybody away; `undefined`: it says nothing of other requests. */
function patienceOf(error: FederationError): { readonly firstMs: number; readonly longestMs: number } | undefined {
  const { kind, retryAfterMs } = error;
  if (retryAfterMs !== undefined) return { firstMs: retryAfterMs, longestMs: retryAfterMs };
  // A timeout of an answer is of that one answer: a big state may take long. One of connecting is the server's.
  const isOutOfReach = kind === 'unreachable' || (kind === 'timeout' && isConnectTimeout(error.cause));
  return isOutOfReach ? { firstMs: UNREACHABLE_FIRST_MS, longestMs: UNREACHABLE_LONGEST_MS } : undefined;
}

function isConnectTimeout(cause: unknown): boolean {
  const { code } = (cause ?? {}) as { code?: unknown };
  return code === 'UND_ERR_CONNECT_TIMEOUT' || code === 'ETIMEDOUT';
}
