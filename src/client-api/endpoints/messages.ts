/**
 * Going through what was said in rooms.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv3roomsroomidmessages, #get_matrixclientv3roomsroomidcontexteventid
 * and #get_matrixclientv1roomsroomidtimestamp_to_event
 */
import { streamParts } from '../../http/json-stream.ts';
import { MatrixError } from '../../http/matrix-error.ts';
import { type EventFilter, parseFilter } from '../../matrix/client/filter.ts';
import { type RoomPoint, formatRoomPoint, readRoomPoint } from '../../matrix/client/tokens.ts';
import { isJsonObject, parseJsonObject } from '../../matrix/json/strict-json.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type UserRequest, queryText } from '../client-request.ts';
import { type UserEndpoint } from '../context.ts';
import { notReady } from '../errors.ts';
import { R0_AND_V3, inForms } from '../paths.ts';
import { clientQueryOf, eventIdOf } from '../room-request.ts';

const LIMIT_DEFAULT = 10;
/** More is given in several answers. */
const LIMIT_MAX = 100;

/** Younger than the forms under which the others are known. */
export const TIME_ENDPOINTS: readonly UserEndpoint[] = [
  {
    method: 'GET',
    path: '/_matrix/client/v1/rooms/:roomId/timestamp_to_event',
    answer: async (request, context) => {
      const direction = directionOf(request) === 'b' ? 'backwards' : 'forwards';
      const query = { ...clientQueryOf(request, context), at: timeOf(request), direction } as const;
      const { eventId, at } = await context.reads.eventAtTime(query);
      return { event_id: eventId, origin_server_ts: at };
    },
  },
];

export const MESSAGES_ENDPOINTS: readonly UserEndpoint[] = (
  [
    {
      method: 'GET',
      path: '/rooms/:roomId/messages',
      answer: async (request, context) => {
        const { filter, isLazy, limit: ofFilter } = filterOf(request);
        const answer = await context.reads.messages({
          ...clientQueryOf(request, context),
          deviceId: request.requester.deviceId,
          direction: directionOf(request) === 'b' ? 'backwards' : 'forwards',
          from: pointOf(request, 'from'),
          to: pointOf(request, 'to'),
          limit: limitOf(request, ofFilter),
          ...{ filter, isLazy },
        });
        if (!answer.ready) throw notReady(answer);
        const { events, start, end, state } = answer;
        return {
          ...{ chunk: events, start: formatRoomPoint(start) },
          ...(end === null ? {} : { end: formatRoomPoint(end) }),
          ...(state.length === 0 ? {} : { state }),
        };
      },
    },
    {
      method: 'GET',
      path: '/rooms/:roomId/context/:eventId',
      answer: async (request, context) => {
        const { filter, isLazy, limit: ofFilter } = filterOf(request);
        const answer = await context.reads.context({
          ...clientQueryOf(request, context),
          deviceId: request.requester.deviceId,
          eventId: eventIdOf(request),
          limit: contextLimitOf(request, ofFilter),
          ...{ filter, isLazy },
        });
        if (!answer.ready) throw notReady(answer);
        const { before, event, after, start, end, state } = answer;
        const head = {
          ...{ events_before: before, event, events_after: after, end: formatRoomPoint(end) },
          ...(start === null ? {} : { start: formatRoomPoint(start) }),
        };
        const frame = { opening: `${JSON.stringify(head).slice(0, -1)},"state":[`, closing: () => ']}' };
        return streamParts(frame, state, (row) => JSON.stringify(row));
      },
    },
  ] satisfies UserEndpoint[]
).flatMap((endpoint: UserEndpoint) => inForms(R0_AND_V3, endpoint));

/** `f` or `b`. Throws a `MatrixError`, as all of these. */
export function directionOf(request: UserRequest, otherwise?: 'b' | 'f'): 'b' | 'f' {
  const dir = queryText(request, 'dir') ?? otherwise;
  if (dir === 'b' || dir === 'f') return dir;
  throw invalid('dir: expected b or f');
}

/** Milliseconds since the Unix epoch. */
function timeOf(request: UserRequest): number {
  const text = queryText(request, 'ts');
  if (text === undefined) throw new MatrixError(400, 'M_MISSING_PARAM', 'ts: expected a time');
  const at = /^-?\d{1,16}$/.test(text) ? Number(text) : NaN;
  if (Number.isSafeInteger(at)) return at;
  throw invalid('ts: expected a time in milliseconds since the Unix epoch');
}

/** `null`: none is given. */
export function pointOf(request: Pick<UserRequest, 'query'>, name: string): RoomPoint | null {
  const token = queryText(request, name);
  if (token === undefined || token === '') return null;
  const point = readRoomPoint(token);
  if (point === undefined) throw invalid(`${name}: no token of this server`);
  return point;
}

/** As many as one answer gives, where more are wanted. */
export function limitOf(request: Pick<UserRequest, 'query'>, otherwise: number | null = null): number {
  const text = queryText(request, 'limit');
  if (text === undefined) return Math.min(Math.max(1, otherwise ?? LIMIT_DEFAULT), LIMIT_MAX);
  if (/^[1-9]\d*$/.test(text)) return Math.min(Number(text), LIMIT_MAX);
  throw invalid('limit: expected a number of at least 1');
}

/** Around an event there may be nothing wanted at all. */
function contextLimitOf(request: Pick<UserRequest, 'query'>, otherwise: number | null): number {
  const text = queryText(request, 'limit');
  return text === '0' || (text === undefined && otherwise === 0) ? 0 : limitOf(request, otherwise);
}

interface RoomEventFilter {
  readonly filter: EventFilter;
  readonly isLazy: boolean;
  readonly limit: number | null;
}

/** Source: https://spec.matrix.org/v1.16/client-server-api/#filtering (RoomEventFilter) */
function filterOf(request: UserRequest): RoomEventFilter {
  const text = queryText(request, 'filter');
  const parsed = parseJsonObject(Buffer.from(text === undefined || text === '' ? '{}' : text));
  if (!parsed.ok) throw invalid(`filter: ${parsed.reason}`);
  const said: JsonObject = parsed.value;
  const read = parseFilter({ room: { timeline: said, state: said } });
  if (!read.ok) throw invalid(read.reason);
  const { timeline, state } = read.filter;
  return {
    filter: timeline,
    isLazy: state.lazyLoadMembers,
    limit: isJsonObject(said) && typeof said['limit'] === 'number' ? said['limit'] : null,
  };
}

function invalid(message: string): MatrixError {
  return new MatrixError(400, 'M_INVALID_PARAM', message);
}
