/**
 * Fetching events of a room from a resident: a state, as ids or as events, single events, those in a gap, and the auth
 * chain of one.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#backfilling-and-retrieving-missing-events and
 * https://spec.matrix.org/v1.16/server-server-api/#retrieving-events
 */
import { type EventId, type ServerName, parseEventId } from '../matrix/identifiers.ts';
import { type Json } from '../matrix/pdu.ts';
import { type EventStream, type FederationClient } from './contract.ts';
import { FederationError } from './error.ts';
import { type Requests, malformed, path } from './requests.ts';

/** `/state_ids` of a million members with their auth chain is about 100 MB of ids. */
const STATE_IDS_BYTES_MAX = 128 * 1024 * 1024;
/** The auth chain of one event: all power levels and join rules a room ever had, and some members' profiles, are hundreds. */
const EVENT_AUTH_EVENTS_MAX = 10_000;

type EventRequests = Pick<FederationClient, 'stateIds' | 'state' | 'event' | 'eventAuth' | 'getMissingEvents'>;

export function eventRequests(requests: Requests): EventRequests {
  const { limits, timeouts } = requests;
  const { stateBytesMax, responseBytesMax: bytesMax } = limits;
  return {
    async stateIds(destination, roomId, eventId, options) {
      const uri = path`/_matrix/federation/v1/state_ids/${roomId}` + `?event_id=${encodeURIComponent(eventId)}`;
      const ask = { uri, timeoutMs: timeouts.stateMs };
      const answer = await requests.json(destination, ask, options, STATE_IDS_BYTES_MAX);
      return {
        stateIds: readEventIds(destination, 'pdu_ids', answer['pdu_ids']),
        authChainIds: readEventIds(destination, 'auth_chain_ids', answer['auth_chain_ids']),
      };
    },

    async state(destination, roomId, eventId, options) {
      const uri = path`/_matrix/federation/v1/state/${roomId}` + `?event_id=${encodeURIComponent(eventId)}`;
      const body = { arrays: ['pdus', 'auth_chain'] as const, bytesMax: stateBytesMax };
      return requests.events(destination, { uri, timeoutMs: timeouts.stateMs }, options, body);
    },

    async event(destination, eventId, options) {
      const uri = path`/_matrix/federation/v1/event/${eventId}`;
      const answer = await requests.events(destination, { uri }, options, { arrays: ['pdus'], bytesMax });
      const [event, ...more] = await takeFirst(answer, 2);
      if (event === undefined || more.length > 0) throw malformed(destination, 'pdus does not hold exactly one event');
      return event;
    },

    async eventAuth(destination, roomId, eventId, options) {
      const uri = path`/_matrix/federation/v1/event_auth/${roomId}/${eventId}`;
      const answer = await requests.events(destination, { uri }, options, { arrays: ['auth_chain'], bytesMax });
      const events = await takeFirst(answer, EVENT_AUTH_EVENTS_MAX + 1);
      if (events.length > EVENT_AUTH_EVENTS_MAX) {
        throw new FederationError(destination, 'too-large', `the auth chain has over ${EVENT_AUTH_EVENTS_MAX} events`);
      }
      if (answer.summary().events['auth_chain'] === undefined) throw malformed(destination, 'auth_chain is not there');
      return events;
    },

    async getMissingEvents(destination, roomId, query, options) {
      const content = {
        earliest_events: query.earliestEvents,
        latest_events: query.latestEvents,
        limit: query.limit,
        min_depth: query.minDepth,
      };
      const uri = path`/_matrix/federation/v1/get_missing_events/${roomId}`;
      const ask = { method: 'POST', uri, content } as const;
      return takeFirst(await requests.events(destination, ask, options, { arrays: ['events'], bytesMax }), query.limit);
    },
  };
}

function readEventIds(destination: ServerName, name: string, value: Json | undefined): EventId[] {
  if (!Array.isArray(value)) throw malformed(destination, `${name} is not a list`);
  const ids = new Set<EventId>();
  for (const text of value as readonly Json[]) {
    const id = parseEventId(text);
    if (id === undefined) throw malformed(destination, `${name} holds what is no event id`);
    ids.add(id);
  }
  return [...ids];
}

/** At most `max` events of an answer, which is read to its end unless it has more. */
async function takeFirst(stream: EventStream, max: number): Promise<Uint8Array[]> {
  const events: Uint8Array[] = [];
  for await (const batch of stream) {
    // Not spread into one call: a batch of `{}` has more events than a call may have arguments.
    for (const event of batch.events) if (events.length < max) events.push(event);
    if (events.length >= max) break;
  }
  return events;
}
