/** One request of an errand, within what it may spend. */
import { FederationError } from '../../federation/error.ts';
import { type ServerName } from '../../matrix/identifiers.ts';
import { type RoomsContext } from '../context.ts';
import { askIfHealthy } from '../resync/destination-health.ts';
import { type Spending } from './budgets.ts';

/** One server's time: another may know, too. */
const REQUEST_MS_MAX = 5_000;

/**
 * What the server answered; `undefined`: nothing of use, nothing may be asked any more, or it is left alone by all rooms. Throws for
 * faults of ours only.
 */
export async function ask<Answer>(
  context: RoomsContext,
  spending: Spending,
  server: ServerName,
  request: (signal: AbortSignal) => Promise<Answer>,
): Promise<Answer | undefined> {
  if (!spending.mayAsk()) return undefined;
  const signal = AbortSignal.any([spending.signal, AbortSignal.timeout(REQUEST_MS_MAX)]);
  try {
    return await askIfHealthy(context, server, () => request(signal));
  } catch (error) {
    if (!(error instanceof FederationError) && !signal.aborted) throw error;
    if (signal.aborted) spending.wasSilent();
    context.logger.debug({ err: error }, 'a server could not help with a pushed event');
    return undefined;
  }
}
