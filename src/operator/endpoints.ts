/** The operator API, `/_rejoinder/v1`: join a room, list and explain rooms, read members and state. */
import { type IncomingHttpHeaders } from 'node:http';
import { type Readable } from 'node:stream';
import { type z } from 'zod';
import { type Endpoint, type OpenRequest } from '../http/endpoint.ts';
import { streamRows } from '../http/json-stream.ts';
import { type RoomId, type ServerName } from '../matrix/identifiers.ts';
import { type NotReady, type Ready } from '../rooms/contract.ts';
import * as forms from './answer-forms.ts';
import { descriptionAnswer, joinAnswer, memberAnswer, roomAnswer } from './answers.ts';
import { notReady } from './errors.ts';
import { type OperatorPorts } from './ports.ts';
import {
  joinBody,
  membersQuery,
  parseJoin,
  parseMembersQuery,
  parseRoomParameter,
  parseStateQuery,
  stateQuery,
} from './requests.ts';

export interface OperatorRequest extends OpenRequest {
  readonly query: unknown;
  /** The JSON of the body, parsed. */
  readonly body: unknown;
  readonly headers: IncomingHttpHeaders;
  /** Aborted when the caller goes away. */
  readonly signal: AbortSignal;
}

/** What the API's description (openapi.ts) says of an endpoint beside its method and path. */
export interface OperatorEndpoint extends Endpoint<OperatorRequest, OperatorContext> {
  readonly summary: string;
  readonly query?: z.ZodType;
  readonly body?: z.ZodType;
  /** What is answered with 200. */
  readonly answers: z.ZodType;
}

export interface OperatorContext {
  readonly version: string;
  readonly serverName: ServerName;
  readonly ports: OperatorPorts;
  /** How long a request may wait for a room to become whole, milliseconds. */
  readonly membersWaitMaxMs: number;
}

export const ROOM_ENDPOINTS: readonly OperatorEndpoint[] = [
  {
    method: 'POST',
    path: '/_rejoinder/v1/rooms/join',
    summary: 'Joins a room; answers when it is usable, its members may still be on their way.',
    body: joinBody,
    answers: forms.joinAnswer,
    answer: async ({ body, signal }, { ports, serverName }) =>
      joinAnswer(await ports.joinRoom({ ...parseJoin(body, serverName), signal })),
  },
  {
    method: 'GET',
    path: '/_rejoinder/v1/rooms',
    summary: 'Every room, and how far it is.',
    answers: forms.roomsAnswer,
    answer: async (_request, { ports }) => ({ rooms: (await ports.listRooms()).map(roomAnswer) }),
  },
  {
    method: 'GET',
    path: '/_rejoinder/v1/rooms/:room',
    summary: 'One room with its control journal in words.',
    answers: forms.descriptionAnswer,
    answer: async (request, { ports }) => descriptionAnswer(await ports.describeRoom(await roomOf(request, ports))),
  },
  {
    method: 'GET',
    path: '/_rejoinder/v1/rooms/:room/members',
    summary: 'The memberships of a room, once it is whole.',
    query: membersQuery,
    answers: forms.membersAnswer,
    answer: async (request, { ports, membersWaitMaxMs }) => {
      const { waitMs, membership } = parseMembersQuery(request.query, membersWaitMaxMs);
      const roomId = await roomOf(request, ports);
      const answer = await ports.members(roomId, { waitMs, membership, signal: request.signal });
      return rowsOf(answer, { room_id: roomId, ...degradedOf(answer) }, 'members', (member) =>
        JSON.stringify(memberAnswer(member)),
      );
    },
  },
  {
    method: 'GET',
    path: '/_rejoinder/v1/rooms/:room/state',
    summary:
      'The state of a room, or the one before an event: without memberships at once, with them once it is whole.',
    query: stateQuery,
    answers: forms.stateAnswer,
    answer: async (request, { ports, membersWaitMaxMs }) => {
      const { waitMs, members, at } = parseStateQuery(request.query, membersWaitMaxMs);
      const roomId = await roomOf(request, ports);
      const answer = await ports.state(roomId, { waitMs, members, at, signal: request.signal });
      const before = at === undefined ? {} : { before: at };
      const head = { room_id: roomId, ...before, members_included: members, ...degradedOf(answer) };
      return rowsOf(answer, head, 'state', ({ eventId, json, redactedBecause }) => {
        const because = redactedBecause === undefined ? '' : `,"redacted_because":${JSON.stringify(redactedBecause)}`;
        return `{"event_id":${JSON.stringify(eventId)},"event":${json}${because}}`;
      });
    },
  },
];

/** A list of members or a state that lacks events says so before its rows. */
function degradedOf(answer: Ready<unknown> | NotReady): { readonly degraded?: true } {
  return answer.ready && answer.degraded === true ? { degraded: true } : {};
}

/** The room that a path names. */
export function roomOf({ params, signal }: OperatorRequest, ports: OperatorPorts): Promise<RoomId> {
  return ports.resolveRoom(parseRoomParameter(params['room'] ?? ''), signal);
}

/** The rows as they are read, or the word that they cannot be had yet. */
async function rowsOf<Row>(
  answer: Ready<Row> | NotReady,
  head: Readonly<Record<string, unknown>>,
  name: string,
  rowJson: (row: Row) => string,
): Promise<Readable> {
  if (!answer.ready) throw notReady(answer);
  return streamRows(head, name, answer.pages, rowJson);
}
