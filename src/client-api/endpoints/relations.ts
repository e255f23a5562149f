/**
 * What relates to events: edits, reactions, threads.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#relationships-api and #get_matrixclientv1roomsroomidthreads
 */
import { MatrixError } from '../../http/matrix-error.ts';
import { ANY_EVENT } from '../../matrix/client/filter.ts';
import { IDENTIFIER_BYTES_MAX } from '../../matrix/identifiers.ts';
import { formatRoomPoint } from '../../matrix/client/tokens.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type UserRequest, queryText } from '../client-request.ts';
import { type ClientContext, type UserEndpoint } from '../context.ts';
import { notReady } from '../errors.ts';
import { clientQueryOf, eventIdOf } from '../room-request.ts';
import { directionOf, limitOf, pointOf } from './messages.ts';

const ROOM = '/_matrix/client/v1/rooms/:roomId';
const RELATIONS = `${ROOM}/relations/:eventId`;
/** How far relations are followed where that is wanted: what is summed up of events that relate to events. */
const RECURSION_DEPTH = 3;
const THREADS_TOKEN = /^r1_(0|[1-9]\d{0,15})$/;

export const RELATION_ENDPOINTS: readonly UserEndpoint[] = [
  { method: 'GET', path: RELATIONS, answer: relations },
  { method: 'GET', path: `${RELATIONS}/:relType`, answer: relations },
  { method: 'GET', path: `${RELATIONS}/:relType/:eventType`, answer: relations },
  {
    method: 'GET',
    path: `${ROOM}/threads`,
    answer: async (request, context) => {
      const include = queryText(request, 'include') ?? 'all';
      if (include !== 'all' && include !== 'participated') throw invalid('include: expected all or participated');
      const { events, next } = await context.reads.threads({
        ...clientQueryOf(request, context),
        deviceId: request.requester.deviceId,
        limit: limitOf(request),
        participated: include === 'participated',
        before: threadsToken(request),
      });
      return { chunk: events, ...(next === null ? {} : { next_batch: `r1_${next}` }) };
    },
  },
];

async function relations(request: UserRequest, context: ClientContext): Promise<JsonObject> {
  const { relType = null, eventType } = request.params;
  // No database is asked for a NUL in a type.
  const isName = (name = '', isType: boolean): boolean =>
    Buffer.byteLength(name) <= IDENTIFIER_BYTES_MAX && !(isType && name.includes('\0'));
  if (!isName(relType ?? '', false)) throw invalid('that is no kind of relation');
  if (!isName(eventType, true)) throw invalid('that is no type of events');
  const recurse = queryText(request, 'recurse') ?? 'false';
  if (recurse !== 'true' && recurse !== 'false') throw invalid('recurse: expected true or false');
  const answer = await context.reads.relations({
    ...clientQueryOf(request, context),
    deviceId: request.requester.deviceId,
    eventId: eventIdOf(request),
    relType,
    filter: eventType === undefined ? ANY_EVENT : { ...ANY_EVENT, types: [eventType] },
    direction: directionOf(request, 'b') === 'b' ? 'backwards' : 'forwards',
    from: pointOf(request, 'from'),
    to: pointOf(request, 'to'),
    limit: limitOf(request),
    recurse: recurse === 'true',
  });
  if (!answer.ready) throw notReady(answer);
  const { events, start, end } = answer;
  return {
    chunk: events,
    ...(end === null ? {} : { next_batch: formatRoomPoint(end) }),
    ...(start === null ? {} : { prev_batch: formatRoomPoint(start) }),
    ...(recurse === 'true' ? { recursion_depth: RECURSION_DEPTH } : {}),
  };
}

function threadsToken(request: UserRequest): number | null {
  const text = queryText(request, 'from') ?? '';
  if (text === '') return null;
  const number = Number(THREADS_TOKEN.exec(text)?.[1]);
  if (Number.isSafeInteger(number)) return number;
  throw invalid('from: no token of this server');
}

function invalid(message: string): MatrixError {
  return new MatrixError(400, 'M_INVALID_PARAM', message);
}
