/** What one attempt asks of other servers, and what comes of it: told in the journal with its outcome. */
import { type Clock } from '../../clock.ts';
import { type FederationClient, type RequestOptions } from '../../federation/contract.ts';
import { type AttemptCost } from '../../resync/attempts.ts';

export interface Meter {
  /** The client to ask with: the same, but what is asked for a state is counted. */
  readonly federation: FederationClient;
  /** So far. */
  cost(): AttemptCost;
}

/** Begins to count now. */
export function meterRequests(federation: FederationClient, clock: Clock): Meter {
  const begunAt = clock.now();
  let endpoint: string | undefined;
  let latencyMs: number | undefined;
  let bytes = 0;
  const metered = <Options extends RequestOptions>(name: string, options: Options): Options => {
    const askedAt = clock.now();
    endpoint = name;
    return {
      ...options,
      onReceived: (more: number) => {
        latencyMs ??= Math.max(0, clock.now() - askedAt);
        bytes += more;
        options.onReceived?.(more);
      },
    };
  };
  return {
    federation: {
      ...federation,
      stateIds: (destination, roomId, eventId, rules, options) =>
        federation.stateIds(destination, roomId, eventId, rules, metered('state_ids', options)),
      state: (destination, roomId, eventId, options) =>
        federation.state(destination, roomId, eventId, metered('state', options)),
      event: (destination, eventId, options) => federation.event(destination, eventId, metered('event', options)),
    },
    cost: () => ({
      ...(endpoint === undefined ? {} : { endpoint }),
      ...(latencyMs === undefined ? {} : { latencyMs }),
      bytes,
      tookMs: Math.max(0, clock.now() - begunAt),
    }),
  };
}
