/**
 * The templates of make_join and make_leave. They are never signed as given: one that is about something else than was asked
 * is refused, what is needed of the others is checked and taken, and our own event is built from that.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#get_matrixfederationv1make_joinroomiduserid, and that its subject
 * must be checked, https://github.com/matrix-org/matrix-spec/pull/2284
 */
import { givenEventId, unsignedEvent } from '../matrix/compose.ts';
import { AUTH_EVENTS_MAX, PREV_EVENTS_MAX } from '../matrix/event-format.ts';
import {
  type EventId,
  type RoomId,
  type ServerName,
  type UserId,
  domainOf,
  parseEventId,
  parseUserId,
} from '../matrix/identifiers.ts';
import { cappedDepth } from '../matrix/depth.ts';
import { readInteger } from '../matrix/json/json-numbers.ts';
import { type Json, type JsonObject } from '../matrix/pdu.ts';
import { type RoomVersionRules, roomVersionRules } from '../matrix/room-versions.ts';
import { isJsonObject } from '../matrix/json/strict-json.ts';
import { type TemplateAnswer } from './contract.ts';
import { type JoinRefusal } from './join-refusal.ts';
import { refuse } from '../matrix/refusal.ts';

/** The parts of a make_join template that are used, each checked; everything else of it is forgotten. */
export interface JoinTemplate {
  readonly rules: RoomVersionRules;
  /** As the room version writes references: ids, or id-hash pairs in versions 1 and 2. */
  readonly prevEvents: readonly Json[];
  readonly prevEventIds: readonly EventId[];
  readonly authEvents: readonly Json[];
  readonly authEventIds: readonly EventId[];
  /** One more than the deepest parent's, as the resident says. At most what the room version allows: a depth out of range
   * would stop the room (CVE-2025-30355). */
  readonly depth: bigint;
  /** Restricted joins: whose server must sign the join too, and therefore gets the send_join. */
  readonly authorisedVia: UserId | undefined;
}

export type JoinTemplateReading = { readonly ok: true; readonly template: JoinTemplate } | JoinRefusal;

/** Whose membership of which room was asked about. */
export interface TemplateSubject {
  readonly roomId: RoomId;
  readonly userId: UserId;
}

/** Reads what is needed of a make_join answer. `offered`: the room versions that the request named. */
export function readJoinTemplate(
  answer: TemplateAnswer,
  offered: readonly string[],
  asked: TemplateSubject,
): JoinTemplateReading {
  return readTemplate(answer, offered, asked, 'join');
}

/** Reads what is needed of a make_leave answer, for a room of a version that is known. */
export function readLeaveTemplate(event: JsonObject, roomVersion: string, asked: TemplateSubject): JoinTemplateReading {
  return readTemplate({ roomVersion, event }, [roomVersion], asked, 'leave');
}

/** Reads what is needed of a make_knock answer. `offered`: as of a join. */
export function readKnockTemplate(
  answer: TemplateAnswer,
  offered: readonly string[],
  asked: TemplateSubject,
): JoinTemplateReading {
  return readTemplate(answer, offered, asked, 'knock');
}

function readTemplate(
  answer: TemplateAnswer,
  offered: readonly string[],
  asked: TemplateSubject,
  membership: 'join' | 'leave' | 'knock',
): JoinTemplateReading {
  const rules = offered.includes(answer.roomVersion) ? roomVersionRules(answer.roomVersion) : undefined;
  if (rules === undefined) {
    return refuse('template-room-version', `room version ${JSON.stringify(answer.roomVersion)} was not offered`);
  }
  const { prev_events: prev, auth_events: auth, content } = answer.event;
  if (!isJsonObject(content)) return refuse('template-content', 'content is not an object');
  const otherwise = differenceFrom(answer.event, content, asked, membership);
  if (otherwise !== undefined) return refuse('template-subject', `the template is about something else: ${otherwise}`);
  const prevEventIds = readReferences(prev, rules, PREV_EVENTS_MAX);
  if (prevEventIds === undefined || prevEventIds.length === 0) {
    return refuse('template-prev-events', `prev_events is not a list of 1 to ${PREV_EVENTS_MAX} distinct event ids`);
  }
  const authEventIds = readReferences(auth, rules, AUTH_EVENTS_MAX);
  if (authEventIds === undefined) {
    return refuse('template-auth-events', `auth_events is not a list of at most ${AUTH_EVENTS_MAX} distinct event ids`);
  }
  const depth = readInteger(answer.event, 'depth');
  if (depth === undefined || depth < 1n) {
    return refuse('template-depth', 'depth is not an integer in range');
  }
  const authoriser = content['join_authorised_via_users_server'];
  const authorisedVia = rules.restrictedJoins ? parseUserId(authoriser) : undefined;
  if (rules.restrictedJoins && authoriser !== undefined && authorisedVia === undefined) {
    return refuse('template-authoriser', 'join_authorised_via_users_server is not a user id');
  }
  return {
    ok: true,
    template: {
      rules,
      prevEvents: prev as readonly Json[],
      prevEventIds,
      authEvents: auth as readonly Json[],
      authEventIds,
      depth: cappedDepth(depth, rules),
      authorisedVia,
    },
  };
}

/** In what a template is not about the membership that was asked for; `undefined` when it is. */
function differenceFrom(
  { type, room_id: roomId, sender, state_key: stateKey }: JsonObject,
  content: JsonObject,
  asked: TemplateSubject,
  membership: 'join' | 'leave' | 'knock',
): string | undefined {
  const expected: [string, Json | undefined, string][] = [
    ['type', type, 'm.room.member'],
    ['room_id', roomId, asked.roomId],
    ['sender', sender, asked.userId],
    ['state_key', stateKey, asked.userId],
    ['membership', content['membership'], membership],
  ];
  const different = expected.find(([, given, right]) => given !== right);
  if (different === undefined) return undefined;
  const [name, given, wanted] = different;
  return `${name} is ${given === undefined ? 'absent' : JSON.stringify(given)}, not ${wanted}`;
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

/**
 * `[event_id, {"sha256": hash}]` and nothing else, as versions 1 and 2 write a reference. Nobody checks the hash, and
 * Synapse leaves it out where it looked for it before it had the event (get_event_reference_hashes, 1.163).
 */
function idOfPair(reference: Json): Json | undefined {
  if (!Array.isArray(reference) || reference.length !== 2) return undefined;
  const [id, hashes] = reference as readonly Json[];
  if (!isJsonObject(hashes)) return undefined;
  return Object.keys(hashes).every((name) => name === 'sha256' && typeof hashes[name] === 'string') ? id : undefined;
}

/** What an event of ours holds beside its place in the graph. */
export interface MembershipChange extends TemplateSubject {
  readonly originServerTs: number;
  /** In [0, 1): names the event in versions 1 and 2, where its id is no hash: https://spec.matrix.org/v1.16/rooms/v1/#event-ids */
  readonly random: () => number;
}

/**
 * Our own join event, without hashes and signatures. Room, sender, type, state key and membership are ours; only the
 * place in the graph and the authoriser come from the template. `profile` is what we say of the user (displayname,
 * avatar_url) and can't set `membership`.
 */
export function buildJoinEvent(
  template: JoinTemplate,
  join: MembershipChange & { readonly profile?: JsonObject },
): JsonObject {
  return buildMember(template, join, {
    ...join.profile,
    membership: 'join',
    ...(template.authorisedVia === undefined ? {} : { join_authorised_via_users_server: template.authorisedVia }),
  });
}

/** Our own leave event, without hashes and signatures; only its place in the graph comes from the template. */
export function buildLeaveEvent(template: JoinTemplate, leave: MembershipChange): JsonObject {
  return buildMember(template, leave, { membership: 'leave' });
}

/** Our own knock, likewise. `profile`: what we say of the user, and why he knocks. */
export function buildKnockEvent(
  template: JoinTemplate,
  knock: MembershipChange & { readonly profile: JsonObject },
): JsonObject {
  return buildMember(template, knock, { ...knock.profile, membership: 'knock' });
}

function buildMember(template: JoinTemplate, change: MembershipChange, content: JsonObject): JsonObject {
  const { roomId, userId, originServerTs, random } = change;
  const { rules, prevEvents, authEvents, depth } = template;
  return unsignedEvent(
    { sender: userId, type: 'm.room.member', stateKey: userId, content },
    { roomId, prevEvents, authEvents, depth, originServerTs },
    givenEventId(rules, userId, random),
  );
}

/** Who gets the send_join: the authoriser's server at a restricted join, else the server that made the template. */
export function sendJoinDestination(template: JoinTemplate, resident: ServerName): ServerName {
  return template.authorisedVia === undefined ? resident : domainOf(template.authorisedVia);
}
