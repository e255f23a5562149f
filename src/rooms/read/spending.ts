/** What a reader may have other servers be asked: so many requests, until so much has come. */
import { type Spending } from '../receive/budgets.ts';

/** Nothing is spent yet. */
export function spendingOf(
  signal: AbortSignal,
  { requestsMax, bytesMax }: { readonly requestsMax: number; readonly bytesMax: number },
): Spending {
  let [requests, bytes] = [0, 0];
  return {
    signal,
    mayAsk: () => {
      if (signal.aborted || requests >= requestsMax || bytes >= bytesMax) return false;
      requests += 1;
      return true;
    },
    received: (_server, came) => {
      bytes += came;
    },
    wasSilent: () => undefined,
    isSilent: () => false,
  };
}
