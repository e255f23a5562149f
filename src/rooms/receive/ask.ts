/** One request of an errand, within what it may spend. */
import { type RequestOptions } from '../../federation/contract.ts';
import { FederationError } from '../../federation/error.ts';
import { type ServerName } from '../../matrix/identifiers.ts';
import { type RoomsContext } from '../context.ts';
import { askIfHealthy } from '../resync/destination-health.ts';
import { ANSWER_BYTES_MAX, type Spending } from './budgets.ts';

/** One server's time: another may know, too. */
const REQUEST_MS_MAX = 5_000;

/**
 * The event or events that the server answered; `undefined`: nothing of use, nothing may be asked any more, or it is left alone by
 * all rooms. Throws for faults of ours only.
 */
export async function ask<Answer extends Uint8Array | readonly Uint8Array[]>(
  context: RoomsContext,
  spending: Spending,
  server: ServerName,
  request: (options: RequestOptions) => Promise<Answer>,
): Promise<Answer | undefined> {
  if (!spending.mayAsk()) return undefined;
  const signal = AbortSignal.any([spending.signal, AbortSignal.timeout(REQUEST_MS_MAX)]);
  let came = 0;
  try {
    const answer = await askIfHealthy(context, server, () => request({ signal, bytesMax: ANSWER_BYTES_MAX }));
    came = bytesOf(answer);
    return answer;
  } catch (error) {
    if (!(error instanceof FederationError) && !signal.aborted) throw error;
    if (signal.aborted) spending.wasSilent();
    if (error instanceof FederationError && error.kind === 'too-large') came = ANSWER_BYTES_MAX;
    context.logger.debug({ err: error }, 'a server could not help with a pushed event');
    return undefined;
  } finally {
    spending.received(came);
  }
}

function bytesOf(answer: Uint8Array | readonly Uint8Array[]): number {
  return answer instanceof Uint8Array ? answer.length : answer.reduce((sum, { length }) => sum + length, 0);
}
