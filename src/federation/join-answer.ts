/**
 * What a resident's two answers of a join must satisfy before anything of them is used (FACTS A 0 and 3). Pure: reads
 * the template of make_join, builds our own event from it, and judges the answer of send_join whose events have passed
 * the checks of receipt already. Each refusal names its rule.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#joining-rooms
 */
import {
  type EventId,
  type RoomId,
  type ServerName,
  type UserId,
  domainOf,
  parseEventId,
  parseServerName,
  parseUserId,
} from '../matrix/identifiers.ts';
import { type Json, type JsonObject } from '../matrix/pdu.ts';
import { type RoomVersionRules, roomVersionRules } from '../matrix/room-versions.ts';
import { type CheckedPdu, type CheckOutcome } from '../verification/contract.ts';
import { type MakeJoinAnswer, type SendJoinHeader } from './contract.ts';

/** An event may cite at most this many parents (spec, Event format). */
const PREV_EVENTS_MAX = 20;
/** An event may cite at most this many auth events (spec, Event format). */
const AUTH_EVENTS_MAX = 10;
/** Servers taken of a stranger's list: twice the servers of the largest public rooms, about 600 KB of names. */
export const SERVERS_IN_ROOM_MAX = 20_000;
/** The largest depth an event may have (CVE-2025-30355: a depth out of range stops a room). */
const DEPTH_MAX = Number.MAX_SAFE_INTEGER;

export type JoinRefusalRule =
  | 'template-room-version'
  | 'template-prev-events'
  | 'template-auth-events'
  | 'template-depth'
  | 'template-content'
  | 'template-authoriser'
  | 'members-omitted-type'
  | 'members-omitted-unasked'
  | 'servers-in-room'
  | 'create-missing'
  | 'create-twice'
  | 'create-room-version'
  | 'create-room-id'
  | 'create-cited'
  | 'foreign-room'
  | 'returned-event-missing'
  | 'returned-event-id'
  | 'returned-event-signature';

export interface JoinRefusal {
  readonly ok: false;
  readonly rule: JoinRefusalRule;
  /** One sentence for a person; may quote the stranger, so clean it with `oneLine` before printing. */
  readonly reason: string;
}

function refuse(rule: JoinRefusalRule, reason: string): JoinRefusal {
  return { ok: false, rule, reason };
}

/** The parts of a make_join template that are used, each checked; everything else of it is forgotten. */
export interface JoinTemplate {
  readonly rules: RoomVersionRules;
  /** As the room version writes references: ids, or id-hash pairs in versions 1 and 2. */
  readonly prevEvents: readonly Json[];
  readonly prevEventIds: readonly EventId[];
  readonly authEvents: readonly Json[];
  readonly authEventIds: readonly EventId[];
  readonly depth: number;
  /** Restricted joins: whose server must sign the join too, and therefore gets the send_join. */
  readonly authorisedVia: UserId | undefined;
}

export type JoinTemplateReading = { readonly ok: true; readonly template: JoinTemplate } | JoinRefusal;

/** Reads what is needed of a make_join answer. `offered`: the room versions that the request named. */
export function readJoinTemplate(answer: MakeJoinAnswer, offered: readonly string[]): JoinTemplateReading {
  const rules = offered.includes(answer.roomVersion) ? roomVersionRules(answer.roomVersion) : undefined;
  if (rules === undefined)
    return refuse('template-room-version', `room version ${JSON.stringify(answer.roomVersion)} was not offered`);
  const { prev_events: prev, auth_events: auth, depth, content } = answer.event;
  const prevEventIds = readReferences(prev, rules, PREV_EVENTS_MAX);
  if (prevEventIds === undefined || prevEventIds.length === 0)
    return refuse('template-prev-events', `prev_events is not a list of 1 to ${PREV_EVENTS_MAX} distinct event ids`);
  const authEventIds = readReferences(auth, rules, AUTH_EVENTS_MAX);
  if (authEventIds === undefined)
    return refuse('template-auth-events', `auth_events is not a list of at most ${AUTH_EVENTS_MAX} distinct event ids`);
  if (typeof depth !== 'number' || !Number.isInteger(depth) || depth < 1 || depth > DEPTH_MAX)
    return refuse('template-depth', 'depth is not an integer in range');
  if (!isObject(content)) return refuse('template-content', 'content is not an object');
  const authoriser = content['join_authorised_via_users_server'];
  const authorisedVia = rules.restrictedJoins ? parseUserId(authoriser) : undefined;
  if (rules.restrictedJoins && authoriser !== undefined && authorisedVia === undefined)
    return refuse('template-authoriser', 'join_authorised_via_users_server is not a user id');
  return {
    ok: true,
    template: {
      rules,
      prevEvents: prev as readonly Json[],
      prevEventIds,
      authEvents: auth as readonly Json[],
      authEventIds,
      depth,
      authorisedVia,
    },
  };
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The distinct ids of `prev_events` or `auth_events`; `undefined` when anything about them is wrong. */
function readReferences(value: Json | undefined, rules: RoomVersionRules, max: number): EventId[] | undefined {
  if (!Array.isArray(value) || value.length > max) return undefined;
  const ids = new Set<EventId>();
  for (const reference of value as readonly Json[]) {
    const id = parseEventId(rules.eventReferences === 'ids' ? reference : idOfPair(reference));
    if (id === undefined || ids.has(id)) return undefined;
    ids.add(id);
  }
  return [...ids];
}

/** `[event_id, {"sha256": hash}]` and nothing else, as versions 1 and 2 write a reference. */
function idOfPair(reference: Json): Json | undefined {
  if (!Array.isArray(reference) || reference.length !== 2) return undefined;
  const [id, hashes] = reference as readonly Json[];
  if (!isObject(hashes) || typeof hashes['sha256'] !== 'string' || Object.keys(hashes).length !== 1) return undefined;
  return id;
}

/**
 * Our own join event, without hashes and signatures. Room, sender, type, state key and membership are ours; only the
 * place in the graph and the authoriser come from the template. `profile` is what we say of the user (displayname,
 * avatar_url) and can't set `membership`.
 */
export function buildJoinEvent(
  template: JoinTemplate,
  join: {
    readonly roomId: RoomId;
    readonly userId: UserId;
    readonly originServerTs: number;
    readonly profile?: JsonObject;
  },
): JsonObject {
  return {
    type: 'm.room.member',
    room_id: join.roomId,
    sender: join.userId,
    state_key: join.userId,
    content: {
      ...join.profile,
      membership: 'join',
      ...(template.authorisedVia === undefined ? {} : { join_authorised_via_users_server: template.authorisedVia }),
    },
    prev_events: template.prevEvents,
    auth_events: template.authEvents,
    depth: template.depth,
    origin_server_ts: join.originServerTs,
  };
}

/** Who gets the send_join: the authoriser's server at a restricted join, else the server that made the template. */
export function sendJoinDestination(template: JoinTemplate, resident: ServerName): ServerName {
  return template.authorisedVia === undefined ? resident : domainOf(template.authorisedVia);
}

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
  readonly state: readonly CheckedPdu[];
  /** The events of `auth_chain` that passed. */
  readonly authChain: readonly CheckedPdu[];
  /** What the checks of receipt made of `header.event`; `undefined` when there was none. */
  readonly returnedEvent: CheckOutcome | undefined;
}

export interface JoinAnswerVerdict {
  readonly ok: true;
  /** False: the whole state was given, whatever we asked. */
  readonly membersOmitted: boolean;
  /** The answering server first, then its hint; never ourselves; at most `SERVERS_IN_ROOM_MAX`. */
  readonly serversInRoom: readonly ServerName[];
  readonly createEvent: CheckedPdu;
  /** `state` without message events and later duplicates of one (type, state key). */
  readonly state: readonly CheckedPdu[];
  readonly dropped: number;
  /** Auth events that the join or a given event cites and that are in neither list: at most a cause for doubt. */
  readonly missingAuthEvents: readonly EventId[];
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
  const state = distinctState(answer.state);
  return {
    ok: true,
    membersOmitted: servers.membersOmitted,
    serversInRoom: servers.serversInRoom,
    createEvent: created.createEvent,
    state,
    dropped: answer.state.length - state.length,
    missingAuthEvents: missingAuthEvents(answer),
    joinEvent: returned.joinEvent,
  };
}

type Checked<T> = ({ readonly ok: true } & T) | JoinRefusal;

function checkServers(
  answer: JoinAnswer,
): Checked<{ readonly membersOmitted: boolean; readonly serversInRoom: readonly ServerName[] }> {
  const { membersOmitted, serversInRoom } = answer.header;
  if (membersOmitted !== undefined && typeof membersOmitted !== 'boolean')
    return refuse('members-omitted-type', 'members_omitted is not a boolean');
  if (membersOmitted === true && !answer.omitMembersAsked)
    return refuse('members-omitted-unasked', 'members were omitted though that was not asked for');
  const listed: readonly unknown[] | undefined = Array.isArray(serversInRoom) ? serversInRoom : undefined;
  if (membersOmitted === true) {
    if (listed === undefined || listed.length === 0 || !listed.every((name) => typeof name === 'string'))
      return refuse('servers-in-room', 'members were omitted without a list of the servers in the room');
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

function checkCreate(answer: JoinAnswer): Checked<{ readonly createEvent: CheckedPdu }> {
  const { rules } = answer.template;
  for (const pdu of [...answer.state, ...answer.authChain])
    if (pdu.roomId !== answer.roomId) return refuse('foreign-room', `${pdu.eventId} is of another room`);
  const isCreate = (pdu: CheckedPdu): boolean => pdu.type === 'm.room.create' && pdu.stateKey !== null;
  const createEvent = answer.state.find((pdu) => isCreate(pdu) && pdu.stateKey === '');
  if (createEvent === undefined) return refuse('create-missing', 'the state has no create event');
  for (const pdu of [...answer.state, ...answer.authChain])
    if (isCreate(pdu) && pdu.eventId !== createEvent.eventId)
      return refuse('create-twice', `${pdu.eventId} is a second create event`);
  const version = roomVersionOf(createEvent);
  if (version !== rules.version)
    return refuse(
      'create-room-version',
      `the create event says version ${JSON.stringify(version)}, not ${rules.version}`,
    );
  if (rules.roomIdIsCreateHash) {
    if (`!${createEvent.eventId.slice(1)}` !== answer.roomId)
      return refuse('create-room-id', 'the room id is not the hash of the create event');
    if (answer.template.authEventIds.includes(createEvent.eventId))
      return refuse('create-cited', 'the template cites the create event, which this room version forbids');
  }
  return { ok: true, createEvent };
}

/** `content.room_version`, `1` where absent; `undefined` for anything but a string. */
function roomVersionOf(createEvent: CheckedPdu): string | undefined {
  const { content } = JSON.parse(createEvent.json) as { content?: Json };
  const version = isObject(content) ? content['room_version'] : undefined;
  if (version === undefined) return '1';
  return typeof version === 'string' ? version : undefined;
}

function checkReturnedEvent(answer: JoinAnswer): Checked<{ readonly joinEvent: CheckedPdu | undefined }> {
  if (answer.template.authorisedVia === undefined) return { ok: true, joinEvent: undefined };
  const { returnedEvent } = answer;
  if (returnedEvent === undefined)
    return refuse('returned-event-missing', 'a restricted join was answered without the event signed by the resident');
  const eventId = returnedEvent.outcome === 'passed' ? returnedEvent.pdu.eventId : returnedEvent.eventId;
  if (eventId !== answer.joinEventId)
    return refuse('returned-event-id', `the returned event is ${eventId ?? 'no event of this room'}`);
  if (returnedEvent.outcome !== 'passed' || returnedEvent.pdu.hollow)
    return refuse('returned-event-signature', `the returned event is not usable: ${returnedEvent.outcome}`);
  return { ok: true, joinEvent: returnedEvent.pdu };
}

function distinctState(state: readonly CheckedPdu[]): CheckedPdu[] {
  const seen = new Set<string>();
  return state.filter((pdu) => {
    const place = JSON.stringify([pdu.type, pdu.stateKey]);
    if (pdu.stateKey === null || seen.has(place)) return false;
    seen.add(place);
    return true;
  });
}

function missingAuthEvents(answer: JoinAnswer): EventId[] {
  const given = new Set<EventId>();
  const cited = new Set<EventId>(answer.template.authEventIds);
  for (const pdu of [...answer.state, ...answer.authChain]) {
    given.add(pdu.eventId);
    for (const id of pdu.authEvents) cited.add(id);
  }
  return [...cited].filter((id) => !given.has(id));
}
