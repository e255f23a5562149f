/**
 * Joining through a simulated server: the template, and the join itself with the state of the room, whole or without
 * memberships.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#joining-rooms
 */
import { MatrixError } from '../http/matrix-error.ts';
import { authoriseAgainstState } from '../matrix/auth/auth-rules.ts';
import { parsePdu } from '../matrix/event-format.ts';
import { type EventId, type ServerName, type UserId, domainOf, parseUserId } from '../matrix/identifiers.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { stateMapKey } from '../matrix/state-map.ts';
import { invariant } from '../invariant.ts';
import { type Answer, answerWith, answerWithEvents, withCrowd } from './answer.ts';
import { checkReceivedFrom, forbidden } from './check-received.ts';
import { type Endpoint, type SignedRequest } from './endpoint.ts';
import { type Federation, eventsOf, joinedFromOutside, roomOf } from './federation.ts';
import { type SimulatedEvent, type SimulatedRoom } from './room.ts';
import { authStateOfRoom } from './room-verdicts.ts';

/** What the keys of memberships in a state map begin with. */
const MEMBERS = stateMapKey('m.room.member', '');

export const JOIN_ENDPOINTS: readonly Endpoint[] = [
  {
    name: 'make_join',
    method: 'GET',
    path: '/_matrix/federation/v1/make_join/:roomId/:userId',
    answer: makeJoin,
  },
  {
    name: 'send_join',
    method: 'PUT',
    path: '/_matrix/federation/v2/send_join/:roomId/:eventId',
    answer: async (request, federation) => {
      const { room, event } = await takeJoin(request, federation);
      return joinAnswer(federation, room, event, request.server, request.query.get('omit_members') === 'true');
    },
  },
  {
    name: 'send_join',
    method: 'PUT',
    path: '/_matrix/federation/v1/send_join/:roomId/:eventId',
    answer: async (request, federation) => {
      const { room, event } = await takeJoin(request, federation);
      const { status, body } = joinAnswer(federation, room, event, request.server, false);
      return { status, body: ['[200,', ...body, ']'] };
    },
  },
];

function makeJoin({ origin, params, query }: SignedRequest, federation: Federation): Answer {
  const room = roomOf(federation, params[0]);
  const userId = parseUserId(params[1]);
  if (userId === undefined) throw new MatrixError(400, 'M_INVALID_PARAM', 'that is not a user id');
  if (domainOf(userId) !== origin) throw new MatrixError(403, 'M_FORBIDDEN', 'the user is of another server');
  const { roomVersion, rules } = room;
  // Absent means version 1, from before rooms had versions.
  const understood = query.has('ver') ? query.getAll('ver') : ['1'];
  if (!understood.includes(roomVersion)) {
    const details = { room_version: roomVersion };
    throw new MatrixError(400, 'M_INCOMPATIBLE_ROOM_VERSION', `the room is of version ${roomVersion}`, details);
  }
  const template = room.joinTemplate(userId);
  const trial = { origin_server_ts: 0, ...template.event };
  const parsed = parsePdu(trial, rules, { knownId: '$template' as EventId, mayLackHashes: true });
  invariant(parsed.ok, 'a template is an event but for its hash and signature');
  const verdict = authoriseAgainstState(parsed.pdu, authStateOfRoom(room), rules);
  if (!verdict.ok) throw forbidden(verdict);
  return answerWith({ ...template });
}

async function takeJoin(
  { server, origin, params, content, signal }: SignedRequest,
  federation: Federation,
): Promise<{ readonly room: SimulatedRoom; readonly event: SimulatedEvent }> {
  const room = roomOf(federation, params[0]);
  const pdu = await checkReceivedFrom(federation, room, content, origin, signal);
  if (pdu.eventId !== params[1]) throw new MatrixError(400, 'M_INVALID_PARAM', `the event is ${pdu.eventId}`);
  if (pdu.type !== 'm.room.member' || pdu.content['membership'] !== 'join' || pdu.stateKey !== pdu.sender) {
    throw new MatrixError(400, 'M_INVALID_PARAM', 'the event is not a join');
  }
  // A join sent again, after an answer that was lost, is answered and not told to anybody anew.
  const isNew = room.event(pdu.eventId) === undefined;
  const event = room.accept(content);
  const others = joinedFromOutside(federation, room).filter((other) => other !== origin);
  if (isNew) federation.pushes.push(event, server, others);
  return { room, event };
}

function joinAnswer(
  { residents }: Federation,
  room: SimulatedRoom,
  join: SimulatedEvent,
  server: ServerName,
  omitMembers: boolean,
): Answer {
  const stateMap = room.stateBefore(join.eventId);
  invariant(stateMap !== undefined, 'the state before a recent event is kept');
  const state = eventsOf(room, omitMembers ? withoutMembers(stateMap, join.sender) : stateMap.values());
  const authChainIds = room.authChain([join, ...state].map(({ eventId }) => eventId));
  // Events of the state need not come twice.
  if (omitMembers) for (const { eventId } of state) authChainIds.delete(eventId);
  const event = JSON.parse(join.json.toString('utf8')) as JsonObject;
  const answer = answerWithEvents(
    { state, auth_chain: eventsOf(room, authChainIds) },
    {
      event,
      origin: server,
      members_omitted: omitMembers,
      // Residents first: the next ones asked are those that tests and the demo make fail.
      ...(omitMembers ? { servers_in_room: serversOf(room, residents) } : {}),
    },
  );
  return omitMembers ? answer : withCrowd(answer, room.crowd);
}

function serversOf(room: SimulatedRoom, residents: readonly ServerName[]): ServerName[] {
  const inRoom = room.serversInRoom();
  return [...new Set([...residents.filter((resident) => inRoom.includes(resident)), ...inRoom])];
}

/**
 * The state without memberships but the joining user's own. Members that a client would name the room after are left out
 * with the others: simulated rooms have names.
 */
function withoutMembers(stateMap: ReadonlyMap<string, EventId>, userId: UserId): EventId[] {
  const own = stateMapKey('m.room.member', userId);
  const kept: EventId[] = [];
  for (const [key, eventId] of stateMap) if (!key.startsWith(MEMBERS) || key === own) kept.push(eventId);
  return kept;
}
