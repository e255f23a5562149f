/** A federation client that counts: requests by outcome, their time, and the events that arrive, while they arrive. */
import { type Clock } from '../clock.ts';
import {
  type EventBatch,
  type EventStream,
  type FederationClient,
  type RequestOptions,
} from '../federation/contract.ts';
import { FederationError } from '../federation/error.ts';
import { type Endpoint, type Instruments, type RequestOutcome } from './instruments.ts';

/** The client, each of its requests counted by endpoint and outcome. */
export function countRequests(client: FederationClient, instruments: Instruments, clock: Clock): FederationClient {
  /** Starts a request; the answer ends it. */
  const begin = (endpoint: Endpoint): ((outcome: RequestOutcome) => void) => {
    const startedAt = clock.now();
    return (outcome) => {
      instruments.requests.inc({ endpoint, outcome });
      instruments.requestSeconds.observe({ endpoint }, Math.max(0, clock.now() - startedAt) / 1000);
    };
  };
  const take = (endpoint: Endpoint, events: readonly Uint8Array[]): void => {
    instruments.fetchedEvents.inc({ endpoint }, events.length);
    instruments.fetchedBytes.inc(
      { endpoint },
      events.reduce((bytes, event) => bytes + event.length, 0),
    );
  };
  const ask = async <T>(endpoint: Endpoint, { signal }: RequestOptions, request: Promise<T>): Promise<T> => {
    const end = begin(endpoint);
    try {
      const answer = await request;
      end('ok');
      return answer;
    } catch (error) {
      end(outcomeOf(error, signal));
      throw error;
    }
  };
  /** The request is over when the last batch is taken. */
  const open = async <Answer extends EventStream>(
    endpoint: Endpoint,
    { signal }: RequestOptions,
    request: Promise<Answer>,
  ): Promise<{ readonly answer: Answer; readonly batches: () => AsyncGenerator<BatchOf<Answer>, void, undefined> }> => {
    const end = begin(endpoint);
    const answer = await request.catch((error: unknown) => {
      end(outcomeOf(error, signal));
      throw error;
    });
    async function* batches(): AsyncGenerator<BatchOf<Answer>, void, undefined> {
      // What the outcome is when the reader leaves early.
      let outcome: RequestOutcome = 'aborted';
      try {
        for await (const batch of answer) {
          take(endpoint, batch.events);
          yield batch as BatchOf<Answer>;
        }
        outcome = 'ok';
      } catch (error) {
        outcome = outcomeOf(error, signal);
        throw error;
      } finally {
        end(outcome);
      }
    }
    return { answer, batches };
  };

  return {
    queryDirectory: (destination, alias, options) =>
      ask('directory', options, client.queryDirectory(destination, alias, options)),
    queryProfile: (destination, userId, options) =>
      ask('profile', options, client.queryProfile(destination, userId, options)),
    publicRooms: (destination, content, options) =>
      ask('public_rooms', options, client.publicRooms(destination, content, options)),
    hierarchy: (destination, roomId, suggestedOnly, options) =>
      ask('hierarchy', options, client.hierarchy(destination, roomId, suggestedOnly, options)),
    timestampToEvent: (destination, roomId, query, options) =>
      ask('timestamp_to_event', options, client.timestampToEvent(destination, roomId, query, options)),
    makeJoin: (destination, roomId, userId, versions, options) =>
      ask('make_join', options, client.makeJoin(destination, roomId, userId, versions, options)),
    sendJoin: async (destination, roomId, eventId, event, options) => {
      const request = client.sendJoin(destination, roomId, eventId, event, options);
      const { answer, batches } = await open('send_join', options, request);
      return {
        [Symbol.asyncIterator]: batches,
        summary: () => answer.summary(),
        header: () => answer.header(),
      };
    },
    makeLeave: (destination, roomId, userId, options) =>
      ask('make_leave', options, client.makeLeave(destination, roomId, userId, options)),
    makeKnock: (destination, roomId, userId, versions, options) =>
      ask('make_knock', options, client.makeKnock(destination, roomId, userId, versions, options)),
    sendKnock: (destination, roomId, eventId, event, options) =>
      ask('send_knock', options, client.sendKnock(destination, roomId, eventId, event, options)),
    exchangeThirdPartyInvite: (destination, roomId, content, options) =>
      ask(
        'exchange_third_party_invite',
        options,
        client.exchangeThirdPartyInvite(destination, roomId, content, options),
      ),
    askIdentityServer: (what, options) => ask('identity_server', options, client.askIdentityServer(what, options)),
    sendInvite: (destination, roomId, eventId, invite, options) =>
      ask('invite', options, client.sendInvite(destination, roomId, eventId, invite, options)),
    sendLeave: (destination, roomId, eventId, event, options) =>
      ask('send_leave', options, client.sendLeave(destination, roomId, eventId, event, options)),
    stateIds: (destination, roomId, eventId, rules, options) =>
      ask('state_ids', options, client.stateIds(destination, roomId, eventId, rules, options)),
    state: async (destination, roomId, eventId, options) => {
      const request = client.state(destination, roomId, eventId, options);
      const { answer, batches } = await open('state', options, request);
      return { [Symbol.asyncIterator]: batches, summary: () => answer.summary() };
    },
    event: async (destination, eventId, options) => {
      const event = await ask('event', options, client.event(destination, eventId, options));
      take('event', [event]);
      return event;
    },
    eventAuth: async (destination, roomId, eventId, options) => {
      const events = await ask('event_auth', options, client.eventAuth(destination, roomId, eventId, options));
      take('event_auth', events);
      return events;
    },
    userDevices: (destination, userId, options) =>
      ask('user_devices', options, client.userDevices(destination, userId, options)),
    queryKeys: (destination, userIds, options) =>
      ask('keys_query', options, client.queryKeys(destination, userIds, options)),
    claimKeys: (destination, claims, options) =>
      ask('keys_claim', options, client.claimKeys(destination, claims, options)),
    sendTransaction: (destination, txnId, content, options) =>
      ask('send', options, client.sendTransaction(destination, txnId, content, options)),
    getMissingEvents: async (destination, roomId, query, options) => {
      const request = client.getMissingEvents(destination, roomId, query, options);
      const events = await ask('get_missing_events', options, request);
      take('get_missing_events', events);
      return events;
    },
    backfill: async (destination, roomId, eventIds, limit, options) => {
      const request = client.backfill(destination, roomId, eventIds, limit, options);
      const events = await ask('backfill', options, request);
      take('backfill', events);
      return events;
    },
    serverKeys: (destination, options) => ask('server_keys', options, client.serverKeys(destination, options)),
    notaryQuery: (notary, requests, options) =>
      ask('notary_query', options, client.notaryQuery(notary, requests, options)),
    version: (destination, options) => ask('version', options, client.version(destination, options)),
    close: () => client.close(),
  };
}

/** The batches of a stream, with the names of its arrays. */
type BatchOf<Answer> = Answer extends EventStream<infer Name> ? EventBatch<Name> : never;

function outcomeOf(error: unknown, signal: AbortSignal): RequestOutcome {
  if (signal.aborted) return 'aborted';
  return error instanceof FederationError ? error.kind : 'error';
}
