import { describe, expect, test } from 'vitest';
import { authEventIdsOf } from '../../../src/matrix/auth/auth-events.ts';
import { type EventId, type RoomId, type UserId } from '../../../src/matrix/identifiers.ts';
import { type JsonObject, type Pdu } from '../../../src/matrix/pdu.ts';
import { checkOutlier } from '../../../src/matrix/pdu-checks.ts';
import { ROOM_VERSIONS, type RoomVersionRules, roomVersionRules } from '../../../src/matrix/room-versions.ts';
import { type ViewedEvent } from '../../../src/rooms/judge/auth-view.ts';
import { OutlierTable } from '../../../src/rooms/judge/outlier-table.ts';
import { makeRandomRoom } from '../../differential/random-room.ts';
import { createRandom } from '../../differential/random.ts';
import { sampleEvent } from '../../matrix/sample-event.ts';

const SEED = 20_261_123;
const ROOMS_A_VERSION = 12;
const ROOM_EVENTS = 60;

function stored(pdu: Pdu, authEvents: readonly EventId[] = pdu.authEvents) {
  const membership = pdu.type === 'm.room.member' ? pdu.content['membership'] : undefined;
  return {
    eventId: pdu.eventId,
    json: JSON.stringify(pdu.json),
    type: pdu.type,
    stateKey: pdu.stateKey ?? null,
    sender: pdu.sender,
    membership: typeof membership === 'string' ? membership : null,
    prevEvents: pdu.prevEvents,
    authEvents,
  };
}

/** The views of events as they come out of the columns that they are kept in. */
function viewsOf(roomId: RoomId, rules: RoomVersionRules) {
  const table = new OutlierTable(roomId, rules);
  return {
    view: (event: ViewedEvent): Pdu => table.viewAt(table.put({ event, verdict: 'waiting', authDepth: null })),
    wholeCharacters: () => table.wholeCharacters(),
  };
}

const ROOM = '!room:example.org' as RoomId;

/** A row of a member event, with more in its content. */
function storedMember(userId: string, membership: string, more: JsonObject) {
  const content = { membership, ...more };
  const event = sampleEvent('11', { type: 'm.room.member', sender: userId, state_key: userId, content });
  return {
    eventId: `$${userId}` as EventId,
    json: JSON.stringify(event),
    type: 'm.room.member',
    stateKey: userId,
    sender: userId as UserId,
    membership,
    prevEvents: [],
    authEvents: [],
  };
}

describe('what auth rules read of an event', () => {
  test.each(ROOM_VERSIONS)(
    `judges every event of random rooms as the whole events do, in version %s, seed ${SEED}`,
    (v) => {
      const rules = roomVersionRules(v)!;
      const random = createRandom(SEED);
      const outcomes = new Map<string, number>();
      for (let i = 0; i < ROOMS_A_VERSION; i++) {
        const room = makeRandomRoom(rules, random, ROOM_EVENTS);
        const views = viewsOf(room.roomId, rules);
        const viewed = new Map([...room.events.values()].map((pdu) => [pdu.eventId, views.view(stored(pdu))]));
        const isRejected = (id: EventId): boolean => room.rejected.has(id);
        for (const event of room.events.values()) {
          // Now and then somebody cites what they should not.
          const cited = random.chance(0.3)
            ? [...event.authEvents, random.pick([...room.events.keys()])]
            : event.authEvents;
          const whole: Pdu = { ...event, authEvents: cited };
          const view: Pdu = { ...viewed.get(event.eventId)!, authEvents: cited };
          const ids = authEventIdsOf(whole, rules).filter((id) => room.events.has(id));
          const wholes = ids.map((id) => room.events.get(id)!);
          const seen = ids.map((id) => viewed.get(id)!);
          const expected = checkOutlier({ event: whole, rules, authEvents: wholes, isRejected });
          expect(checkOutlier({ event: view, rules, authEvents: seen, isRejected })).toEqual(expected);
          const outcome = expected.outcome === 'accept' ? 'allowed' : expected.rule;
          outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
        }
      }
      // Else it would compare nothing worth comparing.
      expect(outcomes.size).toBeGreaterThan(5);
    },
  );

  test('keeps nothing of a plain membership but its columns', () => {
    const rules = roomVersionRules('11')!;
    const room = makeRandomRoom(rules, createRandom(SEED), ROOM_EVENTS);
    const views = viewsOf(room.roomId, rules);
    const members = [...room.events.values()].filter(
      ({ type, content }) => type === 'm.room.member' && Object.keys(content).join() === 'membership',
    );
    expect(members.length).toBeGreaterThan(0);
    for (const member of members) expect(views.view(stored(member)).json).toEqual({});
    expect(views.wholeCharacters()).toBe(0);
  });

  test('tells lists of auth events apart, though an id of version 1 may hold a space', () => {
    const rules = roomVersionRules('1')!;
    const room = makeRandomRoom(rules, createRandom(SEED), ROOM_EVENTS);
    const views = viewsOf(room.roomId, rules);
    const [event] = room.events.values();
    const citing = (...authEvents: string[]) =>
      views.view({ ...stored(event!), type: 'm.room.topic', authEvents: authEvents as EventId[] }).authEvents;
    expect(citing('$a:x.org $b:x.org')).toEqual(['$a:x.org $b:x.org']);
    expect(citing('$a:x.org', '$b:x.org')).toEqual(['$a:x.org', '$b:x.org']);
  });

  test('keeps of 20,000 members of a restricted room one string each that names who let them in', () => {
    const rules = roomVersionRules('11')!;
    const views = viewsOf(ROOM, rules);
    const authoriser = '@admin:one.test';
    for (let i = 0; i < 20_000; i += 1) {
      const view = views.view(
        storedMember(`@user${i}:two.test`, 'join', {
          displayname: 'x'.repeat(700),
          join_authorised_via_users_server: authoriser,
        }),
      );
      expect(view.content).toEqual({ membership: 'join', join_authorised_via_users_server: authoriser });
    }
    // 64 Mi characters are what a fetch may hold.
    expect(views.wholeCharacters()).toBeLessThan(1_000);
  });

  test('keeps a member whole whose invitation came by e-mail, however its key is written', () => {
    const rules = roomVersionRules('11')!;
    const invitation = { third_party_invite: { signed: { token: 't' } } };
    const plain = storedMember('@bob:two.test', 'invite', invitation);
    const escaped = { ...plain, json: plain.json.replace('third_party_invite', '\\u0074hird_party_invite') };
    for (const row of [plain, escaped]) {
      expect(viewsOf(ROOM, rules).view(row).content).toEqual({ membership: 'invite', ...invitation });
    }
  });

  test('shares a list of auth events between all who cite the same', () => {
    const rules = roomVersionRules('11')!;
    const room = makeRandomRoom(rules, createRandom(SEED), ROOM_EVENTS);
    const views = viewsOf(room.roomId, rules);
    const member = [...room.events.values()].find(
      ({ type, content }) => type === 'm.room.member' && Object.keys(content).join() === 'membership',
    )!;
    const [first, second] = [views.view(stored(member)), views.view(stored(member, [...member.authEvents]))];
    expect(second.authEvents).toBe(first.authEvents);
  });

  test('finds a member key that is written with escapes', () => {
    const rules = roomVersionRules('11')!;
    const room = makeRandomRoom(rules, createRandom(SEED), ROOM_EVENTS);
    const member = [...room.events.values()].find(({ type }) => type === 'm.room.member')!;
    const content = { ...member.content, join_authorised_via_users_server: '@alice:one' };
    const row = stored({ ...member, content, json: { ...member.json, content } });
    const escaped = { ...row, json: row.json.replace('join_authorised', 'join\\u005fauthorised') };
    const view = viewsOf(room.roomId, rules).view(escaped);
    expect(view.content['join_authorised_via_users_server']).toBe('@alice:one');
  });
});
