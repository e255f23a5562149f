/**
 * State and events, for servers that are in the room.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#retrieving-events and #backfilling-and-retrieving-missing-events
 */
import { MatrixError } from '../http/matrix-error.ts';
import { compareDepths } from '../matrix/depth.ts';
import { type EventId, parseEventId } from '../matrix/identifiers.ts';
import { type Json, type JsonObject } from '../matrix/pdu.ts';
import { type Answer, answerWith, answerWithEvents, withCrowd } from './answer.ts';
import { type Endpoint, type SignedRequest } from './endpoint.ts';
import { type Federation, eventOf, eventsOf, requireInRoom, roomFor } from './federation.ts';
import { type SimulatedEvent, type SimulatedRoom } from './room.ts';

/** What real servers cap the `limit` of a request at. */
const BACKFILL_MAX = 100;
const MISSING_EVENTS_MAX = 20;
const MISSING_EVENTS_DEFAULT = 10;

export const STATE_ENDPOINTS: readonly Endpoint[] = [
  {
    name: 'state_ids',
    method: 'GET',
    path: '/_matrix/federation/v1/state_ids/:roomId',
    answer: (request, federation) => {
      const { room, stateIds, authChainIds } = stateAsked(request, federation);
      return answerWith({ pdu_ids: [...stateIds, ...room.crowd.ids()], auth_chain_ids: authChainIds });
    },
  },
  {
    name: 'state',
    method: 'GET',
    path: '/_matrix/federation/v1/state/:roomId',
    answer: (request, federation) => {
      const { room, stateIds, authChainIds } = stateAsked(request, federation);
      const answer = answerWithEvents({ pdus: eventsOf(room, stateIds), auth_chain: eventsOf(room, authChainIds) });
      return withCrowd(answer, room.crowd);
    },
  },
  {
    name: 'event',
    method: 'GET',
    path: '/_matrix/federation/v1/event/:eventId',
    answer: ({ server, origin, params: [eventId] }, federation) => {
      const id = parseEventId(eventId);
      for (const room of federation.rooms.values()) {
        const event = id === undefined ? undefined : room.event(id);
        if (event === undefined) continue;
        requireInRoom(room, origin);
        return answerWithEvents({ pdus: [event] }, { origin: server, origin_server_ts: federation.clock.now() });
      }
      throw new MatrixError(404, 'M_NOT_FOUND', 'this server knows nothing of that event');
    },
  },
  {
    name: 'event_auth',
    method: 'GET',
    path: '/_matrix/federation/v1/event_auth/:roomId/:eventId',
    answer: ({ origin, params: [roomId, eventId] }, federation) => {
      const room = roomFor(federation, roomId, origin);
      const event = eventOf(room, eventId);
      return answerWithEvents({ auth_chain: eventsOf(room, room.authChain([event.eventId])) });
    },
  },
  {
    name: 'backfill',
    method: 'GET',
    path: '/_matrix/federation/v1/backfill/:roomId',
    answer: ({ server, origin, params: [roomId], query }, federation) => {
      const room = roomFor(federation, roomId, origin);
      const from = query.getAll('v').map((eventId) => eventOf(room, eventId));
      const pdus = backfill(room, from, limitOf(Number(query.get('limit')), BACKFILL_MAX, BACKFILL_MAX));
      return answerWithEvents({ pdus }, { origin: server, origin_server_ts: federation.clock.now() });
    },
  },
  {
    name: 'get_missing_events',
    method: 'POST',
    path: '/_matrix/federation/v1/get_missing_events/:roomId',
    answer: getMissingEvents,
  },
  {
    name: 'timestamp_to_event',
    method: 'GET',
    path: '/_matrix/federation/v1/timestamp_to_event/:roomId',
    answer: ({ origin, params: [roomId], query }, federation) => {
      const room = roomFor(federation, roomId, origin);
      const [at, isForwards] = [Number(query.get('ts')), query.get('dir') === 'f'];
      const all = backfill(room, eventsOf(room, room.extremities), Infinity).map(({ eventId, json }) => {
        const { origin_server_ts: when } = JSON.parse(json.toString()) as { readonly origin_server_ts: number };
        return { event_id: eventId, origin_server_ts: when };
      });
      const distance = (one: { readonly origin_server_ts: number }): number =>
        isForwards ? one.origin_server_ts - at : at - one.origin_server_ts;
      const [nearest] = all.filter((one) => distance(one) >= 0).toSorted((a, b) => distance(a) - distance(b));
      if (nearest === undefined) throw new MatrixError(404, 'M_NOT_FOUND', 'nothing lies there');
      return answerWith(nearest);
    },
  },
];

interface StateAsked {
  readonly room: SimulatedRoom;
  readonly stateIds: readonly EventId[];
  readonly authChainIds: readonly EventId[];
}

/** `/state_ids` and `/state` are asked about the same event one after the other, and it takes a while to collect. */
const lastAsked = new WeakMap<SimulatedRoom, StateAsked & { readonly eventId: EventId }>();

function stateAsked({ origin, params, query }: SignedRequest, federation: Federation): StateAsked {
  const room = roomFor(federation, params[0], origin);
  const { eventId } = eventOf(room, query.get('event_id'));
  const last = lastAsked.get(room);
  if (last?.eventId === eventId) return last;
  const state = room.stateBefore(eventId);
  // A real server would have it; a simulated one keeps the states of recent events only.
  if (state === undefined) throw new MatrixError(404, 'M_NOT_FOUND', 'the state before that event is not kept here');
  const stateIds = [...state.values()];
  const asked = { room, eventId, stateIds, authChainIds: [...room.authChain(stateIds)] };
  lastAsked.set(room, asked);
  return asked;
}

/** The events given and those before them, the deepest first. */
function backfill(room: SimulatedRoom, from: readonly SimulatedEvent[], limit: number): SimulatedEvent[] {
  const found: SimulatedEvent[] = [];
  const seen = new Set<EventId>();
  const open: SimulatedEvent[] = [];
  const see = (events: readonly SimulatedEvent[]): void => {
    for (const event of events) if (!seen.has(event.eventId)) open.push(event);
    for (const { eventId } of events) seen.add(eventId);
    open.sort(compareDepths);
  };
  see(from);
  while (found.length < limit) {
    const deepest = open.pop();
    if (deepest === undefined) break;
    found.push(deepest);
    see(eventsOf(room, deepest.prevEvents));
  }
  return found;
}

function getMissingEvents({ origin, params: [roomId], content }: SignedRequest, federation: Federation): Answer {
  const room = roomFor(federation, roomId, origin);
  const limit = limitOf(content['limit'], MISSING_EVENTS_DEFAULT, MISSING_EVENTS_MAX);
  const minDepth = typeof content['min_depth'] === 'number' ? content['min_depth'] : 0;
  const events = room.missingEvents(idsIn(content, 'latest_events'), idsIn(content, 'earliest_events'), limit);
  return answerWithEvents({ events: events.filter(({ depth }) => depth >= minDepth) });
}

function limitOf(value: Json | undefined, usual: number, max: number): number {
  return typeof value === 'number' && value > 0 ? Math.min(Math.floor(value), max) : usual;
}

function idsIn(content: JsonObject, name: string): EventId[] {
  const value = content[name];
  if (!Array.isArray(value)) throw new MatrixError(400, 'M_BAD_JSON', `${name} is not a list`);
  return (value as readonly Json[]).map(parseEventId).filter((id) => id !== undefined);
}
