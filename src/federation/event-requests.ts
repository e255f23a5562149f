/**
 * Fetching events of a room from a resident: a state, as ids or as events, single events, those in a gap, and the auth
 * chain of one.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#backfilling-and-retrieving-missing-events and
 * https://spec.matrix.org/v1.16/server-server-api/#retrieving-events
 */
import { parseEventId } from '../matrix/identifiers.ts';
import { type EventStream, type FederationClient, type RequestOptions } from './contract.ts';
import { FederationError } from './error.ts';
import { type Requests, malformed, path } from './requests.ts';
import { STATE_IDS_ARRAYS, readStateIds } from './state-ids.ts';

/** Two million ids of 44 characters are 94 MB. */
const STATE_IDS_BYTES_MAX = 128 * 1024 * 1024;
/** The auth chain of one event: all power levels and join rules a room ever had, and some members' profiles, are hundreds. */
const EVENT_AUTH_EVENTS_MAX = 10_000;

type EventRequests = Pick<
  FederationClient,
  'stateIds' | 'state' | 'event' | 'eventAuth' | 'getMissingEvents' | 'backfill' | 'timestampToEvent'
>;

/** The requests of the client that fetch events. */
export function eventRequests(requests: Requests): EventRequests {
  const { limits, timeouts } = requests;
  const { stateBytesMax, responseBytesMax } = limits;
  const within = ({ bytesMax = responseBytesMax }: RequestOptions): number => Math.min(bytesMax, responseBytesMax);
  return {
    async stateIds(destination, roomId, eventId, rules, options) {
      const uri = path`/_matrix/federation/v1/state_ids/${roomId}` + `?event_id=${encodeURIComponent(eventId)}`;
      const body = { arrays: STATE_IDS_ARRAYS, members: 'strings', bytesMax: STATE_IDS_BYTES_MAX } as const;
      const answer = await requests.events(destination, { uri, timeoutMs: timeouts.stateMs }, options, body);
      return readStateIds(destination, answer, rules);
    },

    async state(destination, roomId, eventId, options) {
      const uri = path`/_matrix/federation/v1/state/${roomId}` + `?event_id=${encodeURIComponent(eventId)}`;
      const body = { arrays: ['pdus', 'auth_chain'] as const, bytesMax: stateBytesMax };
      return requests.events(destination, { uri, timeoutMs: timeouts.stateMs }, options, body);
    },

    async event(destination, eventId, options) {
      const uri = path`/_matrix/federation/v1/event/${eventId}`;
      const answer = await requests.events(destination, { uri }, options, {
        arrays: ['pdus'],
        bytesMax: within(options),
      });
      const [event, ...more] = await takeFirst(answer, 2);
      if (event === undefined || more.length > 0) throw malformed(destination, 'pdus does not hold exactly one event');
      return event;
    },

    async eventAuth(destination, roomId, eventId, options) {
      const uri = path`/_matrix/federation/v1/event_auth/${roomId}/${eventId}`;
      const body = { arrays: ['auth_chain'] as const, bytesMax: within(options) };
      const answer = await requests.events(destination, { uri }, options, body);
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
      };
      const uri = path`/_matrix/federation/v1/get_missing_events/${roomId}`;
      const ask = { method: 'POST', uri, content } as const;
      const body = { arrays: ['events'] as const, bytesMax: within(options) };
      return takeFirst(await requests.events(destination, ask, options, body), query.limit);
    },

    async backfill(destination, roomId, eventIds, limit, options) {
      const from = eventIds.map((eventId) => `v=${encodeURIComponent(eventId)}`).join('&');
      const uri = path`/_matrix/federation/v1/backfill/${roomId}` + `?${from}&limit=${limit}`;
      const body = { arrays: ['pdus'] as const, bytesMax: within(options) };
      return takeFirst(await requests.events(destination, { uri }, options, body), limit);
    },

    async timestampToEvent(destination, roomId, { at, direction }, options) {
      const uri = path`/_matrix/federation/v1/timestamp_to_event/${roomId}` + `?ts=${at}&dir=${direction}`;
      const { event_id: id, origin_server_ts: when } = await requests.json(destination, { uri }, options);
      const eventId = parseEventId(id);
      if (eventId === undefined || eventId.includes('\0')) throw malformed(destination, 'event_id is no event id');
      if (!Number.isSafeInteger(when)) throw malformed(destination, 'origin_server_ts is no time');
      return { eventId, at: when as number };
    },
  };
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
