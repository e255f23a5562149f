/**
 * Reading rooms: their state, their members, their events.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#getting-events-for-a-room
 */
import { MatrixError } from '../../http/matrix-error.ts';
import { clientEvent } from '../../matrix/client/client-event.ts';
import { isJsonObject } from '../../matrix/json/strict-json.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type ClientQuery, type ClientRows } from '../../rooms/client-contract.ts';
import { type NotReady, type StateEvent } from '../../rooms/contract.ts';
import { type UserRequest, queryText } from '../client-request.ts';
import { type ClientContext, type UserEndpoint } from '../context.ts';
import { notReady } from '../errors.ts';
import { R0_AND_V3, inForms } from '../paths.ts';
import { clientQueryOf, eventIdOf } from '../room-request.ts';
import { type Writing } from '../shared-answers.ts';

const MEMBERSHIPS = ['join', 'invite', 'knock', 'leave', 'ban'];

export const ROOM_ENDPOINTS: readonly UserEndpoint[] = (
  [
    {
      method: 'GET',
      path: '/rooms/:roomId/state',
      answer: async (request, context) => {
        const query = clientQueryOf(request, context);
        const writing = { kind: 'list', opening: '[', closing: () => ']', rowJson: eventJson(query) };
        return rowsOf(await context.reads.state(query), context, writing);
      },
    },
    { method: 'GET', path: '/rooms/:roomId/state/:eventType', answer: stateEvent },
    { method: 'GET', path: '/rooms/:roomId/state/:eventType/:stateKey', answer: stateEvent },
    {
      method: 'GET',
      path: '/rooms/:roomId/members',
      answer: (request, context) => {
        // Not by a spread: it gives each object a shape of its own, which takes as much as all its members.
        const { roomId, userId, waitMs, signal } = clientQueryOf(request, context);
        const query = {
          roomId,
          userId,
          waitMs,
          signal,
          membership: membershipOf(request, 'membership'),
          notMembership: membershipOf(request, 'not_membership'),
          at: positionOf(request, context),
        };
        return context.reads.members(query).then((answer) => {
          const writing = { kind: 'chunk', opening: '{"chunk":[', closing: () => ']}', rowJson: eventJson(query) };
          return rowsOf(answer, context, writing);
        });
      },
    },
    {
      method: 'GET',
      path: '/rooms/:roomId/joined_members',
      answer: async (request, context) => {
        const answer = await context.reads.joinedMembers(clientQueryOf(request, context));
        const writing = { kind: 'joined', opening: '{"joined":{', closing: () => '}}', rowJson: joinedJson };
        return rowsOf(answer, context, writing);
      },
    },
    {
      method: 'GET',
      path: '/rooms/:roomId/event/:eventId',
      answer: async (request, context) => {
        const query = clientQueryOf(request, context);
        const answer = await context.reads.event(query, eventIdOf(request));
        if (!answer.ready) throw notReady(answer);
        const event = eventOf(query, answer);
        const age = context.clock.now() - Number(event['origin_server_ts']);
        const relations = answer.relations === undefined ? {} : { 'm.relations': answer.relations };
        return { ...event, unsigned: { ...(event['unsigned'] as JsonObject | undefined), age, ...relations } };
      },
    },
  ] satisfies UserEndpoint[]
).flatMap((endpoint: UserEndpoint) => inForms(R0_AND_V3, endpoint));

async function stateEvent(request: UserRequest, context: ClientContext): Promise<JsonObject> {
  const query = clientQueryOf(request, context);
  const format = queryText(request, 'format') ?? 'content';
  if (format !== 'content' && format !== 'event') throw invalid('format: expected content or event');
  const { eventType: type = '', stateKey = '' } = request.params;
  const answer = await context.reads.stateEvent(query, { type, stateKey });
  if (!answer.ready) throw notReady(answer);
  const event = eventOf(query, answer);
  if (format === 'event') return event;
  const { content } = event;
  return isJsonObject(content) ? content : {};
}

function rowsOf(answer: ClientRows | NotReady, { answers }: ClientContext, writing: Writing): Promise<unknown> {
  if (!answer.ready) throw notReady(answer);
  return answers.write(answer, writing);
}

/** Without an age, which would be another for each who asks. */
function eventOf({ roomId }: Pick<ClientQuery, 'roomId'>, { eventId, json, redactedBecause }: StateEvent): JsonObject {
  const unsigned = redactedBecause === undefined ? {} : { unsigned: { redacted_because: redactedBecause } };
  return clientEvent(JSON.parse(json) as JsonObject, { eventId, roomId, ...unsigned });
}

/** A row of a state as its JSON text. */
export function eventJson(query: ClientQuery): (row: StateEvent) => string {
  return (row) => JSON.stringify(eventOf(query, row));
}

/** A member of the object of those who are joined. */
function joinedJson({ json }: StateEvent): string {
  const { state_key: userId, content } = JSON.parse(json) as JsonObject;
  const { displayname, avatar_url: avatarUrl } = isJsonObject(content) ? content : {};
  const profile = {
    ...(typeof displayname === 'string' ? { display_name: displayname } : {}),
    ...(typeof avatarUrl === 'string' ? { avatar_url: avatarUrl } : {}),
  };
  return `${JSON.stringify(userId)}:${JSON.stringify(profile)}`;
}

function membershipOf(request: UserRequest, name: string): string | null {
  const value = queryText(request, name);
  if (value === undefined) return null;
  if (MEMBERSHIPS.includes(value)) return value;
  throw invalid(`${name}: expected one of ${MEMBERSHIPS.join(', ')}`);
}

/** Where a sync's token stands; `null`: none is given. */
function positionOf(request: UserRequest, { sync }: ClientContext): number | null {
  const token = queryText(request, 'at');
  return token === undefined ? null : sync.positionOf(token);
}

function invalid(message: string): MatrixError {
  return new MatrixError(400, 'M_INVALID_PARAM', message);
}
