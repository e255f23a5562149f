import { describe, expect, test } from 'vitest';
import { inspectResolve } from '../../src/inspect/inspect-resolve.ts';
import { type Json, type JsonObject } from '../../src/matrix/pdu.ts';
import { ROOM_VERSIONS } from '../../src/matrix/room-versions.ts';
import { rulesOf, without } from '../matrix/sample-event.ts';

const CREATOR = '@creator:one';
const ALICE = '@alice:two';

/** A public room whose creator bans Alice while she sets the topic. */
function roomOf(version: string): Record<string, JsonObject> {
  const isImplied = rulesOf(version).roomIdIsCreateHash;
  const labelled = (
    id: string,
    type: string,
    sender: string,
    key: string,
    content: JsonObject,
    cited: string[],
  ): JsonObject => ({
    event_id: id,
    room_id: isImplied ? '!create' : '!room:one',
    type,
    sender,
    state_key: key,
    content,
    // In version 1 the deeper of two is judged first.
    depth: ['$ban', '$topic'].includes(id) ? 8 : 5,
    auth_events: isImplied ? cited.filter((other) => other !== '$create') : cited,
  });
  const create = labelled('$create', 'm.room.create', CREATOR, '', { creator: CREATOR, room_version: version }, []);
  const users: JsonObject = isImplied ? {} : { [CREATOR]: 100 };
  return {
    create: isImplied ? without(create, 'room_id') : create,
    creator: labelled('$creator', 'm.room.member', CREATOR, CREATOR, { membership: 'join' }, ['$create']),
    power: labelled('$power', 'm.room.power_levels', CREATOR, '', { users, state_default: 0 }, ['$create', '$creator']),
    rules: labelled('$rules', 'm.room.join_rules', CREATOR, '', { join_rule: 'public' }, [
      '$create',
      '$creator',
      '$power',
    ]),
    alice: labelled('$alice', 'm.room.member', ALICE, ALICE, { membership: 'join' }, ['$create', '$power', '$rules']),
    ban: labelled('$ban', 'm.room.member', CREATOR, ALICE, { membership: 'ban' }, [
      '$create',
      '$power',
      '$creator',
      '$alice',
    ]),
    topic: labelled('$topic', 'm.room.topic', ALICE, '', { topic: 'x' }, ['$create', '$power', '$alice']),
    old: labelled('$old', 'm.room.topic', CREATOR, '', { topic: 'y' }, ['$create', '$power', '$creator']),
  };
}

const COMMON = ['$create', '$creator', '$power', '$rules'];

function answerOf(document: Json, version = '11'): JsonObject {
  const inspected = inspectResolve(JSON.stringify(document), rulesOf(version));
  return inspected.ok ? inspected.answer : { error: inspected.rule, reason: inspected.reason };
}

describe('inspect resolve', () => {
  test.each(ROOM_VERSIONS)('resolves states of version %s, and says what was refused', (version) => {
    const events = Object.values(roomOf(version));
    const stateSets = [
      [...COMMON, '$alice', '$topic'],
      [...COMMON, '$ban', '$old'],
    ];
    const expected = { state: [...COMMON, '$ban', '$old'].sort(), rejected: ['$topic'] };
    expect(answerOf({ events, state_sets: stateSets }, version)).toEqual(expected);
    expect(answerOf({ events: events.toReversed(), state_sets: stateSets.toReversed() }, version)).toEqual(expected);
  });

  test('gives one state back as it is, and nothing for nothing', () => {
    const events = Object.values(roomOf('11'));
    expect(answerOf({ events, state_sets: [COMMON] })).toEqual({ state: COMMON, rejected: [] });
    expect(answerOf({ events, state_sets: [] })).toEqual({ state: [], rejected: [] });
    expect(answerOf({ events: [], state_sets: [[], []] })).toEqual({ state: [], rejected: [] });
  });

  test('comes to an end where auth events make a cycle, are missing, or lack the create event', () => {
    const others = Object.entries(roomOf('11')).filter(([name]) => name !== 'create');
    const cyclic = others
      .map(([, event]) => event)
      .map((event) => ({ ...event, auth_events: ['$topic', '$ban', '$gone'] }));
    const state_sets = [
      ['$alice', '$topic'],
      ['$ban', '$old'],
    ];
    expect(answerOf({ events: cyclic, state_sets })).toEqual({
      state: [],
      rejected: ['$alice', '$ban', '$old', '$topic'],
    });
  });

  test.each(['1', '2', '11', '12'])('bears long mainlines and cycles of many events in version %s', (version) => {
    const { create, creator, power, topic } = roomOf(version);
    const chain = Array.from({ length: 5_000 }, (_, i) => ({
      ...power,
      event_id: `$power${i}`,
      auth_events: [i === 0 ? '$creator' : `$power${i - 1}`],
    }));
    const topics = chain.map(({ event_id: cited }, i) => ({
      ...topic,
      event_id: `$topic${i}`,
      state_key: String(i),
      auth_events: [cited, `$topic${(i * 7 + 1) % 5_000}`],
    }));
    const ids = topics.map(({ event_id: id }) => id);
    const answer = answerOf(
      {
        events: [create!, creator!, ...chain, ...topics],
        state_sets: [
          ['$create', '$power4999', ...ids],
          ['$create', '$power0', ...ids.slice(1)],
          ['$create', ...ids.slice(2)],
        ],
      },
      version,
    );
    expect(answer['state']).toContain('$create');
  });

  test.each<[string, (room: Record<string, JsonObject>) => Json, RegExp]>([
    ['events that are no list', () => ({ events: {}, state_sets: [] }), /^events must be a list/],
    ['an event that is none', () => ({ events: [7], state_sets: [] }), /^events\[0\]: an event must be a JSON object/],
    ['no states', () => ({ events: [] }), /^state_sets must be a list/],
    ['a state that is no list', () => ({ events: [], state_sets: ['$a'] }), /^state_sets\[0\] must be a list/],
    ['an unknown id', () => ({ events: [], state_sets: [['$a']] }), /^state_sets\[0\]: "\$a" is not among the events/],
    ['an id that is none', () => ({ events: [], state_sets: [[{}]] }), /^state_sets\[0\]: \{\} is not among/],
    [
      'a message in a state',
      ({ topic }) => ({ events: [without(topic!, 'state_key')], state_sets: [['$topic']] }),
      /\$topic is not a state event/,
    ],
    [
      'two events at one place of a state',
      (room) => ({ events: Object.values(room), state_sets: [['$topic', '$old']] }),
      /\$old is the second event for its type/,
    ],
    [
      'states of two rooms',
      ({ topic, old }) => ({ events: [topic!, { ...old, room_id: '!b:one' }], state_sets: [['$topic'], ['$old']] }),
      /\$old is of another room/,
    ],
    [
      'two events under one label',
      ({ topic }) => ({ events: [topic!, { ...topic, content: {} }], state_sets: [] }),
      /a second event goes by the id \$topic/,
    ],
  ])('has no answer to %s', (_, document, reason) => {
    expect(answerOf(document(roomOf('11')))['reason']).toMatch(reason);
  });
});
