import { describe, expect, test } from 'vitest';
import { type SendJoinHeader } from '../../src/federation/contract.ts';
import { type JoinAnswer, SERVERS_IN_ROOM_MAX, checkJoinAnswer } from '../../src/federation/join-answer.ts';
import {
  type JoinTemplate,
  buildJoinEvent,
  buildLeaveEvent,
  readJoinTemplate,
  readLeaveTemplate,
  sendJoinDestination,
} from '../../src/federation/join-template.ts';
import { parsePdu } from '../../src/matrix/event-format.ts';
import { canonicalJson } from '../../src/matrix/json/canonical-json.ts';
import { parseJsonObject } from '../../src/matrix/json/strict-json.ts';
import { checkContentHash } from '../../src/matrix/signing/hashes.ts';
import { signEvent } from '../../src/matrix/signing/signatures.ts';
import { type EventId, type RoomId, type ServerName, type UserId } from '../../src/matrix/identifiers.ts';
import { type Json, type JsonObject } from '../../src/matrix/pdu.ts';
import { type CheckedPdu } from '../../src/verification/contract.ts';
import { ourKey } from './tls-server.ts';

const us = 'us.test' as ServerName;
const resident = 'resident.test' as ServerName;
const roomId = '!r:resident.test' as RoomId;
const userId = '@me:us.test' as UserId;
const join = { roomId, userId, originServerTs: 5, random: () => 0.5 };

const template = (changes: JsonObject = {}): JsonObject => ({
  type: 'm.room.member',
  room_id: roomId,
  sender: userId,
  state_key: userId,
  content: { membership: 'join' },
  prev_events: ['$p'],
  auth_events: ['$create'],
  depth: 7,
  ...changes,
});
const read = (changes: JsonObject = {}, roomVersion = '11', offered = ['1', '6', '10', '11', '12']) =>
  readJoinTemplate({ roomVersion, event: template(changes) }, offered, { roomId, userId });
const ids = (count: number): string[] => Array.from({ length: count }, (_, i) => `$${i}`);

function templateOf(changes: JsonObject = {}, roomVersion = '11'): JoinTemplate {
  const reading = read(changes, roomVersion);
  if (!reading.ok) throw new Error(reading.reason);
  return reading.template;
}

describe('the template of make_join', () => {
  test('only the place in the graph is taken from it', () => {
    const reading = templateOf({
      content: { membership: 'join', reason: 'signed unseen' },
      redacts: '$x',
      unsigned: { a: 1 },
    });
    const profile = { displayname: 'Me', membership: 'leave' };
    expect(buildJoinEvent(reading, { ...join, profile })).toEqual({
      type: 'm.room.member',
      room_id: roomId,
      sender: userId,
      state_key: userId,
      content: { displayname: 'Me', membership: 'join' },
      prev_events: ['$p'],
      auth_events: ['$create'],
      depth: 7,
      origin_server_ts: 5,
    });
    expect(sendJoinDestination(reading, resident)).toBe(resident);
  });

  // https://github.com/matrix-org/matrix-spec/pull/2284
  test.each<[string, JsonObject]>([
    ['another room', { room_id: '!elsewhere:example.org' }],
    ['no room', { room_id: null }],
    ['another sender', { sender: '@admin:example.org' }],
    ['another member', { state_key: '@admin:example.org' }],
    ['something that is no membership', { type: 'm.room.power_levels' }],
    ['a ban', { content: { membership: 'ban' } }],
    ['a leave', { content: { membership: 'leave' } }],
    ['no membership', { content: {} }],
    ['a membership that is no text', { content: { membership: ['join'] } }],
  ])('that is about %s is malformed', (_what, changes) => {
    expect(read(changes)).toMatchObject({ ok: false, rule: 'template-subject' });
  });

  test('of a leave is held to the same', () => {
    const leave = template({ content: { membership: 'leave', reason: 'signed unseen' } });
    const reading = readLeaveTemplate(leave, '11', { roomId, userId });
    expect(reading.ok && buildLeaveEvent(reading.template, join)).toMatchObject({
      room_id: roomId,
      state_key: userId,
      content: { membership: 'leave' },
      prev_events: ['$p'],
      depth: 7,
    });
    expect(readLeaveTemplate(template(), '11', { roomId, userId })).toMatchObject({ rule: 'template-subject' });
  });

  test.each([
    ['1', '9223372036854775806', '9223372036854775806'],
    ['5', '9223372036854775807', '9223372036854775807'],
    ['6', '9223372036854775807', '9007199254740991'],
    ['11', '9007199254740992', '9007199254740991'],
    ['11', '9007199254740991', '9007199254740991'],
  ])('in a room of version %s whose depth was driven to %s the join is at %s', (version, depth, expected) => {
    const reference = version === '1' ? ['$p:resident.test', {}] : '$p';
    const event = template({ prev_events: [reference], auth_events: [reference] });
    const parsed = parseJsonObject(JSON.stringify(event).replace('"depth":7', `"depth":${depth}`));
    if (!parsed.ok) throw new Error(parsed.reason);
    const answer = { roomVersion: version, event: parsed.value };
    const reading = readJoinTemplate(answer, ['1', '5', '6', '11'], { roomId, userId });
    if (!reading.ok) throw new Error(reading.reason);
    const { rules } = reading.template;
    const signed = signEvent(buildJoinEvent(reading.template, join), rules, 'us.test' as ServerName, ourKey);
    expect(canonicalJson(signed)).toContain(`"depth":${expected},`);
    const pdu = parsePdu(signed, rules);
    expect(pdu.ok && pdu.pdu.depth).toBe(BigInt(expected));
    // What the resident reads off the wire is what we hashed.
    const sent = parseJsonObject(canonicalJson(signed));
    expect(sent.ok && checkContentHash(sent.value)).toBe('match');
  });

  test('a restricted join keeps its authoriser, whose server gets the send_join', () => {
    const reading = templateOf({
      content: { membership: 'join', join_authorised_via_users_server: '@admin:other.test' },
    });
    expect(buildJoinEvent(reading, join)['content']).toEqual({
      membership: 'join',
      join_authorised_via_users_server: '@admin:other.test',
    });
    expect(sendJoinDestination(reading, resident)).toBe('other.test');
  });

  test('a version without restricted joins has no authoriser', () => {
    const content = { membership: 'join', join_authorised_via_users_server: '@admin:other.test' };
    expect(templateOf({ content }, '6').authorisedVia).toBeUndefined();
  });

  test('versions 1 and 2 keep the hashes beside the ids', () => {
    const pair = ['$p:resident.test', { sha256: 'abc' }];
    const hashless = ['$q:resident.test', {}];
    const reading = templateOf({ prev_events: [pair], auth_events: [pair, hashless] }, '1');
    expect(reading.prevEventIds).toEqual(['$p:resident.test']);
    expect(reading.authEventIds).toEqual(['$p:resident.test', '$q:resident.test']);
    expect(buildJoinEvent(reading, join)).toMatchObject({ prev_events: [pair], auth_events: [pair, hashless] });
  });

  test.each<[string, Json]>([
    ['a hash that is none', { sha256: 5 }],
    ['a hash of another kind', { md5: 'abc' }],
    ['more than the hash', { sha256: 'abc', more: 'signed unseen' }],
    ['a list for the hash', []],
  ])('a reference of version 1 with %s is refused', (_what, hashes) => {
    const reading = read({ prev_events: [['$p:resident.test', hashes]], auth_events: [] }, '1');
    expect(reading).toMatchObject({ ok: false, rule: 'template-prev-events' });
  });

  test('in versions 1 and 2 we name the join, and no two alike; later its id is a hash', () => {
    const pair = ['$p:resident.test', { sha256: 'abc' }];
    let turn = 0;
    const random = (): number => (turn++ * 0.618) % 1;
    const nameIn = (version: string, reference: Json) => {
      const reading = templateOf({ prev_events: [reference], auth_events: [reference] }, version);
      return buildJoinEvent(reading, { ...join, random })['event_id'];
    };
    const names = [nameIn('1', pair), nameIn('1', pair)];
    for (const name of names) expect(name).toMatch(/^\$[A-Za-z]{18}:us\.test$/);
    expect(new Set(names).size).toBe(2);
    expect(nameIn('6', '$p')).toBeUndefined();
  });

  test.each<[string, JsonObject, string]>([
    ['no prev_events', { prev_events: [] }, 'template-prev-events'],
    ['prev_events of the wrong type', { prev_events: { 0: '$p' } }, 'template-prev-events'],
    ['a prev event that is no id', { prev_events: ['p'] }, 'template-prev-events'],
    ['a prev event in the form of version 1', { prev_events: [['$p', { sha256: 'x' }]] }, 'template-prev-events'],
    ['a prev event twice', { prev_events: ['$p', '$p'] }, 'template-prev-events'],
    ['21 prev_events', { prev_events: ids(21) }, 'template-prev-events'],
    ['11 auth_events', { auth_events: ids(11) }, 'template-auth-events'],
    ['auth_events that are missing', { auth_events: null }, 'template-auth-events'],
    ['a depth that is text', { depth: '7' }, 'template-depth'],
    ['a depth of 0', { depth: 0 }, 'template-depth'],
    ['a depth beyond 64 bits', { depth: 2 ** 70 }, 'template-depth'],
    ['a fractional depth', { depth: 1.5 }, 'template-depth'],
    ['content that is no object', { content: [] }, 'template-content'],
    [
      'an authoriser that is no user',
      { content: { membership: 'join', join_authorised_via_users_server: 'x' } },
      'template-authoriser',
    ],
    [
      'an authoriser that is a number',
      { content: { membership: 'join', join_authorised_via_users_server: 5 } },
      'template-authoriser',
    ],
  ])('with %s is refused', (_what, changes, rule) => {
    expect(read(changes)).toMatchObject({ ok: false, rule });
  });

  test('of a room version that was not offered, or that nobody knows, is refused', () => {
    expect(read({}, '9')).toMatchObject({ rule: 'template-room-version' });
    expect(read({}, 'x', ['x'])).toMatchObject({ rule: 'template-room-version' });
  });

  test('20 prev_events and 10 auth_events are taken', () => {
    expect(read({ prev_events: ids(20), auth_events: ids(10) }).ok).toBe(true);
  });
});

function pdu(eventId: string, changes: Partial<CheckedPdu> = {}, content: JsonObject = {}): CheckedPdu {
  return {
    eventId: eventId as EventId,
    roomId,
    json: Buffer.from(JSON.stringify({ content })),
    type: 'm.room.name',
    stateKey: '',
    sender: '@admin:resident.test' as UserId,
    membership: null,
    depth: 1n,
    originServerTs: 1,
    prevEvents: [],
    authEvents: [],
    hollow: false,
    ...changes,
  };
}

const create = pdu('$create', { type: 'm.room.create' }, { room_version: '11' });
const header = (changes: Partial<SendJoinHeader> = {}): SendJoinHeader => ({
  membersOmitted: true,
  serversInRoom: ['resident.test', 'b.test'],
  event: undefined,
  ...changes,
});

function answer(changes: Partial<JoinAnswer> = {}): JoinAnswer {
  return {
    template: templateOf(),
    roomId,
    joinEventId: '$join' as EventId,
    ourselves: us,
    resident,
    omitMembersAsked: true,
    header: header(),
    state: [create, pdu('$name')],
    authChain: [],
    returnedEvent: undefined,
    ...changes,
  };
}

describe('the answer of send_join', () => {
  test('without members is taken, with the answering server first', () => {
    expect(checkJoinAnswer(answer())).toMatchObject({
      ok: true,
      membersOmitted: true,
      serversInRoom: ['resident.test', 'b.test'],
      createEvent: { eventId: '$create' },
      joinEvent: undefined,
    });
  });

  test('with all members is a full join, whatever was asked', () => {
    const full = header({ membersOmitted: undefined, serversInRoom: undefined });
    expect(checkJoinAnswer(answer({ header: full }))).toMatchObject({
      ok: true,
      membersOmitted: false,
      serversInRoom: ['resident.test'],
    });
  });

  test('servers are grammar-checked, deduplicated, without ourselves, and the answering one is added', () => {
    const serversInRoom = ['b.test', 'us.test', 'b.test', 'no spaces', '', 'c.test:', '[::1]', 'x'.repeat(300)];
    expect(checkJoinAnswer(answer({ header: header({ serversInRoom }) }))).toMatchObject({
      serversInRoom: ['resident.test', 'b.test', '[::1]'],
    });
  });

  test('of a million servers the first are taken', () => {
    const serversInRoom = Array.from({ length: 1_000_000 }, (_, i) => `s${i}.test`);
    const verdict = checkJoinAnswer(answer({ header: header({ serversInRoom }) }));
    expect(verdict.ok && verdict.serversInRoom.length).toBe(SERVERS_IN_ROOM_MAX);
  });

  test('message events and second events of one place are left out', () => {
    const state = [create, pdu('$name'), pdu('$other'), pdu('$message', { stateKey: null })];
    const verdict = checkJoinAnswer(answer({ state }));
    expect(verdict.ok && verdict.state.map(({ eventId }) => eventId)).toEqual(['$create', '$name']);
  });

  const otherCreate = pdu('$create2', { type: 'm.room.create' }, { room_version: '11' });
  test.each<[string, Partial<JoinAnswer>, string]>([
    ['omits members unasked', { omitMembersAsked: false }, 'members-omitted-unasked'],
    ['says members_omitted in words', { header: header({ membersOmitted: 'yes' }) }, 'members-omitted-type'],
    ['omits members without servers', { header: header({ serversInRoom: undefined }) }, 'servers-in-room'],
    ['omits members with no server', { header: header({ serversInRoom: [] }) }, 'servers-in-room'],
    ['lists servers as an object', { header: header({ serversInRoom: { a: 1 } }) }, 'servers-in-room'],
    ['lists a server that is no string', { header: header({ serversInRoom: ['a.test', 5] }) }, 'servers-in-room'],
    ['is empty', { state: [] }, 'create-missing'],
    ['has its create event in the auth chain only', { state: [pdu('$name')], authChain: [create] }, 'create-missing'],
    ['has a create event with a state key', { state: [{ ...create, stateKey: 'x' }] }, 'create-missing'],
    ['has another create event in its auth chain', { authChain: [otherCreate] }, 'create-twice'],
    ['has two create events in its state', { state: [create, otherCreate] }, 'create-twice'],
    [
      'has a create event of another version',
      { state: [pdu('$create', { type: 'm.room.create' }, { room_version: '10' })] },
      'create-room-version',
    ],
    [
      'has a create event without a version',
      { state: [pdu('$create', { type: 'm.room.create' })] },
      'create-room-version',
    ],
    [
      'has a create event with a version that is a number',
      { state: [pdu('$create', { type: 'm.room.create' }, { room_version: 11 })] },
      'create-room-version',
    ],
    ['has an event of another room', { authChain: [pdu('$x', { roomId: '!x:y.test' as RoomId })] }, 'foreign-room'],
  ])('that %s is refused', (_what, changes, rule) => {
    expect(checkJoinAnswer(answer(changes))).toMatchObject({ ok: false, rule });
  });

  test('a create event without a version is of version 1', () => {
    const template = templateOf({ prev_events: [['$p', { sha256: 'x' }]], auth_events: [] }, '1');
    const state = [pdu('$create', { type: 'm.room.create' })];
    expect(checkJoinAnswer(answer({ template, state })).ok).toBe(true);
  });
});

describe('in version 12', () => {
  const hash = 'A'.repeat(43);
  const roomOf12 = `!${hash}` as RoomId;
  const create12 = pdu(`$${hash}`, { type: 'm.room.create', roomId: roomOf12 }, { room_version: '12' });
  const in12 = (changes: Partial<JoinAnswer> = {}) =>
    checkJoinAnswer(
      answer({ template: templateOf({ auth_events: ['$p1'] }, '12'), roomId: roomOf12, state: [create12], ...changes }),
    );

  test('the room id is the hash of the create event', () => {
    expect(in12()).toMatchObject({ ok: true, createEvent: { eventId: `$${hash}` } });
    const other = { ...create12, eventId: `$${'B'.repeat(43)}` as EventId };
    expect(in12({ state: [other] })).toMatchObject({ ok: false, rule: 'create-room-id' });
  });

  test('nothing cites the create event', () => {
    const template = templateOf({ auth_events: [`$${hash}`] }, '12');
    expect(in12({ template })).toMatchObject({ ok: false, rule: 'create-cited' });
  });
});

describe('at a restricted join', () => {
  const template = templateOf({
    content: { membership: 'join', join_authorised_via_users_server: '@admin:resident.test' },
  });
  const joined = pdu('$join', { type: 'm.room.member', stateKey: userId, membership: 'join' });
  const check = (returnedEvent: JoinAnswer['returnedEvent']) => checkJoinAnswer(answer({ template, returnedEvent }));

  test('the event that the resident signed replaces ours', () => {
    expect(check({ outcome: 'passed', pdu: joined })).toMatchObject({ ok: true, joinEvent: { eventId: '$join' } });
  });

  test.each<[string, JoinAnswer['returnedEvent'], string]>([
    ['no event', undefined, 'returned-event-missing'],
    ['another event', { outcome: 'passed', pdu: { ...joined, eventId: '$x' as EventId } }, 'returned-event-id'],
    [
      'no event at all',
      { outcome: 'malformed', eventId: null, type: null, rule: 'x', reason: 'y' },
      'returned-event-id',
    ],
    [
      'an event with a wrong signature',
      {
        outcome: 'bad-signature',
        eventId: '$join' as EventId,
        type: 'm.room.member',
        serverName: resident,
        reason: 'x',
      },
      'returned-event-signature',
    ],
    [
      'an event whose key cannot be had',
      { outcome: 'key-missing', eventId: '$join' as EventId, type: 'm.room.member', serverName: resident, keyId: null },
      'returned-event-signature',
    ],
    ['an event with a wrong hash', { outcome: 'passed', pdu: { ...joined, hollow: true } }, 'returned-event-signature'],
  ])('%s back is refused', (_what, returnedEvent, rule) => {
    expect(check(returnedEvent)).toMatchObject({ ok: false, rule });
  });
});
