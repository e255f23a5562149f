/** What one attempt asks of other servers, and what comes of it: told in the journal with its outcome. */
import { type Clock } from '../../clock.ts';
import { type FederationClient, type RequestOptions } from '../../federation/contract.ts';
import { type AttemptCost } from '../../resync/attempts.ts';

/** Of the requests of an attempt: what its answer mostly came of. */
const BIGGEST_FIRST = ['state', 'event', 'state_ids'] as const;

export interface Meter {
  /** The client to ask with: the same, but what is asked for a state is counted. */
  readonly federation: FederationClient;
  /** So far; with the request that `error` came of, or, where it came of none, what the answer mostly came of. */
  cost(error?: unknown): AttemptCost;
}

/** Begins to count now. */
export function meterRequests(federation: FederationClient, clock: Clock): Meter {
  const begunAt = clock.now();
  let latencyMs: number | undefined;
  let bytes = 0;
  const asked = new Set<string>();
  /** Several requests are under way at a time. */
  const failedAt = new WeakMap<object, string>();
  const noting =
    (name: string) =>
    (error: unknown): never => {
      if (error instanceof Error) failedAt.set(error, name);
      throw error;
    };
  const metered = <Options extends RequestOptions>(name: string, options: Options): Options => {
    const askedAt = clock.now();
    asked.add(name);
    return {
      ...options,
      onReceived: (more: number) => {
        latencyMs ??= Math.max(0, clock.now() - askedAt);
        bytes += more;
        options.onReceived?.(more);
      },
    };
  };
  const endpointOf = (error: unknown): Pick<AttemptCost, 'endpoint'> => {
    const failed = error instanceof Error ? failedAt.get(error) : undefined;
    const name = failed ?? BIGGEST_FIRST.find((one) => asked.has(one));
    return name === undefined ? {} : { endpoint: name };
  };
  return {
    federation: {
      ...federation,
      stateIds: (destination, roomId, eventId, rules, options) =>
        federation
          .stateIds(destination, roomId, eventId, rules, metered('state_ids', options))
          .catch(noting('state_ids')),
      state: async (destination, roomId, eventId, options) => {
        const stream = await federation
          .state(destination, roomId, eventId, metered('state', options))
          .catch(noting('state'));
        return {
          summary: () => stream.summary(),
          [Symbol.asyncIterator]: () => {
            const batches = stream[Symbol.asyncIterator]();
            return {
              next: () => batches.next().catch(noting('state')),
              return: async () => (await batches.return?.()) ?? { done: true, value: undefined },
            };
          },
        };
      },
      event: (destination, eventId, options) =>
        federation.event(destination, eventId, metered('event', options)).catch(noting('event')),
    },
    cost: (error) => ({
      ...endpointOf(error),
      ...(latencyMs === undefined ? {} : { latencyMs }),
      bytes,
      tookMs: Math.max(0, clock.now() - begunAt),
    }),
  };
}
