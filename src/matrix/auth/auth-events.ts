/**
 * Auth events: which an event has to cite (the selection algorithm), and whether those it cites are the right ones
 * (rule 2 of the auth rules).
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#auth-events-selection
 */
import { ALLOWED, type AuthState, type AuthVerdict } from './auth-verdict.ts';
import { refuse } from '../refusal.ts';
import { membershipOf, ownString, ownValue } from '../content.ts';
import { type EventId, type RoomId } from '../identifiers.ts';
import { type Pdu, type StateKey } from '../pdu.ts';
import { type RoomVersionRules } from '../room-versions.ts';
import { stateMapKey } from '../state-map.ts';
import { isJsonObject } from '../json/strict-json.ts';

/** Types of the places that the selection names: by events of these others are judged. */
export const AUTH_EVENT_TYPES: ReadonlySet<string> = new Set([
  'm.room.create',
  'm.room.power_levels',
  'm.room.join_rules',
  'm.room.member',
  'm.room.third_party_invite',
]);

/** What the selection looks at; a template of ours has no id yet. */
export type SelectionSubject = Pick<Pdu, 'type' | 'stateKey' | 'sender' | 'content'>;

const CREATE: StateKey = { type: 'm.room.create', stateKey: '' };

/** The token of a third-party invite's `signed` block. */
function thirdPartyToken(event: SelectionSubject): string | undefined {
  const invite = ownValue(event.content, 'third_party_invite');
  if (!isJsonObject(invite)) return undefined;
  const signed = ownValue(invite, 'signed');
  return isJsonObject(signed) ? ownString(signed, 'token') : undefined;
}

/**
 * The places of the state that the auth rules look at for this event, m.room.create first; none for m.room.create itself.
 * Without duplicates. A caller that judges an event needs no other state.
 */
export function stateNeededToAuthorise(event: SelectionSubject, rules: RoomVersionRules): readonly StateKey[] {
  if (event.type === 'm.room.create') return [];
  const keys: StateKey[] = [
    CREATE,
    { type: 'm.room.power_levels', stateKey: '' },
    { type: 'm.room.member', stateKey: event.sender },
  ];
  if (event.type !== 'm.room.member') return keys;
  const members = new Set<string>([event.sender]);
  if (event.stateKey !== undefined) members.add(event.stateKey);
  const membership = membershipOf(event);
  if (membership === 'join' && rules.restrictedJoins) {
    const authoriser = ownString(event.content, 'join_authorised_via_users_server');
    if (authoriser !== undefined) members.add(authoriser);
  }
  for (const member of members) {
    if (member !== event.sender) keys.push({ type: 'm.room.member', stateKey: member });
  }
  if (membership === 'join' || membership === 'invite' || membership === 'knock') {
    keys.push({ type: 'm.room.join_rules', stateKey: '' });
  }
  if (membership === 'invite') {
    const token = thirdPartyToken(event);
    if (token !== undefined) keys.push({ type: 'm.room.third_party_invite', stateKey: token });
  }
  return keys;
}

/** The places whose events this event has to cite, where the room's state has them. Version 12 never cites m.room.create. */
export function authEventKeys(event: SelectionSubject, rules: RoomVersionRules): readonly StateKey[] {
  const keys = stateNeededToAuthorise(event, rules);
  return rules.roomIdIsCreateHash ? keys.filter((key) => key !== CREATE) : keys;
}

/**
 * The auth events of an event as the algorithms see them: those it cites, and in version 12 the create event behind its
 * room id, last.
 */
export function authEventIdsOf(event: Pdu, rules: RoomVersionRules): readonly EventId[] {
  if (event.type === 'm.room.create') return event.authEvents;
  return [...event.authEvents, ...impliedAuthEvents(event.roomId, rules)];
}

/** What every event of a room has as auth event without citing it: in version 12 the create event behind the room's id. */
export function impliedAuthEvents(roomId: RoomId, rules: RoomVersionRules): readonly EventId[] {
  return rules.roomIdIsCreateHash ? [`$${roomId.slice(1)}` as EventId] : [];
}

/** The state that an event's own auth events make up; of two at one place the later. */
export function authStateOf(authEvents: Iterable<Pdu>): AuthState {
  const byPlace = new Map<string, Pdu>();
  for (const event of authEvents) {
    if (event.stateKey !== undefined) byPlace.set(stateMapKey(event.type, event.stateKey), event);
  }
  return (type, stateKey) => byPlace.get(stateMapKey(type, stateKey));
}

/** The events of a state that the auth rules look at for this event: what a verdict on it was made by. At most eight. */
export function authEventsAmong(state: AuthState, event: SelectionSubject, rules: RoomVersionRules): EventId[] {
  return stateNeededToAuthorise(event, rules).flatMap(({ type, stateKey }) => state(type, stateKey)?.eventId ?? []);
}

/**
 * Rule 2: an event's auth events are of its room, one for each place, only places the selection names, none rejected, with
 * the create event among them.
 *
 * @param authEvents the auth events, in any order; in version 12 the create event too, though it is not cited.
 * @param isRejected whether an auth event was rejected on receipt.
 * @returns `auth-event-missing` when one of those cited was not given: that is no verdict on the event.
 */
export function checkAuthEventsCited(
  event: Pdu,
  authEvents: readonly Pdu[],
  rules: RoomVersionRules,
  isRejected: (id: EventId) => boolean,
): AuthVerdict {
  // Rule 1 judges m.room.create alone, whatever it cites (as in Synapse).
  if (event.type === 'm.room.create') return ALLOWED;
  const byId = new Map(authEvents.map((authEvent) => [authEvent.eventId, authEvent]));
  const expected = new Set(stateNeededToAuthorise(event, rules).map((key) => stateMapKey(key.type, key.stateKey)));
  const seen = new Set<string>();
  for (const id of authEventIdsOf(event, rules)) {
    const authEvent = byId.get(id);
    if (authEvent === undefined) return refuse('auth-event-missing', `Auth event ${id} is not at hand.`);
    // 2.5. An entry that belongs to another room.
    if (authEvent.roomId !== event.roomId) {
      return refuse('auth-event-other-room', `Auth event ${id} belongs to room ${authEvent.roomId}.`);
    }
    const place = authEvent.stateKey === undefined ? undefined : stateMapKey(authEvent.type, authEvent.stateKey);
    // 2.1. Two entries for one (type, state_key); in version 12 also a citation of the create event.
    if (place !== undefined && seen.has(place)) {
      return refuse('auth-event-duplicate', `A second auth event for ${authEvent.type} is ${id}.`);
    }
    // 2.2. An entry that the selection algorithm does not name.
    if (place === undefined || !expected.has(place)) {
      return refuse('auth-event-unexpected', `Auth event ${id}, a ${authEvent.type}, is not among those to cite.`);
    }
    // 2.3. An entry that was itself rejected.
    if (isRejected(id)) return refuse('auth-event-rejected', `Auth event ${id} was rejected.`);
    seen.add(place);
  }
  // 2.4. No m.room.create among the entries.
  if (!seen.has(stateMapKey(CREATE.type, CREATE.stateKey))) {
    return refuse('auth-events-lack-create', 'No m.room.create is among the auth events.');
  }
  return ALLOWED;
}
