import { describe, test } from 'vitest';
import { authStateOf } from '../../../src/matrix/auth/auth-events.ts';
import { type JsonObject, type Pdu } from '../../../src/matrix/pdu.ts';
import { ALICE, BOB, CAROL, CREATOR, create, event, member, powerLevels } from '../room-of-tests.ts';
import { ALL, expectVerdict, from, until, withMembers } from '../verdicts.ts';

/** Alice, at 50, changes the power levels. */
const BEFORE: JsonObject = { users: { [ALICE]: 50, [BOB]: 50, [CAROL]: 10 }, state_default: 0 };
const change = (content: JsonObject, sender = ALICE): Pdu => powerLevels({ ...BEFORE, ...content }, { sender });
const state = (content: JsonObject = {}) =>
  withMembers(member(ALICE, 'join'), member(BOB, 'join'), powerLevels({ ...BEFORE, ...content }));
const SINGLE = ['users_default', 'events_default', 'state_default', 'ban', 'redact', 'kick', 'invite'];

describe('the first power levels', () => {
  const first = (content: JsonObject): Pdu => powerLevels(content);

  test('may say anything that is well formed', () => {
    expectVerdict(until(11), 'allowed', first({ users: { [CREATOR]: 100, [ALICE]: 1_000 } }), withMembers());
    expectVerdict(['12'], 'allowed', first({ users: { [ALICE]: 1_000 }, ban: 5_000 }), withMembers());
    expectVerdict(ALL, 'allowed', first({}), withMembers());
  });

  test('map user ids to levels', () => {
    for (const users of [
      null,
      [],
      1,
      'x',
      { alice: 1 },
      { '@alice': 1 },
      { [ALICE]: null },
      { [ALICE]: {} },
      { [ALICE]: 'x' },
    ]) {
      expectVerdict(ALL, 'power-levels-malformed', first({ users }), withMembers());
    }
  });

  test('are integers from version 10', () => {
    for (const users of [{ [ALICE]: '1' }, { [ALICE]: 1.5 }, { [ALICE]: true }]) {
      expectVerdict(until(9), 'allowed', first({ users }), withMembers());
      expectVerdict(from(10), 'power-levels-malformed', first({ users }), withMembers());
    }
    for (const name of SINGLE) {
      for (const level of ['1', 1.5, true, null, {}]) {
        expectVerdict(until(9), 'allowed', first({ [name]: level }), withMembers());
        expectVerdict(from(10), 'power-levels-malformed', first({ [name]: level }), withMembers());
      }
    }
    for (const name of ['events', 'notifications']) {
      for (const levels of [{ x: '1' }, { x: null }, [], 'x', null]) {
        expectVerdict(until(9), 'allowed', first({ [name]: levels }), withMembers());
        expectVerdict(from(10), 'power-levels-malformed', first({ [name]: levels }), withMembers());
      }
    }
    expectVerdict(ALL, 'allowed', first({ other: 'x' }), withMembers());
  });

  test('are a state event', () => {
    expectVerdict(ALL, 'power-levels-malformed', event({ type: 'm.room.power_levels' }), withMembers());
  });

  test('do not name creators in version 12', () => {
    const creators = (version: string) =>
      authStateOf([create(version, { additional_creators: [ALICE] }), member(CREATOR, 'join')]);
    for (const user of [CREATOR, ALICE]) {
      expectVerdict(['12'], 'power-levels-name-creator', first({ users: { [user]: 100 } }), creators);
      expectVerdict(until(11), 'allowed', first({ users: { [user]: 100 } }), creators);
    }
    expectVerdict(['12'], 'allowed', first({ users: { [BOB]: 100 } }), creators);
  });
});

describe('the creators of a version 12 room', () => {
  test('are not compared with users while they cannot be read', () => {
    const creators = (additional_creators: JsonObject[string]) => () =>
      authStateOf([create('12', { additional_creators }), member(CREATOR, 'join')]);
    const first = powerLevels({});
    for (const odd of [5, true, [{}]]) expectVerdict(['12'], 'power-levels-name-creator', first, creators(odd));
    for (const nobody of [0, false, null, 'x', {}, []]) expectVerdict(['12'], 'allowed', first, creators(nobody));
  });
});

describe('a change of power levels', () => {
  test('stays within the sender’s own power', () => {
    for (const name of SINGLE) {
      expectVerdict(ALL, 'allowed', change({ [name]: 50 }), state());
      expectVerdict(ALL, 'power-levels-exceed', change({ [name]: 51 }), state());
      const high = name === 'state_default' ? { [name]: 51, events: { 'm.room.power_levels': 0 } } : { [name]: 51 };
      if (name !== 'users_default') {
        expectVerdict(ALL, 'power-levels-exceed', change({ ...high, [name]: 50 }), state(high));
      }
      expectVerdict(ALL, 'allowed', change(high), state(high));
    }
  });

  test('adds, changes and removes event levels within the sender’s own power', () => {
    expectVerdict(ALL, 'allowed', change({ events: { x: 50 } }), state());
    expectVerdict(ALL, 'power-levels-exceed', change({ events: { x: 51 } }), state());
    expectVerdict(ALL, 'power-levels-exceed', change({ events: { x: 50 } }), state({ events: { x: 51 } }));
    expectVerdict(ALL, 'power-levels-exceed', change({}), state({ events: { x: 51 } }));
    expectVerdict(ALL, 'allowed', change({ events: { x: 51 } }), state({ events: { x: 51 } }));
    expectVerdict(ALL, 'allowed', change({}), state({ events: { x: 50 } }));
  });

  test('holds notifications to the same from version 6', () => {
    for (const [after, before] of [
      [{ room: 51 }, {}],
      [{ room: 50 }, { room: 51 }],
      [{}, { room: 51 }],
    ] as const) {
      expectVerdict(until(5), 'allowed', change({ notifications: after }), state({ notifications: before }));
      expectVerdict(from(6), 'power-levels-exceed', change({ notifications: after }), state({ notifications: before }));
    }
    expectVerdict(ALL, 'allowed', change({ notifications: { room: 50 } }), state());
  });

  test('changes users below the sender, and the sender', () => {
    const users = (changed: JsonObject): JsonObject => ({ users: { ...(BEFORE['users'] as JsonObject), ...changed } });
    expectVerdict(ALL, 'allowed', change(users({ [CAROL]: 50 })), state());
    expectVerdict(ALL, 'allowed', change({ users: { [ALICE]: 50, [BOB]: 50 } }), state());
    expectVerdict(ALL, 'allowed', change(users({ [ALICE]: 5 })), state());
    expectVerdict(ALL, 'allowed', change(users({ '@new:one': 50 })), state());
    expectVerdict(ALL, 'power-levels-exceed', change(users({ '@new:one': 51 })), state());
    expectVerdict(ALL, 'power-levels-exceed', change(users({ [CAROL]: 51 })), state());
    expectVerdict(ALL, 'power-levels-exceed', change(users({ [ALICE]: 51 })), state());
    expectVerdict(ALL, 'power-levels-lower-equal', change(users({ [BOB]: 49 })), state());
    expectVerdict(ALL, 'power-levels-lower-equal', change({ users: { [ALICE]: 50 } }), state());
    const above = users({ [BOB]: 51 });
    expectVerdict(ALL, 'power-levels-exceed', change(users({ [BOB]: 0 })), state(above));
  });

  test('compares what the levels mean, not how they are written', () => {
    expectVerdict(until(9), 'allowed', change({ ban: ' 51' }), state({ ban: 51 }));
    const users = { ...(BEFORE['users'] as JsonObject), [BOB]: '50' };
    expectVerdict(until(9), 'allowed', change({ users }), state());
  });

  test('is refused where a level it touches is none', () => {
    expectVerdict(until(9), 'power-levels-malformed', change({ ban: 'x' }), state());
    expectVerdict(until(9), 'power-levels-malformed', change({ events: 'x' }), state());
    expectVerdict(until(9), 'power-levels-malformed', change({ events: { x: null } }), state());
    expectVerdict(until(9), 'power-levels-malformed', change({ events: ['x'] }), state());
    for (const empty of [[], '']) expectVerdict(until(9), 'allowed', change({ events: empty }), state());
    expectVerdict(ALL, 'power-levels-malformed', change({}), state({ ban: 'x' }));
  });

  test('at another state key has no predecessor', () => {
    const elsewhere = powerLevels({ ban: 1_000 }, { sender: ALICE, stateKey: 'x' });
    expectVerdict(ALL, 'allowed', elsewhere, state());
  });

  test('may go to any height for a creator in version 12', () => {
    const vast = change({ users: { [ALICE]: 9_007_199_254_740_991 } }, CREATOR);
    expectVerdict(['12'], 'allowed', vast, state());
    expectVerdict(until(11), 'power-levels-exceed', vast, state());
  });
});
