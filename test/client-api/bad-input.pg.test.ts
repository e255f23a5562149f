/**
 * Bad input, over all endpoints: a table of what each takes, and a walk that gives it everything else. The answer is the standard
 * error, the database is as it was, and nobody is left waiting.
 */
import { createHmac } from 'node:crypto';
import { expect, test } from 'vitest';
import { OPEN_ENDPOINTS, USER_ENDPOINTS } from '../../src/client-api/server.ts';
import { type Json, type JsonObject } from '../../src/matrix/pdu.ts';
import { openTestStore } from '../support/postgres.ts';
import { type Answer, PASSWORD, SECRET, type TestClient, startClientApi } from './client.ts';

const { store } = await openTestStore();

/** A user with a device, a room that another one is in too, and something in each place that a path may name. */
interface World {
  readonly client: TestClient;
  readonly token: string;
  readonly userId: string;
  readonly other: string;
  readonly roomId: string;
  readonly eventId: string;
  /** As paths name them. */
  readonly places: Readonly<Record<string, string>>;
  readonly nonce: string;
}

interface Row {
  /** What it takes and answers with 200; every member, at any depth, is given in all other types. Absent: no body is read. */
  readonly body?: (world: World) => JsonObject;
  /** Whether it may be left out. */
  readonly mayBeAbsent?: boolean;
  /** Members without which it is refused. */
  readonly required?: readonly string[];
  /** Members, or all of the body (''), that may hold anything; and types besides its own that a member may have. */
  readonly free?: readonly string[];
  readonly also?: readonly string[];
  /** Of each parameter of the query, what it may not be. */
  readonly query?: Readonly<Record<string, readonly string[]>>;
  /** What of a path is let pass though nothing of that name is there, as `name value`. */
  readonly passes?: readonly string[];
  /** What is answered to what it takes: 200 unless something else is said. */
  readonly status?: number;
  /** Added to what it takes. */
  readonly goodQuery?: string;
}

const V3 = '/_matrix/client/v3';
const RULE = `${V3}/pushrules/global/:kind/:ruleId`;
const ROOM = `${V3}/rooms/:roomId`;
const V1_ROOM = '/_matrix/client/v1/rooms/:roomId';
const ACCOUNT_DATA = `${V3}/user/:userId/account_data/:type`;
const ROOM_DATA = `${V3}/user/:userId/rooms/:roomId/account_data/:type`;
const ALIAS = `${V3}/directory/room/:roomAlias`;
const TAGS = `${V3}/user/:userId/rooms/:roomId/tags`;
/** What clients keep of rooms may be of any. */
const NO_ROOM = ['roomId !nowhere:here.test', `roomId !${'a'.repeat(43)}`];
const LONG = 'x'.repeat(300);
const FUTURE = 's1_900000000';
/** Of pages of what relates to an event. */
const PAGE = {
  ...{ dir: ['x', 'b&dir=b'], from: ['x', FUTURE, 'h1_0_1'], to: ['x'], limit: ['0', 'x', '-1'] },
  recurse: ['x', '1', 'true&recurse=true'],
};

const auth = ({ userId }: World): JsonObject => ({
  ...{ type: 'm.login.password', password: PASSWORD, user: userId, session: 'one' },
  identifier: { type: 'm.id.user', user: userId },
});
const session = { device_id: 'NEW', initial_device_display_name: 'new', refresh_token: true };
const whom = ({ other }: World): JsonObject => ({ user_id: other, reason: 'so' });
const content = (): JsonObject => ({ body: 'x', msgtype: 'm.text' });

/** Every endpoint by method and path; r0 is the same as v3. */
const TABLE: Readonly<Record<string, Row>> = {
  'GET /_matrix/client/versions': {},
  'GET /.well-known/matrix/client': { status: 404 },
  [`GET ${V3}/login`]: {},
  [`POST ${V3}/login`]: {
    body: ({ userId }) => ({
      ...{ type: 'm.login.password', password: PASSWORD, user: userId, token: 'x', ...session },
      identifier: { type: 'm.id.user', user: userId },
    }),
    required: ['type', 'password', 'identifier.type'],
  },
  [`POST ${V3}/register`]: {
    body: ({ userId }) => ({
      ...{ username: `${userId.slice(1, -10)}new`, password: PASSWORD, inhibit_login: false, ...session },
      auth: { type: 'm.login.dummy', session: 'one' },
    }),
    required: ['password'],
    query: { kind: ['guests', 'guest', 'user&kind=user'] },
  },
  [`GET ${V3}/register/available`]: {
    goodQuery: '?username=nobody',
    query: { username: ['', 'UPPER', 'a%00b', LONG, '@far:away.test', 'a&username=b', 'a:b'] },
  },
  [`POST ${V3}/refresh`]: {
    body: () => ({ refresh_token: 'nobody has it' }),
    required: ['refresh_token'],
    status: 401,
  },
  'GET /_synapse/admin/v1/register': {},
  'POST /_synapse/admin/v1/register': {
    body: ({ nonce, userId }) => {
      const username = `${userId.slice(1, -10)}secret`;
      const signed = [nonce, username, PASSWORD, 'notadmin', 'bot'].join('\0');
      const mac = createHmac('sha1', SECRET).update(signed).digest('hex');
      return { nonce, username, password: PASSWORD, admin: false, user_type: 'bot', displayname: 'x', mac };
    },
    required: ['nonce', 'username', 'password', 'mac'],
    also: ['user_type null', 'displayname null'],
  },
  // Of an administrator; who is none is refused, whatever is sent.
  'DELETE /_synapse/admin/v1/rooms/:roomId': { status: 403 },
  'DELETE /_synapse/admin/v2/rooms/:roomId': { status: 403 },
  'GET /_synapse/admin/v2/rooms/:roomId/delete_status': { status: 403 },
  'GET /_synapse/admin/v2/rooms/delete_status/:deleteId': { status: 403 },
  'GET /_synapse/admin/v2/users': { status: 403 },
  'GET /_synapse/admin/v1/rooms': { status: 403 },
  // Nobody but an application service asks that.
  'POST /_matrix/client/v1/appservice/:appserviceId/ping': { status: 403 },
  // Other servers are asked of their users: here nobody can be.
  [`GET ${V3}/profile/:userId/:keyName`]: { passes: ['userId @far:away.test'] },
  [`PUT ${V3}/profile/:userId/:keyName`]: {
    ...{ body: () => ({ 'm.tz': 'Europe/London' }), required: ['m.tz'] },
  },
  [`DELETE ${V3}/profile/:userId/:keyName`]: { passes: ['keyName none.such'] },
  [`POST ${ROOM}/forget`]: { status: 400 },
  [`POST ${ROOM}/upgrade`]: {
    ...{ body: ({ other }) => ({ new_version: '12', additional_creators: [other] }), required: ['new_version'] },
  },
  [`GET ${ROOM}/initialSync`]: { query: { limit: ['0', 'x'] } },
  [`GET ${V3}/profile/:userId`]: { passes: ['userId @far:away.test'] },
  [`GET ${V3}/profile/:userId/displayname`]: { passes: ['userId @far:away.test'] },
  [`GET ${V3}/profile/:userId/avatar_url`]: { passes: ['userId @far:away.test'] },
  [`DELETE ${V3}/profile/:userId/displayname`]: {},
  [`DELETE ${V3}/profile/:userId/avatar_url`]: {},
  [`GET ${ALIAS}`]: {},
  [`PUT ${ALIAS}`]: {
    ...{ body: ({ roomId }) => ({ room_id: roomId }), required: ['room_id'], passes: ['roomAlias %23none:here.test'] },
  },
  [`DELETE ${ALIAS}`]: {},
  [`GET ${ROOM}/aliases`]: {},
  [`GET ${V3}/directory/list/room/:roomId`]: {},
  [`PUT ${V3}/directory/list/room/:roomId`]: { body: () => ({ visibility: 'private' }), mayBeAbsent: true },
  [`GET ${V3}/publicRooms`]: {
    query: { limit: ['0', 'x', '-1', '1&limit=2'], since: ['x', 'o99999999'], server: ['%00', 'a b'] },
  },
  [`POST ${V3}/publicRooms`]: {
    body: () => ({ limit: 10, since: 'o0', filter: { generic_search_term: 'x', room_types: ['m.space'] } }),
    also: ['filter.generic_search_term null', 'filter.room_types null', 'filter.room_types.0 null'],
    query: { server: ['%00', 'a b'] },
  },
  [`POST ${V3}/user_directory/search`]: {
    ...{ body: () => ({ search_term: 'x', limit: 5 }), required: ['search_term'] },
  },
  [`GET ${TAGS}`]: { passes: NO_ROOM },
  [`PUT ${TAGS}/:tag`]: { body: () => ({ order: 0.5 }), passes: NO_ROOM },
  [`DELETE ${TAGS}/:tag`]: { passes: NO_ROOM },
  [`GET ${ROOM}/messages`]: {
    goodQuery: '?dir=b',
    query: {
      dir: ['', 'x', 'b&dir=b', 'b&from=nonsense', `b&from=${FUTURE}`, 'b&from=s1_1%00', 'b&from=h1_0_1', 'b&to=x'],
      ...{ limit: ['0', 'x'], filter: ['{', '[]'] },
    },
  },
  [`GET ${V1_ROOM}/timestamp_to_event`]: {
    goodQuery: '?dir=f&ts=0',
    query: {
      dir: ['', 'x&ts=0', 'f', 'f&ts=', 'f&ts=x', 'f&ts=1.5', `f&ts=${'9'.repeat(30)}`, 'f&ts=1&ts=2', 'b&ts=0'],
    },
  },
  [`GET ${V1_ROOM}/relations/:eventId`]: { query: PAGE },
  [`GET ${V1_ROOM}/relations/:eventId/:relType`]: { query: PAGE },
  [`GET ${V1_ROOM}/relations/:eventId/:relType/:eventType`]: { query: PAGE, passes: ['eventType org.example.none'] },
  [`GET ${V1_ROOM}/hierarchy`]: {
    query: {
      ...{ limit: ['0', 'x'], from: ['x', 'y1_1_1_-', 'y1_1_0_3'], suggested_only: ['x', '1'] },
      max_depth: ['x', '-1', '1&max_depth=1'],
    },
  },
  'GET /_matrix/client/v1/room_summary/:roomIdOrAlias': {},
  [`GET ${V1_ROOM}/threads`]: {
    query: { limit: ['0', 'x'], from: ['x', 's1_1', 'r1_'], include: ['x', '', 'all&include=all'] },
  },
  [`GET ${ROOM}/context/:eventId`]: { query: { limit: ['-1', 'x', '1.5'], filter: ['{', '[]', '{"types":1}'] } },
  [`POST ${V3}/logout`]: {},
  [`POST ${V3}/logout/all`]: {},
  'POST /_matrix/client/v1/login/get_token': {
    ...{ body: (world) => ({ auth: auth(world) }), mayBeAbsent: true },
  },
  [`GET ${V3}/account/whoami`]: {},
  [`POST ${V3}/account/password`]: {
    body: (world) => ({ new_password: 'another horse', logout_devices: false, auth: auth(world) }),
    ...{ required: ['new_password'] },
  },
  [`POST ${V3}/account/deactivate`]: { body: (world) => ({ auth: auth(world), erase: false }) },
  [`GET ${V3}/capabilities`]: {},
  [`GET ${V3}/devices`]: {},
  [`GET ${V3}/devices/:deviceId`]: {},
  [`PUT ${V3}/devices/:deviceId`]: { body: () => ({ display_name: 'renamed' }) },
  [`DELETE ${V3}/devices/:deviceId`]: {
    ...{ body: (world) => ({ auth: auth(world) }), mayBeAbsent: true },
    // Nothing is left of it, as was wished.
    passes: ['deviceId NOBODY', 'deviceId a%00b', `deviceId ${LONG}`],
  },
  [`POST ${V3}/delete_devices`]: {
    ...{ body: (world) => ({ devices: ['SPARE'], auth: auth(world) }), required: ['devices'] },
  },
  [`PUT ${V3}/profile/:userId/displayname`]: {
    ...{ body: () => ({ displayname: 'x' }), required: ['displayname'], also: ['displayname null'] },
  },
  [`PUT ${V3}/profile/:userId/avatar_url`]: {
    ...{ body: () => ({ avatar_url: 'mxc://x/y' }), required: ['avatar_url'], also: ['avatar_url null'] },
  },
  [`POST ${V3}/user/:userId/filter`]: {
    // Clients write null for what they leave out.
    also: ['* null'],
    body: () => ({
      event_fields: ['content'],
      event_format: 'client',
      presence: eventFilter(),
      account_data: eventFilter(),
      room: {
        ...{ rooms: ['!a:b.test'], not_rooms: ['!a:b.test'], include_leave: true },
        ephemeral: roomFilter(),
        state: roomFilter(),
        timeline: roomFilter(),
        account_data: roomFilter(),
      },
    }),
  },
  [`GET ${V3}/user/:userId/filter/:filterId`]: {},
  [`GET ${ACCOUNT_DATA}`]: {},
  [`PUT ${ACCOUNT_DATA}`]: { body: content, free: [''], passes: ['type org.example.none', 'type org.example%00'] },
  [`GET ${ROOM_DATA}`]: {},
  [`PUT ${ROOM_DATA}`]: {
    ...{ body: content, free: [''] },
    passes: ['type org.example.none', 'type org.example%00', 'roomId !nowhere:here.test', `roomId !${'a'.repeat(43)}`],
  },
  [`GET ${V3}/pushrules/`]: {},
  [`GET ${V3}/pushrules/global/`]: {},
  [`GET ${RULE}`]: {},
  [`PUT ${RULE}`]: {
    body: () => ({
      actions: ['notify', { set_tweak: 'highlight', value: true }],
      conditions: [{ kind: 'event_match', key: 'content.body', pattern: 'x' }],
    }),
    ...{ required: ['actions', 'conditions.0.kind', 'conditions.0.key', 'conditions.0.pattern'] },
    // A tweak may be any value, and an action may be a name.
    ...{ free: ['actions.1.value'], also: ['actions.1 string'], passes: ['ruleId org.example.none'] },
    query: { before: ['org.example.none', 'a&before=b', 'a&after=b'], after: ['org.example.none', 'a&after=b'] },
  },
  [`DELETE ${RULE}`]: {},
  [`GET ${RULE}/actions`]: {},
  [`PUT ${RULE}/actions`]: { body: () => ({ actions: ['notify'] }), required: ['actions'] },
  [`GET ${RULE}/enabled`]: {},
  [`PUT ${RULE}/enabled`]: { body: () => ({ enabled: false }), required: ['enabled'] },
  [`POST ${V3}/keys/upload`]: {
    body: ({ userId, places }) => {
      const signatures = { [userId]: { 'ed25519:x': 'signature' } };
      return {
        device_keys: {
          ...{ user_id: userId, device_id: places['deviceId'] ?? '', algorithms: ['m.olm'], signatures },
          keys: { [`ed25519:${places['deviceId']}`]: 'key' },
        },
        one_time_keys: { 'curve25519:a': 'key', 'signed_curve25519:b': { key: 'key', signatures } },
        fallback_keys: { 'signed_curve25519:c': { key: 'key', fallback: true, signatures } },
      };
    },
    also: [
      ...['device_keys null', 'one_time_keys null', 'fallback_keys null'],
      ...[
        'fallback_keys.signed_curve25519:c.fallback null',
        'fallback_keys.signed_curve25519:c string',
        'one_time_keys.signed_curve25519:b string',
      ],
    ],
  },
  [`POST ${V3}/keys/query`]: {
    ...{ body: () => ({ device_keys: {}, timeout: 10 }), required: ['device_keys'], free: ['timeout'] },
  },
  [`POST ${V3}/keys/claim`]: {
    ...{ body: () => ({ one_time_keys: {}, timeout: 10 }), required: ['one_time_keys'], free: ['timeout'] },
  },
  [`GET ${V3}/keys/changes`]: { goodQuery: '?from=s1_1', query: { from: ['', 'nonsense', FUTURE, 's1_1%00'] } },
  [`POST ${V3}/keys/device_signing/upload`]: { body: (world) => ({ auth: auth(world) }), free: [''] },
  [`POST ${V3}/keys/signatures/upload`]: { body: () => ({}) },
  [`GET ${V3}/room_keys/version`]: { status: 404 },
  [`PUT ${V3}/sendToDevice/:eventType/:txnId`]: {
    ...{ body: () => ({ messages: {} }), required: ['messages'] },
    passes: ['eventType a%00b', 'eventType org.example.none', `eventType ${LONG}`],
  },
  [`POST ${V3}/knock/:roomIdOrAlias`]: {
    ...{ body: () => ({ reason: 'so' }), mayBeAbsent: true, query: { via: ['a b', '%00'] }, status: 404 },
  },
  [`GET ${V3}/joined_rooms`]: {},
  [`POST ${V3}/join/:roomIdOrAlias`]: {
    ...{ body: () => ({ reason: 'so' }), mayBeAbsent: true, query: { via: ['a b', '%00'], server_name: ['a b'] } },
  },
  [`POST ${ROOM}/join`]: { body: () => ({ reason: 'so' }), mayBeAbsent: true, query: { via: ['a b', '%00'] } },
  [`POST ${ROOM}/leave`]: { body: () => ({ reason: 'so', 'org.rejoinder.force': true }), mayBeAbsent: true },
  [`POST ${ROOM}/kick`]: { body: whom, required: ['user_id'] },
  [`POST ${ROOM}/ban`]: { body: whom, required: ['user_id'] },
  [`POST ${ROOM}/unban`]: { body: whom, required: ['user_id'], status: 403 },
  [`POST ${ROOM}/invite`]: { body: whom, required: ['user_id'], status: 403 },
  [`POST ${V3}/createRoom`]: {
    body: ({ userId }) => ({
      room_alias_name: userId.slice(1, -10),
      creation_content: { 'm.federate': true, type: 'x' },
      initial_state: [{ type: 'org.example', state_key: 'x', content: { a: 1 } }],
      invite: [],
      invite_3pid: [],
      is_direct: true,
      name: 'name',
      power_level_content_override: { ban: 50, users_default: 0, events: { x: 1 } },
      preset: 'private_chat',
      room_version: '11',
      topic: 'topic',
      visibility: 'private',
    }),
    free: ['creation_content.type', 'initial_state.0.content.a'],
  },
  [`PUT ${ROOM}/send/:eventType/:txnId`]: {
    body: content,
    free: [''],
    passes: ['eventType a%00b', 'eventType org.example.none'],
  },
  [`PUT ${ROOM}/state/:eventType`]: {
    body: content,
    free: [''],
    passes: ['eventType a%00b', 'eventType org.example.none'],
  },
  [`PUT ${ROOM}/state/:eventType/:stateKey`]: {
    ...{ body: content, free: [''] },
    passes: ['eventType a%00b', 'eventType org.example.none', 'stateKey a%00b', 'stateKey none'],
  },
  [`PUT ${ROOM}/redact/:eventId/:txnId`]: { body: () => ({ reason: 'so' }), passes: ['eventId $unknown'] },
  [`POST ${ROOM}/receipt/:receiptType/:eventId`]: {
    ...{ body: () => ({ thread_id: 'main' }), mayBeAbsent: true, passes: ['eventId $unknown'] },
  },
  [`POST ${ROOM}/read_markers`]: {
    body: ({ eventId }) => ({ 'm.read': eventId, 'm.read.private': eventId, 'm.fully_read': eventId }),
    mayBeAbsent: true,
  },
  [`PUT ${ROOM}/typing/:userId`]: { body: () => ({ typing: true, timeout: 1_000 }), required: ['typing'] },
  [`GET ${V3}/presence/:userId/status`]: {},
  [`PUT ${V3}/presence/:userId/status`]: {
    ...{ body: () => ({ presence: 'online', status_msg: 'so' }), required: ['presence'], also: ['status_msg null'] },
  },
  [`GET ${ROOM}/state`]: {},
  [`GET ${ROOM}/state/:eventType`]: { query: { format: ['both', '', 'event&format=event'] } },
  [`GET ${ROOM}/state/:eventType/:stateKey`]: { query: { format: ['both'] } },
  [`GET ${ROOM}/members`]: {
    query: {
      at: [
        '',
        'nonsense',
        't1_1',
        's2_1',
        's1_-1',
        's1_1_2',
        FUTURE,
        `s1_${'9'.repeat(15)}`,
        's1_1&at=s1_1',
        's1_1%00',
      ],
      membership: ['joined', '', 'join&membership=join', 'join%00'],
      not_membership: ['joined', '', 'join&not_membership=join'],
    },
  },
  [`GET ${ROOM}/joined_members`]: {},
  [`GET ${ROOM}/event/:eventId`]: {},
  [`GET ${V3}/sync`]: {
    query: {
      since: [
        '',
        'nonsense',
        't1_1',
        's2_1',
        's1_-1',
        's1_1_2',
        FUTURE,
        `s1_${'9'.repeat(16)}`,
        's1_1&since=s1_1',
        's1_1%00',
      ],
      filter: [
        ...[
          'none',
          'a%00b',
          '{',
          '{"room":[]}',
          '{"room":{"timeline":{"limit":-1}}}',
          '{}&filter={}',
          '{"a":"\\ud800"}',
        ],
        ...['{"room":{"rooms":["a\\u0000"]}}', '{"a":1,"a":1}', `{"a":${'['.repeat(600)}${']'.repeat(600)}}`],
        ...['{"presence":[]}', '{"event_format":"xml"}', '{"event_fields":"a"}', '{"room":{"ephemeral":{"types":1}}}'],
      ],
      timeout: ['-1', 'x', '1.5', '1e3', '1&timeout=1'],
      full_state: ['maybe', '', '1', 'true&full_state=true'],
      use_state_after: ['maybe'],
      set_presence: ['asleep'],
    },
  },
};

function eventFilter(): JsonObject {
  const texts = ['x'];
  return { limit: 5, not_senders: texts, not_types: texts, senders: texts, types: texts };
}

function roomFilter(): JsonObject {
  return {
    ...{ ...eventFilter(), contains_url: true, rooms: ['!a:b.test'], not_rooms: ['!a:b.test'] },
    ...{ lazy_load_members: true, include_redundant_members: true, unread_thread_notifications: true },
  };
}

/** What stands in a path where something else is expected: nonsense, what cannot be kept, too long, and what is not there. */
const BAD_PLACES: Readonly<Record<string, readonly string[]>> = {
  keyName: [LONG, 'none%00such', 'none.such'],
  roomId: [
    'rubbish',
    '!a%00b:there.test',
    `!${LONG}:there.test`,
    '!a:',
    '!a:b%20c',
    '!nowhere:here.test',
    `!${'a'.repeat(43)}`,
  ],
  roomIdOrAlias: [
    'rubbish',
    '!a%00b:there.test',
    '%23a%00b:there.test',
    `%23${LONG}:x.test`,
    '!nowhere:here.test',
    '%23none:here.test',
  ],
  roomAlias: ['rubbish', '%23a%00b:here.test', `%23${LONG}:x.test`, '%23:here.test', '%23none:here.test'],
  tag: [LONG],
  eventId: ['rubbish', '$a%00b', `$${LONG}`, '$', '$unknown'],
  userId: ['rubbish', '@a%00b:here.test', `@${LONG}:here.test`, '@nobody:here.test', '@far:away.test'],
  deviceId: ['NOBODY', 'a%00b', LONG],
  filterId: ['none', 'a%00b', LONG],
  type: [LONG, 'org.example%00', 'org.example.none'],
  kind: ['rubbish', 'a%00b', LONG],
  ruleId: ['org.example.none', 'a%00b', '.m.rule.nothing', 'a%5Cb'],
  txnId: ['a%00b', LONG],
  eventType: [LONG, 'a%00b', 'org.example.none'],
  stateKey: [LONG, 'a%00b', 'none'],
  receiptType: ['rubbish', 'm.read%00'],
};
/** Of any place: bytes that are no text, half a percent sign, and more than a part of a path may have. */
const NO_TEXT = ['%ED%A0%80', '%ZZ', '%FF', 'x'.repeat(2000)];

const SAMPLES: Readonly<Record<string, Json>> = {
  ...{ null: null, boolean: true, number: 7, string: 'text', array: [], object: {} },
};
const typeOf = (value: Json): string => (value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value);

/** Bodies that are no object, whoever reads them, and how they are refused. */
const MALFORMED: readonly (readonly [string, string | Uint8Array, number])[] = [
  ...(['{"a":', 'nonsense', '{"a":1}{', "{'a':1}", '{"a":NaN}'] as const).map((text) => [text, text, 400] as const),
  ...(['[]', '"x"', 'null', '7', 'true'] as const).map((text) => [text, text, 400] as const),
  ['a member that stands there twice', '{"a":1,"a":2}', 400],
  ['half a character', '{"a":"\\ud800"}', 400],
  ['half a character as a name', '{"\\udc00":1}', 400],
  ['bytes that are no text', Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]), 400],
  ['half a character in bytes', Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22]), 400],
  ['600 lists in each other', `{"a":${'['.repeat(600)}${']'.repeat(600)}}`, 400],
  ['more than a megabyte', JSON.stringify({ a: 'x'.repeat(1024 * 1024) }), 413],
];

/** All members of a value at any depth, by their path. */
function membersOf(value: Json, path: readonly string[] = []): (readonly [path: readonly string[], value: Json])[] {
  if (value === null || typeof value !== 'object') return [];
  return Object.entries(value).flatMap(([name, member]) => [
    [[...path, name], member] as const,
    ...membersOf(member, [...path, name]),
  ]);
}

/** A copy with another member in one place; `undefined`: none. */
function withMember(value: Json, [name = '', ...rest]: readonly string[], member: Json | undefined): Json {
  const changed = (of: Json): Json | undefined => (rest.length > 0 ? withMember(of, rest, member) : member);
  if (Array.isArray(value)) {
    return (value as Json[]).map((item, i) => (String(i) === name ? (changed(item) ?? null) : item));
  }
  return Object.fromEntries(
    Object.entries(value as JsonObject).flatMap(([key, of]) => {
      const now = key === name ? changed(of) : of;
      return now === undefined ? [] : [[key, now]];
    }),
  );
}

let made = 0;

async function makeWorld(client: TestClient): Promise<World> {
  const name = `w${(made += 1)}`;
  const [userId, other] = [`@${name}:here.test`, `@${name}other:here.test`];
  const token = await client.user(name, { deviceId: 'DEVICE' });
  const otherToken = await client.user(`${name}other`);
  const ask = async (method: string, path: string, body?: unknown, by = token): Promise<Record<string, unknown>> => {
    const answer = await client.ask(method, V3 + path, body, by);
    expect([path, answer.status, answer.body]).toEqual([path, 200, answer.body]);
    return answer.body;
  };
  await ask('POST', '/login', { type: 'm.login.password', user: name, password: PASSWORD, device_id: 'SPARE' });
  const { room_id: roomId } = await ask('POST', '/createRoom', {
    ...{ preset: 'public_chat', room_version: '11', room_alias_name: `alias-of-${name}` },
  });
  await ask('POST', `/join/${roomId as string}`, {}, otherToken);
  const { event_id: eventId } = await ask('PUT', `/rooms/${roomId as string}/send/m.room.message/first`, { body: 'x' });
  const { filter_id: filterId } = await ask('POST', `/user/${userId}/filter`, { room: {} });
  for (const path of [`/user/${userId}`, `/user/${userId}/rooms/${roomId as string}`]) {
    await ask('PUT', `${path}/account_data/org.example`, { is: 'here' });
  }
  await ask('PUT', `/profile/${userId}/m.tz`, { 'm.tz': 'UTC' });
  await ask('PUT', '/pushrules/global/override/org.example', { actions: [], conditions: [] });
  const { nonce } = (await client.ask('GET', '/_synapse/admin/v1/register')).body;
  return {
    ...{ client, token, userId, other, roomId: roomId as string, eventId: eventId as string },
    nonce: nonce as string,
    places: {
      ...{ roomId: roomId as string, roomIdOrAlias: roomId as string, eventId: encodeURIComponent(eventId as string) },
      ...{ userId, deviceId: 'DEVICE', filterId: filterId as string, type: 'org.example', kind: 'override' },
      ...{
        ruleId: 'org.example',
        txnId: 'txn',
        eventType: 'm.room.create',
        stateKey: '',
        receiptType: 'm.read',
        relType: 'm.annotation',
        keyName: 'm.tz',
        deleteId: 'd',
        roomAlias: `%23alias-of-${name}:here.test`,
        tag: 'u.tag',
      },
    },
  };
}

/** What the database holds, table by table, but for the numbers of places in states: these are given for ever before anything is judged. */
async function contentsOf(): Promise<Readonly<Record<string, string>>> {
  // Other servers are told of receipts in the background.
  await expect.poll(() => store.query(`SELECT FROM receipts WHERE is_untold`), { timeout: 10_000 }).toEqual([]);
  const tables = await store.query<{ name: string }>(
    `SELECT c.oid::regclass::text AS name FROM pg_class c
      WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND c.relname <> 'state_keys' ORDER BY 1`,
  );
  const rows = await store.query<{ name: string; content: string }>(
    tables
      .map(
        ({ name }) =>
          `SELECT '${name}' AS name, count(*) || ' ' || coalesce(md5(string_agg(md5(t::text), ',' ORDER BY md5(t::text))), '') AS content
             FROM ${name} t`,
      )
      .join(' UNION ALL '),
  );
  return Object.fromEntries(rows.map(({ name, content: of }) => [name, of]));
}

const endpoints = [...OPEN_ENDPOINTS, ...USER_ENDPOINTS].filter(({ path }) => !path.includes('/client/r0/'));

test('every endpoint is in the table', () => {
  expect(Object.keys(TABLE).sort()).toEqual(endpoints.map(({ method, path }) => `${method} ${path}`).sort());
});

test.each(endpoints.map(({ method, path }) => [method, path] as const))('%s %s', async (method, path) => {
  const row = TABLE[`${method} ${path}`] ?? {};
  const client = await startClientApi(store, {}, 1);
  const world = await makeWorld(client);
  const wrong: unknown[] = [];
  const places = placesFor(method, path, world);
  const fill = (over: Readonly<Record<string, string>> = {}): string =>
    path.replace(/:(\w+)/g, (_, name: string) => over[name] ?? places[name] ?? '');
  const good = row.body?.(world);
  const { goodQuery: query = '' } = row;
  const ask = (url: string, body: unknown): Promise<Answer> => client.ask(method, url, body, world.token);
  /** Refused, in the form that the specification gives refusals. */
  const refused = async (what: string, url: string, body: unknown, statuses: readonly number[]): Promise<void> => {
    const answer = await ask(url, body);
    const { errcode, error } = answer.body;
    const isStandard = typeof errcode === 'string' && /^M_[A-Z_]+$/.test(errcode) && typeof error === 'string';
    if (!statuses.includes(answer.status) || !isStandard) wrong.push([what, answer.status, answer.body]);
  };
  const before = await contentsOf();

  if (good !== undefined) {
    for (const [what, body, status] of MALFORMED) await refused(`body: ${what}`, fill(), body, [status]);
    if (row.mayBeAbsent !== true) await refused('no body', fill(), '', [400]);
    const isFree = (name: string): boolean => row.free?.some((free) => free === '' || free === name) === true;
    for (const [at, member] of membersOf(good)) {
      const name = at.join('.');
      if (row.required?.includes(name) === true) {
        await refused(`without ${name}`, fill(), withMember(good, at, undefined), [400]);
      }
      if (isFree(name)) continue;
      for (const [type, sample] of Object.entries(SAMPLES)) {
        const isTaken = [`${name} ${type}`, `* ${type}`].some((also) => row.also?.includes(also));
        if (type === typeOf(member) || isTaken) continue;
        await refused(`${name}: ${type}`, fill(), withMember(good, at, sample), [400]);
      }
    }
  } else if (method !== 'GET') {
    // What nobody looks at is not taken in either.
    await refused('more than a megabyte', fill(), MALFORMED.at(-1)?.[1], [413]);
  }
  for (const [, name = ''] of path.matchAll(/:(\w+)/g)) {
    for (const value of [...(BAD_PLACES[name] ?? []), ...NO_TEXT]) {
      if (row.passes?.includes(`${name} ${value}`) === true) continue;
      await refused(`${name} ${value.slice(0, 50)}`, fill({ [name]: value }) + query, good, [400, 403, 404, 413]);
    }
  }
  for (const [name, values] of Object.entries(row.query ?? {})) {
    for (const value of values) {
      const encoded = value.replaceAll(/[{}"[\]\\ ]/g, encodeURIComponent);
      await refused(`${name}=${value.slice(0, 50)}`, `${fill()}?${name}=${encoded}`, good, [400, 403, 404]);
    }
  }
  expect(wrong).toEqual([]);
  expect(await contentsOf()).toEqual(before);
  expect(client.notifier.waiting).toBe(0);

  const taken = await ask(fill() + query, good);
  expect([taken.status, taken.body]).toEqual([row.status ?? 200, taken.body]);
  for (const [at, member] of membersOf(good ?? {})) {
    if (typeof member !== 'string') continue;
    const answer = await ask(fill() + query, withMember(good ?? {}, at, `${member}\0`));
    if (answer.status >= 500) wrong.push([`${at.join('.')} with NUL`, answer.status, answer.body]);
  }
  expect(wrong).toEqual([]);
});

/** Something that is there; of what is written, something that may be. */
function placesFor(method: string, path: string, { places }: World): World['places'] {
  if (method === 'PUT' && path.includes('/directory/room/')) return { ...places, roomAlias: '%23another:here.test' };
  if (method === 'PUT' && path.includes('/send/')) return { ...places, eventType: 'm.room.message' };
  if (method === 'PUT' && path.includes('/state/')) return { ...places, eventType: 'org.example', stateKey: 'x' };
  return places;
}

const encoded = (text: string): string => encodeURIComponent(text);

test('NUL is taken in content, and given back wherever it is read', async () => {
  const client = await startClientApi(store);
  const { token, userId, roomId } = await makeWorld(client);
  const said = { body: 'a\0b', deep: { '\0': '\0' }, 'k\0': ['\0'] };
  const ask = async (method: string, path: string, body?: unknown): Promise<Answer['body']> => {
    const answer = await client.ask(method, V3 + path, body, token);
    expect([method, path, answer.status]).toEqual([method, path, 200]);
    return answer.body;
  };
  const { event_id: eventId } = await ask('PUT', `/rooms/${roomId}/send/m.room.message/nul`, said);
  expect(await ask('GET', `/rooms/${roomId}/event/${encoded(eventId as string)}`)).toMatchObject({ content: said });
  await ask('PUT', `/rooms/${roomId}/state/org.example%00x/k%00`, said);
  expect(await ask('GET', `/rooms/${roomId}/state/org.example%00x/k%00`)).toEqual(said);
  for (const path of [`/user/${userId}/account_data/t`, `/user/${userId}/rooms/${roomId}/account_data/t`]) {
    await ask('PUT', path, said);
    expect(await ask('GET', path)).toEqual(said);
  }
  await ask('PUT', `/profile/${userId}/displayname`, { displayname: 'a\0b' });
  expect(await ask('GET', `/profile/${userId}/displayname`)).toEqual({ displayname: 'a\0b' });
  await ask('PUT', '/devices/DEVICE', { display_name: 'a\0b' });
  expect(await ask('GET', '/devices/DEVICE')).toMatchObject({ display_name: 'a\0b' });
  const synced = JSON.stringify(await ask('GET', '/sync'));
  expect(synced).toContain(JSON.stringify(said));
});

test.each([
  ['a local part', 'POST', '/register', { username: 'a\0b', password: PASSWORD, auth: { type: 'm.login.dummy' } }],
  ['a device id', 'POST', '/login', { type: 'm.login.password', user: 'nul', password: PASSWORD, device_id: 'a\0b' }],
  ['a transaction id', 'PUT', '/rooms/!a:here.test/send/m.room.message/a%00b', {}],
])('NUL is refused in %s', async (_what, method, path, body) => {
  const client = await startClientApi(store);
  const token = await client.user(`nul${(made += 1)}`);
  if (path === '/login') Object.assign(body, { user: `nul${made}` });
  const { status, body: answer } = await client.ask(method, V3 + path, body, token);
  expect([status, answer]).toEqual([
    400,
    { errcode: expect.stringMatching(/^M_/) as string, error: expect.any(String) as string },
  ]);
});

test('a transaction id that a device gives again is the event that it was, in its room alone and whatever else is said with it', async () => {
  const client = await startClientApi(store);
  const { token, roomId, eventId } = await makeWorld(client);
  const { body: login } = await client.ask('POST', `${V3}/login`, {
    ...{ type: 'm.login.password', user: `w${made}`, password: PASSWORD, device_id: 'SPARE' },
  });
  const send = async (path: string, body: object, by = token): Promise<unknown> =>
    (await client.ask('PUT', `${V3}/rooms/${roomId}/${path}`, body, by)).body['event_id'];
  const first = await send('send/m.room.message/t', { body: 'one' });
  expect(await send('send/m.room.message/t', { body: 'another' })).toBe(first);
  expect(await send('send/org.example/t', {})).toBe(first);
  expect(await send('send/m.room.message/t', { body: 'one' }, login['access_token'] as string)).not.toBe(first);
  const taken = await send(`redact/${encoded(eventId)}/r`, {});
  expect(await send(`redact/${encoded(eventId)}/r`, { reason: 'another' })).toBe(taken);
});

test.each([
  '/',
  '/_matrix',
  '/_matrix/client/v9/sync',
  '/_matrix/client/v3',
  '/_matrix/client/v3/rooms/!a:b/none',
  '/x'.repeat(500),
])('there is nothing under %s, whatever is sent there', async (path) => {
  const client = await startClientApi(store);
  for (const [method, body] of [
    ['GET', undefined],
    ['POST', '{'],
    ['PUT', 'x'.repeat(2 * 1024 * 1024)],
    ['DELETE', undefined],
    ['PATCH', '{}'],
  ] as const) {
    const answer = await client.ask(method, path, body, 'nobody has it');
    expect([method, answer.status, answer.body['errcode']]).toEqual([method, 404, 'M_UNRECOGNIZED']);
  }
});

test('ten megabytes of a filter are refused, in a body and in a query, and others are answered', async () => {
  const client = await startClientApi(store, {}, 1);
  const { token, userId } = await makeWorld(client);
  const before = await contentsOf();
  const filter = JSON.stringify({ room: { rooms: Array.from({ length: 1_000_000 }, (_, i) => `!${i}:b`) } });
  expect(filter.length).toBeGreaterThan(10_000_000);
  expect(await client.ask('POST', `${V3}/user/${userId}/filter`, filter, token)).toMatchObject({
    ...{ status: 413, body: { errcode: 'M_TOO_LARGE' } },
  });
  for (const given of ['x'.repeat(17_000), encoded(filter)]) {
    // Who is still writing when the connection is closed may miss why.
    const answer = await client.ask('GET', `${V3}/sync?filter=${given}`, undefined, token).catch(() => undefined);
    if (given !== encoded(filter) || answer !== undefined) {
      expect(answer).toMatchObject({ status: 431, body: { errcode: 'M_TOO_LARGE' } });
      expect(answer?.headers.get('access-control-allow-origin')).toBe('*');
    }
  }
  expect(await contentsOf()).toEqual(before);
  expect((await client.ask('GET', `${V3}/sync`, undefined, token)).status).toBe(200);
});
