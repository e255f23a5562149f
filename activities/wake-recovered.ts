/** The sweep's part for servers that are back: whoever found that out may have been killed before it had woken their rooms. */
import { type WakeContext, wakeWaitingFor } from '../src/rooms/resync/wake-waiting.ts';
import { forgetRecovered, readRecovered } from '../src/store/tables/destinations.ts';

/** A pass. */
const SERVERS_MAX = 100;
/** A room may have failed at a server in the moment in which it came back, and waits since then. */
const SETTLED_MS = 60_000;

/** Gives how many rooms were woken. */
export async function wakeRecovered(
  context: WakeContext,
  { signal, heartbeat }: { readonly signal: AbortSignal; readonly heartbeat: () => void },
): Promise<number> {
  const servers = await readRecovered(context.store, SERVERS_MAX);
  if (servers.length === 0) return 0;
  let woken = 0;
  for (const server of servers) {
    if (signal.aborted) return woken;
    woken += await wakeWaitingFor(context, server, signal);
    heartbeat();
  }
  await forgetRecovered(context.store, servers, SETTLED_MS);
  return woken;
}
