/**
 * What the answer of send_join must satisfy before anything of it is used. Pure: its events have passed the
 * checks of receipt already. Each refusal names its rule.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#put_matrixfederationv2send_joinroomideventid, and MSC3706,
 * https://github.com/matrix-org/matrix-spec-proposals/pull/3706
 */
import { type EventId, type RoomId, type ServerName, parseServerName } from '../matrix/identifiers.ts';
import { type Json } from '../matrix/pdu.ts';
import { isJsonObject } from '../matrix/json/strict-json.ts';
import { type CheckOutcome, type CheckedPdu } from '../verification/contract.ts';
import { type SendJoinHeader } from './contract.ts';
import { type JoinRefusal } from './join-refusal.ts';
import { refuse } from '../matrix/refusal.ts';
import { type JoinTemplate } from './join-template.ts';

/** Servers taken of a stranger's list: twice the servers of the largest public rooms, about 600 KB of names. */
export const SERVERS_IN_ROOM_MAX = 20_000;

/** What is judged of an event of the answer. The body is read of create events only, and may be stored and gone by now. */
export type AnsweredPdu = Pick<CheckedPdu, 'eventId' | 'roomId' | 'type' | 'stateKey'> &
  Partial<Pick<CheckedPdu, 'json'>>;

export interface JoinAnswer {
  readonly template: JoinTemplate;
  readonly roomId: RoomId;
  readonly joinEventId: EventId;
  readonly ourselves: ServerName;
  /** The server that answered send_join. */
  readonly resident: ServerName;
  /** Whether the request said `omit_members=true`. */
  readonly omitMembersAsked: boolean;
  readonly header: SendJoinHeader;
  /** The events of `state` that passed the checks of receipt, in the order given. */
  readonly state: readonly AnsweredPdu[];
  /** The events of `auth_chain` that passed. */
  readonly authChain: readonly AnsweredPdu[];
  /** What the checks of receipt made of `header.event`; `undefined` when there was none. */
  readonly returnedEvent: CheckOutcome | undefined;
}

export interface JoinAnswerVerdict {
  readonly ok: true;
  /** False: the whole state was given, whatever we asked. */
  readonly membersOmitted: boolean;
  /** The answering server first, then its hint; never ourselves; at most `SERVERS_IN_ROOM_MAX`. */
  readonly serversInRoom: readonly ServerName[];
  readonly createEvent: AnsweredPdu;
  /** `state` without message events and later duplicates of one (type, state key). */
  readonly state: readonly AnsweredPdu[];
  /** At restricted joins the join event with the resident's signature added, which must replace ours; else `undefined`. */
  readonly joinEvent: CheckedPdu | undefined;
}

/** Judges the answer of send_join. */
export function checkJoinAnswer(answer: JoinAnswer): JoinAnswerVerdict | JoinRefusal {
  const servers = checkServers(answer);
  if (!servers.ok) return servers;
  const created = checkCreate(answer);
  if (!created.ok) return created;
  const returned = checkReturnedEvent(answer);
  if (!returned.ok) return returned;
  return {
    ok: true,
    membersOmitted: servers.membersOmitted,
    serversInRoom: servers.serversInRoom,
    createEvent: created.createEvent,
    state: distinctState(answer.state),
    joinEvent: returned.joinEvent,
  };
}

type Checked<T> = ({ readonly ok: true } & T) | JoinRefusal;

function checkServers(
  answer: JoinAnswer,
): Checked<{ readonly membersOmitted: boolean; readonly serversInRoom: readonly ServerName[] }> {
  const { membersOmitted, serversInRoom } = answer.header;
  if (membersOmitted !== undefined && typeof membersOmitted !== 'boolean') {
    return refuse('members-omitted-type', 'members_omitted is not a boolean');
  }
  if (membersOmitted === true && !answer.omitMembersAsked) {
    return refuse('members-omitted-unasked', 'members were omitted though that was not asked for');
  }
  const listed: readonly unknown[] | undefined = Array.isArray(serversInRoom) ? serversInRoom : undefined;
  if (membersOmitted === true) {
    if (listed === undefined || listed.length === 0 || !listed.every((name) => typeof name === 'string')) {
      return refuse('servers-in-room', 'members were omitted without a list of the servers in the room');
    }
  }
  const servers = new Set<ServerName>([answer.resident]);
  for (const name of listed ?? []) {
    if (servers.size >= SERVERS_IN_ROOM_MAX) break;
    const server = parseServerName(name);
    if (server !== undefined) servers.add(server);
  }
  servers.delete(answer.ourselves);
  return { ok: true, membersOmitted: membersOmitted === true, serversInRoom: [...servers] };
}

function checkCreate(answer: JoinAnswer): Checked<{ readonly createEvent: AnsweredPdu }> {
  const { rules } = answer.template;
  for (const pdu of [...answer.state, ...answer.authChain]) {
    if (pdu.roomId !== answer.roomId) return refuse('foreign-room', `${pdu.eventId} is of another room`);
  }
  const isCreate = (pdu: AnsweredPdu): boolean => pdu.type === 'm.room.create' && pdu.stateKey !== null;
  const createEvent = answer.state.find((pdu) => isCreate(pdu) && pdu.stateKey === '');
  if (createEvent === undefined) return refuse('create-missing', 'the state has no create event');
  for (const pdu of [...answer.state, ...answer.authChain]) {
    if (isCreate(pdu) && pdu.eventId !== createEvent.eventId) {
      return refuse('create-twice', `${pdu.eventId} is a second create event`);
    }
  }
  const version = roomVersionOf(createEvent);
  if (version !== rules.version) {
    return refuse(
      'create-room-version',
      `the create event says version ${JSON.stringify(version)}, not ${rules.version}`,
    );
  }
  if (rules.roomIdIsCreateHash) {
    if (`!${createEvent.eventId.slice(1)}` !== answer.roomId) {
      return refuse('create-room-id', 'the room id is not the hash of the create event');
    }
    if (answer.template.authEventIds.includes(createEvent.eventId)) {
      return refuse('create-cited', 'the template cites the create event, which this room version forbids');
    }
  }
  return { ok: true, createEvent };
}

/** `content.room_version`, `1` where absent; `undefined` for anything but a string. */
function roomVersionOf(createEvent: AnsweredPdu): string | undefined {
  const { content } = JSON.parse(createEvent.json === undefined ? '{}' : Buffer.from(createEvent.json).toString()) as {
    content?: Json;
  };
  const version = isJsonObject(content) ? content['room_version'] : undefined;
  if (version === undefined) return '1';
  return typeof version === 'string' ? version : undefined;
}

function checkReturnedEvent(answer: JoinAnswer): Checked<{ readonly joinEvent: CheckedPdu | undefined }> {
  if (answer.template.authorisedVia === undefined) return { ok: true, joinEvent: undefined };
  const { returnedEvent } = answer;
  if (returnedEvent === undefined) {
    return refuse('returned-event-missing', 'a restricted join was answered without the event signed by the resident');
  }
  const eventId = returnedEvent.outcome === 'passed' ? returnedEvent.pdu.eventId : returnedEvent.eventId;
  if (eventId !== answer.joinEventId) {
    return refuse('returned-event-id', `the returned event is ${eventId ?? 'no event of this room'}`);
  }
  if (returnedEvent.outcome !== 'passed' || returnedEvent.pdu.hollow) {
    return refuse('returned-event-signature', `the returned event is not usable: ${returnedEvent.outcome}`);
  }
  return { ok: true, joinEvent: returnedEvent.pdu };
}

function distinctState(state: readonly AnsweredPdu[]): AnsweredPdu[] {
  const seen = new Set<string>();
  return state.filter((pdu) => {
    const place = JSON.stringify([pdu.type, pdu.stateKey]);
    if (pdu.stateKey === null || seen.has(place)) return false;
    seen.add(place);
    return true;
  });
}
