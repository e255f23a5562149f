import { describe, expect, test } from 'vitest';
import { authStateOf } from '../../../src/matrix/auth/auth-events.ts';
import { authoriseAgainstState } from '../../../src/matrix/auth/auth-rules.ts';
import { type AuthState } from '../../../src/matrix/auth/auth-verdict.ts';
import { type JsonObject, type Pdu } from '../../../src/matrix/pdu.ts';
import { parseJson } from '../../../src/matrix/json/strict-json.ts';
import { ALICE, BOB, CREATOR, ROOM, create, event, member, powerLevels, rulesOf } from '../room-of-tests.ts';
import { ALL, expectVerdict, from, until, withMembers } from '../verdicts.ts';

describe('m.room.create', () => {
  const empty = (): AuthState => authStateOf([]);
  const roomless = (version: string, content: JsonObject = {}): Pdu => create(version, content);

  test('stands at the beginning of its room', () => {
    expectVerdict(ALL, 'allowed', (version) => roomless(version), empty);
    expectVerdict(ALL, 'create-has-prev-events', (version) => create(version, {}, { prev: ['$a'] }), empty);
  });

  test('is not judged by the state', () => {
    for (const version of ALL) {
      expect(authoriseAgainstState(create(version, {}, { prev: ['$a'] }), empty(), rulesOf(version)).ok).toBe(true);
    }
  });

  test('comes from the server that its room id names, where room ids name one', () => {
    expectVerdict(until(11), 'create-sender-domain', (version) => create(version, {}, { sender: BOB }), empty);
    expectVerdict(['12'], 'allowed', (version) => create(version, {}, { sender: BOB }), empty);
  });

  test('has no room id of its own in version 12', () => {
    const withRoomId = (version: string): Pdu => {
      const plain = create(version);
      return { ...plain, json: { ...plain.json, room_id: ROOM } };
    };
    expectVerdict(['12'], 'create-has-room-id', withRoomId, empty);
    expectVerdict(until(11), 'allowed', withRoomId, empty);
  });

  test('names a known room version, or none', () => {
    for (const room_version of ['13', 'org.example', 1, null, {}]) {
      expectVerdict(ALL, 'create-room-version', (version) => roomless(version, { room_version }), empty);
    }
    const unversioned = (version: string): Pdu => {
      const content = Object.entries(create(version).content).filter(([name]) => name !== 'room_version');
      return { ...create(version), content: Object.fromEntries(content) };
    };
    expectVerdict(ALL, 'allowed', unversioned, empty);
  });

  test('names a creator until version 10', () => {
    const unnamed = (version: string): Pdu => ({ ...roomless(version), content: { room_version: version } });
    expectVerdict(until(10), 'create-lacks-creator', unnamed, empty);
    expectVerdict(from(11), 'allowed', unnamed, empty);
  });

  test('lists user ids as additional creators in version 12', () => {
    for (const additional_creators of [ALICE, {}, [1], ['alice'], ['@alice'], null, [`@${'a'.repeat(300)}:one`]]) {
      expectVerdict(['12'], 'create-additional-creators', roomless('12', { additional_creators }), empty);
      expectVerdict(['11'], 'allowed', roomless('11', { additional_creators }), empty);
    }
    expectVerdict(['12'], 'allowed', roomless('12', { additional_creators: [ALICE, BOB] }), empty);
    expectVerdict(['12'], 'allowed', roomless('12', { additional_creators: [] }), empty);
  });
});

describe('the room', () => {
  const message = event({ type: 'm.room.message', sender: BOB });

  test('takes nothing before its m.room.create', () => {
    expectVerdict(ALL, 'no-create-event', message, () => authStateOf([member(BOB, 'join')]));
  });

  test('takes events of members only', () => {
    expectVerdict(ALL, 'allowed', message, withMembers(member(BOB, 'join')));
    expectVerdict(ALL, 'sender-not-joined', message, withMembers());
    for (const membership of ['leave', 'invite', 'ban', 'knock']) {
      expectVerdict(ALL, 'sender-not-joined', message, withMembers(member(BOB, membership)));
    }
  });

  test('keeps strangers out while it is not federated', () => {
    const closed = (value: JsonObject[string]) => (version: string) =>
      authStateOf([create(version, { 'm.federate': value }), member(BOB, 'join'), member(ALICE, 'join')]);
    const ofAlice = event({ type: 'm.room.message', sender: ALICE });
    expectVerdict(ALL, 'not-federated', message, closed(false));
    expectVerdict(ALL, 'not-federated', message, closed('true'));
    expectVerdict(ALL, 'allowed', message, closed(true));
    expectVerdict(ALL, 'allowed', ofAlice, closed(false));
  });

  test('invites no strangers while it is not federated', () => {
    const closed = (version: string): AuthState =>
      authStateOf([create(version, { 'm.federate': false }), member(CREATOR, 'join')]);
    expectVerdict(ALL, 'not-federated', member(BOB, 'invite', { sender: CREATOR }), closed);
    expectVerdict(ALL, 'allowed', member(ALICE, 'invite', { sender: CREATOR }), closed);
  });
});

describe('m.room.aliases', () => {
  const aliases = (stateKey: string): Pdu => event({ type: 'm.room.aliases', sender: BOB, stateKey });

  test('needs only its own domain as state key until version 5', () => {
    expectVerdict(until(5), 'allowed', aliases('two'), withMembers());
    expectVerdict(until(5), 'aliases-state-key', aliases('one'), withMembers(member(BOB, 'join')));
    expectVerdict(until(5), 'aliases-state-key', aliases(''), withMembers(member(BOB, 'join')));
    expectVerdict(until(5), 'aliases-state-key', event({ type: 'm.room.aliases', sender: BOB }), withMembers());
  });

  test('is like any other state event from version 6', () => {
    expectVerdict(from(6), 'sender-not-joined', aliases('two'), withMembers());
    expectVerdict(from(6), 'send-power', aliases('two'), withMembers(member(BOB, 'join')));
  });
});

describe('sending', () => {
  const topic = event({ type: 'm.room.topic', sender: ALICE, stateKey: '' });
  const message = event({ type: 'm.room.message', sender: ALICE });
  const powers = (content: JsonObject) => withMembers(member(ALICE, 'join'), powerLevels(content));

  test('asks 50 for state and nothing for messages when nothing else is said', () => {
    expectVerdict(ALL, 'send-power', topic, powers({ users: { [ALICE]: 49 } }));
    expectVerdict(ALL, 'allowed', topic, powers({ users: { [ALICE]: 50 } }));
    expectVerdict(ALL, 'allowed', message, powers({}));
    expectVerdict(ALL, 'send-power', topic, withMembers(member(ALICE, 'join')));
  });

  test('asks what state_default, events_default and events say', () => {
    expectVerdict(ALL, 'allowed', topic, powers({ state_default: 0 }));
    expectVerdict(ALL, 'send-power', message, powers({ events_default: 1 }));
    expectVerdict(ALL, 'send-power', topic, powers({ state_default: 0, events: { 'm.room.topic': 1 } }));
    expectVerdict(ALL, 'allowed', topic, powers({ events: { 'm.room.topic': 0 } }));
    expectVerdict(ALL, 'allowed', topic, powers({ users_default: 50 }));
  });

  test('gives the creator 100 while there are no power levels, and more than anyone in version 12', () => {
    const ofCreator = event({ type: 'm.room.topic', sender: CREATOR, stateKey: '' });
    expectVerdict(ALL, 'allowed', ofCreator, withMembers());
    const closedTopic = withMembers(powerLevels({ events: { 'm.room.topic': 1_000 } }));
    expectVerdict(until(11), 'send-power', ofCreator, closedTopic);
    expectVerdict(['12'], 'allowed', ofCreator, closedTopic);
  });

  test('takes for the creator whom content.creator names until version 10, and the sender from version 11', () => {
    const state = (version: string): AuthState =>
      authStateOf([create(version, { creator: ALICE }), member(CREATOR, 'join'), member(ALICE, 'join')]);
    expectVerdict(until(10), 'allowed', topic, state);
    expectVerdict(from(11), 'send-power', topic, state);
  });

  test('counts additional creators among the creators in version 12', () => {
    const state = (version: string): AuthState =>
      authStateOf([create(version, { additional_creators: [ALICE] }), member(ALICE, 'join'), powerLevels({})]);
    expectVerdict(['12'], 'allowed', topic, state);
    expectVerdict(['11'], 'send-power', topic, state);
    // A text that names her is no list of users; those of an object's keys count, as on other servers.
    const stated = (additional_creators: JsonObject[string]) => (): AuthState =>
      authStateOf([create('12', { additional_creators }), member(ALICE, 'join'), powerLevels({})]);
    expectVerdict(['12'], 'send-power', topic, stated(ALICE));
    expectVerdict(['12'], 'allowed', topic, stated({ [ALICE]: 1 }));
  });

  test('leaves state keys that are user ids to their owners', () => {
    const keyed = (stateKey: string): Pdu => event({ type: 'org.example', sender: ALICE, stateKey });
    const state = powers({ users: { [ALICE]: 50 } });
    expectVerdict(ALL, 'allowed', keyed(ALICE), state);
    expectVerdict(ALL, 'state-key-other-user', keyed(BOB), state);
    expectVerdict(ALL, 'state-key-other-user', keyed('@'), state);
    expectVerdict(ALL, 'allowed', keyed('bob'), state);
  });

  test('fails where the power it needs cannot be read', () => {
    for (const content of [{ events: [] }, { state_default: 'much' }, { state_default: null }, { users: [] }]) {
      expectVerdict(ALL, 'send-power', topic, powers({ users: { [ALICE]: 100 }, ...content }));
    }
  });

  test('does not take inherited names for power levels', () => {
    const odd = event({ type: 'constructor', sender: ALICE });
    expectVerdict(ALL, 'allowed', odd, powers({ events: {} }));
    const fromToString = event({ type: 'm.room.message', sender: ALICE });
    expectVerdict(ALL, 'allowed', fromToString, powers({ users: {} }));
  });

  test('reads levels written as strings', () => {
    for (const level of ['50', ' 50 ', '+50', '0050', '5_0', '٥٠', 50.7]) {
      expectVerdict(ALL, 'allowed', topic, powers({ users: { [ALICE]: level } }));
    }
    for (const level of ['', '5 0', '_50', '50.0', '5e1', '\ufeff50', '9'.repeat(4_301)]) {
      expectVerdict(ALL, 'send-power', topic, powers({ users: { [ALICE]: level } }));
    }
    for (const level of ['-50', '٤٩', '𝟒𝟗']) {
      expectVerdict(ALL, 'send-power', topic, powers({ users: { [ALICE]: level } }));
    }
    expectVerdict(ALL, 'allowed', topic, powers({ users: { [ALICE]: '𝟓𝟎' } }));
    expectVerdict(ALL, 'allowed', topic, powers({ users: { [ALICE]: '9'.repeat(4_300) } }));
    const vast = { users: { [ALICE]: '9007199254740993' }, events: { 'm.room.topic': '9007199254740992' } };
    expectVerdict(ALL, 'allowed', topic, powers(vast));
  });
});

describe('integers beyond the safe range', () => {
  test('are compared to their last digit until version 5, which lets them pass', () => {
    const topic = event({ type: 'm.room.topic', sender: ALICE, stateKey: '' });
    const withLevels = (ofAlice: string) => {
      const parsed = parseJson(`{"users":{"${ALICE}":${ofAlice}},"events":{"m.room.topic":9007199254740993}}`);
      return withMembers(member(ALICE, 'join'), powerLevels((parsed.ok ? parsed.value : {}) as JsonObject));
    };
    expectVerdict(until(5), 'allowed', topic, withLevels('9007199254740993'));
    expectVerdict(until(5), 'send-power', topic, withLevels('9007199254740992'));
    expectVerdict(until(5), 'allowed', topic, withLevels('1e30'));
  });
});

describe('m.room.third_party_invite', () => {
  const announcement = event({ type: 'm.room.third_party_invite', sender: ALICE, stateKey: '@token' });

  test('asks for the power to invite and nothing else', () => {
    expectVerdict(
      ALL,
      'allowed',
      announcement,
      withMembers(member(ALICE, 'join'), powerLevels({ state_default: 100 })),
    );
    expectVerdict(
      ALL,
      'third-party-invite-power',
      announcement,
      withMembers(member(ALICE, 'join'), powerLevels({ invite: 1 })),
    );
    expectVerdict(ALL, 'sender-not-joined', announcement, withMembers());
  });
});

describe('m.room.redaction', () => {
  const redaction = (redacts: string | undefined): Pdu =>
    event({ type: 'm.room.redaction', sender: BOB, id: '$redaction:two', ...(redacts !== undefined && { redacts }) });
  const state = withMembers(member(BOB, 'join'), powerLevels({}));

  test('is for the powerful and for the redacted event’s own server in versions 1 and 2', () => {
    expectVerdict(until(2), 'redaction-power', redaction('$event:one'), state);
    expectVerdict(until(2), 'allowed', redaction('$event:two'), state);
    expectVerdict(until(2), 'redaction-power', redaction('event'), state);
    expectVerdict(until(2), 'allowed', redaction(':two'), state);
    expectVerdict(until(2), 'allowed', redaction(undefined), state);
    expectVerdict(
      until(2),
      'allowed',
      redaction('$event:one'),
      withMembers(member(BOB, 'join'), powerLevels({ redact: 0 })),
    );
  });

  test('is let in by everyone’s rules from version 3', () => {
    expectVerdict(from(3), 'allowed', redaction('$event:one'), state);
    expectVerdict(
      from(3),
      'power-levels-unreadable',
      redaction('$event'),
      withMembers(member(BOB, 'join'), powerLevels({ redact: {} })),
    );
  });
});
