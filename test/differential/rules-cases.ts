/** Random cases for auth rules and state resolution, out of random rooms; one case is one request to the oracle. */
import { authEventIdsOf, stateNeededToAuthorise } from '../../src/matrix/auth/auth-events.ts';
import { type EventId } from '../../src/matrix/identifiers.ts';
import { type Json, type JsonObject, type Pdu } from '../../src/matrix/pdu.ts';
import { ROOM_VERSIONS, roomVersionRules } from '../../src/matrix/room-versions.ts';
import { type StateMap, stateMapKey } from '../../src/matrix/state-map.ts';
import { isJsonObject } from '../../src/matrix/json/strict-json.ts';
import { type RandomRoom, USERS, makeRandomRoom, randomDraft } from './random-room.ts';
import { type Random } from './random.ts';
import { type AuthRequest, MalformedCase, type ResolveRequest, type RulesRequest, pduOf } from './rules-answers.ts';

/** How many cases come out of one room. */
const AUTH_CASES_PER_ROOM = 12;
const HOSTILE_CASES_PER_ROOM = 10;
const RESOLVE_CASES_PER_ROOM = 6;

/** The cases of one random room; about 28. */
export function casesOfRoom(random: Random, versions: readonly string[] = ROOM_VERSIONS): RulesRequest[] {
  const rules = roomVersionRules(random.pick(versions))!;
  const room = makeRandomRoom(rules, random, 12 + random.integer(50));
  return [
    ...Array.from({ length: AUTH_CASES_PER_ROOM }, () => (random.chance(0.5) ? citedCase(room) : stateCase(room))),
    ...Array.from({ length: HOSTILE_CASES_PER_ROOM }, () => hostileCase(room)).filter(
      (request) => request !== undefined,
    ),
    ...Array.from({ length: RESOLVE_CASES_PER_ROOM }, () => resolveCase(room)),
  ];
}

function authRequest(room: RandomRoom, event: JsonObject, authEvents: readonly Pdu[], stateOnly: boolean): AuthRequest {
  return {
    op: 'auth',
    room_version: room.rules.version,
    event,
    auth_events: authEvents.map(({ json }) => json),
    rejected: authEvents.map(({ eventId }) => eventId).filter((id) => room.rejected.has(id)),
    state_only: stateOnly,
  };
}

function known(room: RandomRoom, ids: readonly EventId[]): Pdu[] {
  return ids.map((id) => room.events.get(id)).filter((event) => event !== undefined);
}

function stateEventsFor(room: RandomRoom, event: Pdu, state: StateMap): Pdu[] {
  const ids = stateNeededToAuthorise(event, room.rules).map(({ type, stateKey }) =>
    state.get(stateMapKey(type, stateKey)),
  );
  return known(
    room,
    ids.filter((id) => id !== undefined),
  );
}

/** An event of the room against the auth events it cites, some of them replaced now and then. */
function citedCase(room: RandomRoom): AuthRequest {
  const { random, rules } = room;
  const event = random.pick([...room.events.values()]);
  let cited = event.authEvents;
  if (random.chance(0.2)) cited = [...cited, random.pick([...room.events.keys()])];
  if (random.chance(0.1)) cited = cited.filter(() => random.chance(0.8));
  cited = cited.filter((id) => !rules.roomIdIsCreateHash || room.events.get(id)?.type !== 'm.room.create');
  const changed =
    cited === event.authEvents ? event : pduOf({ ...event.json, auth_events: wireReferences(room, cited) }, rules);
  return authRequest(room, changed.json, known(room, [...new Set(authEventIdsOf(changed, rules))]), false);
}

function wireReferences(room: RandomRoom, ids: readonly EventId[]): Json {
  return room.rules.eventReferences === 'ids' ? ids : ids.map((id) => [id, {}]);
}

/** Something new against a state of the room. */
function stateCase(room: RandomRoom): AuthRequest {
  const { random, rules } = room;
  const [prev, state] = random.pick([...room.stateAfter]);
  const draft = randomDraft(room, state);
  const event = pduOf(room.wire(draft, [prev], room.select(draft, state)), rules);
  return authRequest(room, event.json, stateEventsFor(room, event, state), true);
}

const JUNK: readonly Json[] = [
  ...[
    null,
    true,
    false,
    0,
    1,
    -1,
    50,
    100,
    101,
    1.5,
    -0.5,
    1e20,
    9_007_199_254_740_991,
    [],
    [1],
    ['@alice:one'],
    {},
    { a: 1 },
  ],
  ...[
    '',
    'x',
    '50',
    ' 50 ',
    '+50',
    '-1',
    '1_0',
    '_1',
    '1.0',
    '0x10',
    '\u00a050',
    '\ufeff50',
    '٥',
    '1e3',
    'join',
    'public',
  ],
  ...[
    '9007199254740993',
    '100000000000000000000',
    '@alice:one',
    { '@alice:one': 50 },
    { '@alice:one': '50' },
    { x: 1 },
  ],
  ...[
    { '@x:y': null },
    { 'm.room.topic': 0 },
    { signed: {} },
    { signed: { mxid: 1 } },
    { constructor: 1, toString: 2 },
  ],
];
const FIELDS: Readonly<Record<string, readonly string[]>> = {
  'm.room.power_levels': [
    ...['users', 'events', 'notifications', 'users_default', 'events_default', 'state_default'],
    ...['ban', 'kick', 'redact', 'invite', 'constructor'],
  ],
  'm.room.member': ['membership', 'third_party_invite', 'join_authorised_via_users_server'],
  'm.room.join_rules': ['join_rule'],
  'm.room.create': ['creator', 'room_version', 'm.federate', 'additional_creators'],
  'm.room.third_party_invite': ['public_key', 'public_keys'],
};

/** Junk in the event or in the state it is judged against. */
function hostileCase(room: RandomRoom): AuthRequest | undefined {
  const { random, rules } = room;
  const base = stateCase(room);
  const type = random.pick(Object.keys(FIELDS));
  const spoil = (json: JsonObject): JsonObject => {
    const fields = FIELDS[json['type'] as string];
    const content = new Map(Object.entries(json['content'] as JsonObject));
    if (fields !== undefined) {
      const field = random.pick(fields);
      const inner = content.get(field);
      if (random.chance(0.1)) {
        content.delete(field);
      } else if (random.chance(0.4) && isJsonObject(inner)) {
        const key = random.pick([...Object.keys(inner), random.pick(USERS), 'x']);
        content.set(field, { ...inner, [key]: random.pick(JUNK) });
      } else {
        content.set(field, random.pick(JUNK));
      }
    }
    const stateKey = random.chance(0.05) ? { state_key: random.pick(['', 'x', '@', '@x', '@alice:one', 'one']) } : {};
    return { ...json, content: Object.fromEntries(content), ...stateKey };
  };
  try {
    if (random.chance(0.5)) {
      const own = room.random.pick(
        [...room.events.values()].filter((event) => event.type === type).concat([...room.events.values()]),
      );
      const spoilt = spoil(random.chance(0.5) ? base.event : own.json);
      const event = pduOf(spoilt, rules);
      const state = random.pick([...room.stateAfter.values()]);
      return { ...authRequest(room, event.json, stateEventsFor(room, event, state), true), event: spoilt };
    }
    const authEvents = base.auth_events.map((json) => (random.chance(0.4) ? spoil(json) : json));
    for (const json of authEvents) pduOf(json, rules);
    return { ...base, auth_events: authEvents };
  } catch (error) {
    // Malformed in this room version: no server would come to judge it.
    if (error instanceof MalformedCase) return undefined;
    throw error;
  }
}

/** Some states of the room, disturbed a little. */
function resolveCase(room: RandomRoom): ResolveRequest {
  const { random, rules } = room;
  const states = [...room.stateAfter.values()];
  const stateSets = Array.from({ length: 2 + random.integer(3) }, () => {
    const state = new Map(random.chance(0.7) ? random.pick(states.slice(-12)) : random.pick(states));
    if (random.chance(0.2)) for (const place of [...state.keys()]) if (random.chance(0.1)) state.delete(place);
    if (random.chance(0.2)) {
      const event = random.pick([...room.events.values()]);
      if (event.stateKey !== undefined && event.type !== 'm.room.create') {
        state.set(stateMapKey(event.type, event.stateKey), event.eventId);
      }
    }
    return [...state.values()];
  });
  return {
    op: 'resolve',
    room_version: rules.version,
    room_id: room.roomId,
    events: [...room.events.values()].map(({ json }) => json),
    state_sets: stateSets,
    rejected: [...room.rejected],
    // Synapse's own walk visits every path, not every event: only for small rooms.
    unpersisted: room.events.size < 26 && random.chance(0.5),
  };
}
