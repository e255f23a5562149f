/**
 * Events and state of rooms, for the other servers in them. While a room is partial they are told of what our own users said, and to
 * ask another resident for the rest (MSC3895, https://github.com/matrix-org/matrix-spec-proposals/pull/3895).
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#retrieving-event-authorization-information, #backfilling-and-retrieving-missing-events
 * and #retrieving-events
 */
import { Readable } from 'node:stream';
import { MatrixError } from '../http/matrix-error.ts';
import { type EventId, type RoomId, parseEventId, parseRoomId } from '../matrix/identifiers.ts';
import { parseJsonObject } from '../matrix/json/strict-json.ts';
import { type RoomStatus } from '../rooms/contract.ts';
import { type Denied, type ResidentAnswers } from '../rooms/resident-contract.ts';
import { type AuthenticatedRequest } from './authenticated.ts';
import { type SignedContext, type SignedEndpoint } from './endpoint.ts';
import { streamArrays } from './event-arrays.ts';
import { refuseByStatus } from './partial-rooms.ts';
import { type FederationServerPorts } from './ports.ts';

/** Ids that a request may name: as many as an event may cite, and then some. */
const IDS_MAX = 100;
const BACKFILL_DEFAULT = 100;
const MISSING_DEFAULT = 10;

export const EVENT_ENDPOINTS: readonly SignedEndpoint[] = [
  {
    method: 'GET',
    path: '/_matrix/federation/v1/event/:eventId',
    answer: async ({ params, origin }, context) => {
      const { ports } = context;
      const eventId = eventIdIn(params['eventId']);
      const status = await ports.statusOfEventsRoom(eventId, origin);
      requireOpen(status, ports);
      const events = allowed(await answersOf(ports).event(eventId, origin));
      return asTransaction(context, events);
    },
  },
  {
    method: 'GET',
    path: '/_matrix/federation/v1/state_ids/:roomId',
    answer: async (request, { ports }) => {
      const roomId = await roomOf(request, ports);
      const { state, authChain } = allowed(
        await answersOf(ports).stateIds(roomId, queriedEvent(request), request.origin),
      );
      return { pdu_ids: state, auth_chain_ids: authChain };
    },
  },
  {
    method: 'GET',
    path: '/_matrix/federation/v1/state/:roomId',
    answer: async (request, { ports }) => {
      const roomId = await roomOf(request, ports);
      const { pdus, authChain } = allowed(await answersOf(ports).state(roomId, queriedEvent(request), request.origin));
      return streamArrays({ pdus, auth_chain: authChain });
    },
  },
  {
    method: 'GET',
    path: '/_matrix/federation/v1/event_auth/:roomId/:eventId',
    answer: async (request, { ports }) => {
      const roomId = await roomOf(request, ports);
      const eventId = eventIdIn(request.params['eventId']);
      const events = allowed(await answersOf(ports).eventAuth(roomId, eventId, request.origin));
      return streamArrays({ auth_chain: events });
    },
  },
  {
    method: 'POST',
    path: '/_matrix/federation/v1/get_missing_events/:roomId',
    answer: async (request, { ports }) => {
      const roomId = await roomOf(request, ports);
      const read = parseJsonObject(request.raw);
      if (!read.ok) throw new MatrixError(400, 'M_NOT_JSON', `the body is ${read.reason}`);
      const query = {
        earliest: eventIdsIn(read.value['earliest_events']),
        latest: eventIdsIn(read.value['latest_events']),
        limit: count(read.value['limit'], MISSING_DEFAULT),
        minDepth: count(read.value['min_depth'], 0),
      };
      const events = allowed(await answersOf(ports).missingEvents(roomId, query, request.origin));
      return json(`{"events":[${events.join(',')}]}`);
    },
  },
  {
    method: 'GET',
    path: '/_matrix/federation/v1/backfill/:roomId',
    answer: async (request, context) => {
      const { ports } = context;
      const roomId = await roomOf(request, ports);
      const { v, limit } = request.query;
      const from = eventIdsIn([v].flat().filter((id) => id !== undefined));
      const events = allowed(
        await answersOf(ports).backfill(roomId, from, count(Number(limit), BACKFILL_DEFAULT), request.origin),
      );
      return asTransaction(context, events);
    },
  },
  {
    method: 'GET',
    path: '/_matrix/federation/v1/timestamp_to_event/:roomId',
    answer: async (request, { ports }) => {
      const roomId = await roomOf(request, ports);
      const { eventId, at } = allowed(await answersOf(ports).eventAtTime(roomId, timeIn(request), request.origin));
      return { event_id: eventId, origin_server_ts: at };
    },
  },
];

/** Texts of JSON, sent as they are. */
function json(text: string): Readable {
  return Readable.from([text], { objectMode: false });
}

function asTransaction({ serverName, now }: SignedContext, events: readonly string[]): Readable {
  const head = JSON.stringify({ origin: serverName, origin_server_ts: now() });
  return json(`${head.slice(0, -1)},"pdus":[${events.join(',')}]}`);
}

/** The room of the path, if it is ours and its ACL does not deny the server that asks. Throws a `MatrixError`, as all of these. */
async function roomOf({ params, origin }: AuthenticatedRequest, ports: FederationServerPorts): Promise<RoomId> {
  const roomId = parseRoomId(params['roomId']);
  if (roomId === undefined) throw new MatrixError(400, 'M_INVALID_PARAM', 'that is not a room id');
  const status = await ports.roomStatus(roomId, origin);
  requireOpen(status, ports);
  return roomId;
}

function requireOpen(status: RoomStatus, { resident }: FederationServerPorts): void {
  if (status === 'absent' || status === 'denied' || resident === undefined) throw refuseByStatus(status);
}

function answersOf({ resident }: FederationServerPorts): ResidentAnswers {
  if (resident === undefined) throw new MatrixError(404, 'M_UNRECOGNIZED', 'this server does not serve that');
  return resident;
}

function allowed<Answer>(answer: Denied | Answer): Answer {
  if (answer === 'unknown') throw refuseByStatus('absent');
  if (answer === 'not-in-room') throw new MatrixError(403, 'M_FORBIDDEN', 'your server is not in that room');
  if (answer === 'partial') throw refuseByStatus('partial');
  return answer;
}

function eventIdIn(value: unknown): EventId {
  const eventId = parseEventId(value);
  if (eventId === undefined) throw new MatrixError(400, 'M_INVALID_PARAM', 'that is not an event id');
  return eventId;
}

/** In the query, where a parameter that is given twice is a list. */
function queriedEvent({ query }: AuthenticatedRequest): EventId {
  return eventIdIn(query['event_id']);
}

function eventIdsIn(value: unknown): EventId[] {
  if (!Array.isArray(value) || value.length > IDS_MAX) {
    throw new MatrixError(400, 'M_INVALID_PARAM', `expected a list of at most ${IDS_MAX} event ids`);
  }
  return value.map(eventIdIn);
}

function timeIn({ query: { ts, dir } }: AuthenticatedRequest): Parameters<ResidentAnswers['eventAtTime']>[1] {
  const at = typeof ts === 'string' && /^-?\d{1,16}$/.test(ts) ? Number(ts) : NaN;
  if (!Number.isSafeInteger(at)) throw new MatrixError(400, 'M_INVALID_PARAM', 'ts: expected a time in milliseconds');
  if (dir !== 'f' && dir !== 'b') throw new MatrixError(400, 'M_INVALID_PARAM', 'dir: expected b or f');
  return { at, direction: dir === 'f' ? 'forwards' : 'backwards' };
}

/** A number that counts something; anything else is as if nothing were said. */
function count(value: unknown, otherwise: number): number {
  return Number.isSafeInteger(value) && (value as number) >= 0 ? (value as number) : otherwise;
}
