import { describe, expect, test } from 'vitest';
import {
  authEventIdsOf,
  authEventKeys,
  authStateOf,
  checkAuthEventsCited,
} from '../../../src/matrix/auth/auth-events.ts';
import { type Pdu, type StateKey } from '../../../src/matrix/pdu.ts';
import { ROOM_VERSIONS } from '../../../src/matrix/room-versions.ts';
import { parseStateMapKey, stateMapKey } from '../../../src/matrix/state-map.ts';
import {
  ALICE,
  BOB,
  CAROL,
  CREATE_ID,
  create,
  event,
  joinRules,
  member,
  powerLevels,
  rulesOf,
} from '../room-of-tests.ts';

const keysOf = (judged: Pdu, version = '11'): string[] =>
  authEventKeys(judged, rulesOf(version)).map(
    ({ type, stateKey }: StateKey) => `${type.replace('m.room.', '')} ${stateKey}`,
  );
const BASE = ['create ', 'power_levels ', `member ${ALICE}`];

describe('the auth events to cite', () => {
  test('are none for m.room.create, and create, power levels and the sender’s membership for others', () => {
    expect(keysOf(create('11'))).toEqual([]);
    expect(keysOf(event({ type: 'm.room.message', sender: ALICE }))).toEqual(BASE);
  });

  test('leave out m.room.create in version 12', () => {
    expect(keysOf(event({ type: 'm.room.message', sender: ALICE }), '12')).toEqual(BASE.slice(1));
  });

  test('name the target of a membership, and the join rules where they matter', () => {
    const of = (membership: string): string[] => keysOf(member(BOB, membership, { sender: ALICE }));
    for (const membership of ['leave', 'ban']) expect(of(membership)).toEqual([...BASE, `member ${BOB}`]);
    for (const membership of ['join', 'invite', 'knock']) {
      expect(of(membership)).toEqual([...BASE, `member ${BOB}`, 'join_rules ']);
    }
    expect(keysOf(member(ALICE, 'join'))).toEqual([...BASE, 'join_rules ']);
  });

  test('name who authorises a restricted join from version 8', () => {
    const join = member(ALICE, 'join', { content: { join_authorised_via_users_server: CAROL } });
    expect(keysOf(join, '8')).toEqual([...BASE, `member ${CAROL}`, 'join_rules ']);
    expect(keysOf(join, '7')).toEqual([...BASE, 'join_rules ']);
    expect(keysOf(member(ALICE, 'join', { content: { join_authorised_via_users_server: 1 } }))).toEqual([
      ...BASE,
      'join_rules ',
    ]);
  });

  test('name the third-party invite whose token an invite bears', () => {
    const invite = (block: Pdu['content'][string]): string[] =>
      keysOf(member(BOB, 'invite', { sender: ALICE, content: { third_party_invite: block } }));
    expect(invite({ signed: { token: 'x' } }).slice(-1)).toEqual(['third_party_invite x']);
    for (const block of [null, [], 'x', {}, { signed: 1 }, { signed: { token: 1 } }]) {
      expect(invite(block).slice(-1)).toEqual(['join_rules ']);
    }
  });

  test('survive nonsense in a membership', () => {
    expect(keysOf(event({ type: 'm.room.member', sender: ALICE, content: { membership: {} } }))).toEqual(BASE);
  });
});

describe('the auth events cited', () => {
  const verdict = (judged: Pdu, authEvents: Pdu[], version = '11', rejected: Pdu[] = []): string => {
    const isRejected = (id: string): boolean => rejected.some(({ eventId }) => eventId === id);
    const answer = checkAuthEventsCited(judged, authEvents, rulesOf(version), isRejected);
    return answer.ok ? 'allowed' : answer.rule;
  };
  const citing = (...authEvents: Pdu[]): Pdu =>
    event({ type: 'm.room.message', sender: ALICE, auth: authEvents.map(({ eventId }) => eventId) });
  const [root, alice, power] = [create('11'), member(ALICE, 'join'), powerLevels({})];

  test('are taken when they are those to cite', () => {
    for (const version of ROOM_VERSIONS.filter((name) => name !== '12')) {
      expect(verdict(citing(root, alice, power), [power, alice, root], version)).toBe('allowed');
    }
  });

  test('include m.room.create until version 11, and must not in version 12, where the room id stands for it', () => {
    expect(verdict(citing(alice), [alice])).toBe('auth-events-lack-create');
    expect(verdict(citing(alice), [alice, root], '12')).toBe('allowed');
    expect(verdict(citing(alice), [alice], '12')).toBe('auth-event-missing');
    expect(verdict(citing(root, alice), [alice, root], '12')).toBe('auth-event-duplicate');
    expect(verdict(citing(alice), [alice, root], '12', [root])).toBe('auth-event-rejected');
    expect(authEventIdsOf(citing(alice), rulesOf('12'))).toEqual([alice.eventId, CREATE_ID]);
  });

  test('are state events; of two at one place the later counts', () => {
    const [old, now] = [powerLevels({}), powerLevels({ ban: 1 })];
    const state = authStateOf([old, alice, event({ type: 'm.room.power_levels' }), now]);
    expect(state('m.room.power_levels', '')).toBe(now);
    expect(state('m.room.member', ALICE)).toBe(alice);
    expect(state('m.room.member', BOB)).toBeUndefined();
  });

  test('do not repeat a place in the state', () => {
    const again = powerLevels({});
    expect(verdict(citing(root, alice, power, again), [root, alice, power, again])).toBe('auth-event-duplicate');
    expect(verdict(citing(root, alice, alice), [root, alice])).toBe('auth-event-duplicate');
  });

  test('have no business with other places', () => {
    for (const other of [
      member(BOB, 'join'),
      joinRules('public'),
      event({ type: 'm.room.message' }),
      event({ type: 'm.room.member' }),
    ]) {
      expect(verdict(citing(root, alice, other), [root, alice, other])).toBe('auth-event-unexpected');
    }
  });

  test('are none that was rejected', () => {
    expect(verdict(citing(root, alice), [root, alice], '11', [alice])).toBe('auth-event-rejected');
    expect(verdict(citing(root, alice), [root, alice], '11', [power])).toBe('allowed');
  });

  test('are of the same room', () => {
    const foreign = member(ALICE, 'join', { roomId: '!other:one' });
    expect(verdict(citing(root, foreign), [root, foreign])).toBe('auth-event-other-room');
  });

  test('cannot be judged while one is missing', () => {
    expect(verdict(citing(root, alice), [root])).toBe('auth-event-missing');
  });

  test('of m.room.create are not looked at', () => {
    expect(verdict({ ...root, authEvents: [alice.eventId] }, [])).toBe('allowed');
  });
});

describe('a key of a state map', () => {
  test('names one place only, and can be read back', () => {
    const places = [
      ['m.room.member', '@a:b'],
      ['', ''],
      ['a', 'b'],
      ['ab', ''],
      ['1:a', '2:b'],
      ['\u0000', '\u0000'],
      ['💙', '1:'],
    ] as const;
    const keys = places.map(([type, stateKey]) => stateMapKey(type, stateKey));
    expect(new Set(keys).size).toBe(places.length);
    expect(keys.map(parseStateMapKey)).toEqual(places.map(([type, stateKey]) => ({ type, stateKey })));
  });
});
