import { describe, expect, test } from 'vitest';
import { type Json } from '../../../src/matrix/pdu.ts';
import { redact } from '../../../src/matrix/signing/redaction.ts';
import { ROOM_VERSIONS } from '../../../src/matrix/room-versions.ts';
import { rulesOf, sampleEvent } from '../sample-event.ts';

/** Content that holds every key that any version keeps for any type, and some that none keeps. */
const CONTENT: Record<string, Json> = {
  membership: 'join',
  join_authorised_via_users_server: '@a:b',
  third_party_invite: { signed: { token: 't' }, display_name: 'D' },
  creator: '@a:b',
  'm.federate': false,
  join_rule: 'restricted',
  allow: [],
  users: {},
  users_default: 0,
  events: {},
  events_default: 0,
  state_default: 50,
  ban: 50,
  kick: 50,
  redact: 50,
  invite: 0,
  notifications: {},
  aliases: [],
  history_visibility: 'shared',
  redacts: '$x',
  body: 'secret',
};

const POWER_LEVELS = ['ban', 'events', 'events_default', 'kick', 'redact', 'state_default', 'users', 'users_default'];

/** What stays of the content, by type: from the version named on. */
const KEPT: Record<string, readonly (readonly [from: number, keys: readonly string[]])[]> = {
  'm.room.message': [[1, []]],
  'm.room.topic': [[1, []]],
  'm.room.member': [
    [1, ['membership']],
    [9, ['join_authorised_via_users_server', 'membership']],
    [11, ['join_authorised_via_users_server', 'membership', 'third_party_invite']],
  ],
  'm.room.create': [
    [1, ['creator']],
    [11, Object.keys(CONTENT).sort()],
  ],
  'm.room.join_rules': [
    [1, ['join_rule']],
    [8, ['allow', 'join_rule']],
  ],
  'm.room.power_levels': [
    [1, POWER_LEVELS],
    [11, [...POWER_LEVELS, 'invite'].sort()],
  ],
  'm.room.aliases': [
    [1, ['aliases']],
    [6, []],
  ],
  'm.room.history_visibility': [[1, ['history_visibility']]],
  'm.room.redaction': [
    [1, []],
    [11, ['redacts']],
  ],
};

const cases = ROOM_VERSIONS.flatMap((version) =>
  Object.entries(KEPT).map(([type, steps]) => ({
    version,
    type,
    kept: steps.filter(([from]) => from <= Number(version)).at(-1)?.[1] ?? [],
  })),
);

describe('redaction', () => {
  test.each(cases)('in version $version keeps $kept of $type', ({ version, type, kept }) => {
    const event = sampleEvent(version, { type, content: CONTENT });
    const redacted = redact(event, rulesOf(version));
    expect(Object.keys(redacted['content'] as object).sort()).toEqual(kept);
    expect(event['content']).toBe(CONTENT);
  });

  test.each(ROOM_VERSIONS)(
    'in version %s keeps the top-level keys that the version names, and no others',
    (version) => {
      const obsolete = { origin: 'h', membership: 'join', prev_state: [] };
      const event = sampleEvent(version, {
        ...obsolete,
        state_key: '',
        redacts: '$x',
        unsigned: { age: 1 },
        age_ts: 1,
        event_id: '$x:y',
        __proto: 1,
      });
      const keys = new Set(Object.keys(sampleEvent(version)).concat('state_key', 'event_id'));
      if (Number(version) < 11) for (const key of Object.keys(obsolete)) keys.add(key);
      expect(new Set(Object.keys(redact(event, rulesOf(version))))).toEqual(keys);
    },
  );

  test('in version 11 keeps only the signed part of a third-party invite', () => {
    const event = sampleEvent('11', { type: 'm.room.member', content: CONTENT });
    expect(redact(event, rulesOf('11'))['content']).toMatchObject({ third_party_invite: { signed: { token: 't' } } });
    const unsigned = sampleEvent('11', {
      type: 'm.room.member',
      content: { third_party_invite: { display_name: 'D' } },
    });
    expect(redact(unsigned, rulesOf('11'))['content']).toEqual({ third_party_invite: {} });
    const odd = sampleEvent('11', { type: 'm.room.member', content: { third_party_invite: 'D' } });
    expect(redact(odd, rulesOf('11'))['content']).toEqual({});
  });

  test('takes the room id from create events of version 12', () => {
    const event = sampleEvent('12', { type: 'm.room.create', state_key: 'x' });
    expect(redact(event, rulesOf('12'))).not.toHaveProperty('room_id');
    expect(redact(event, rulesOf('11'))).toHaveProperty('room_id');
  });

  test('finds no content in names that every object inherits', () => {
    const event = sampleEvent('11', { type: 'constructor', content: { toString: 1 } });
    expect(redact(event, rulesOf('11'))['content']).toEqual({});
  });

  test('is idempotent', () => {
    for (const { version, type } of cases) {
      const once = redact(sampleEvent(version, { type, content: CONTENT }), rulesOf(version));
      expect(redact(once, rulesOf(version))).toEqual(once);
    }
  });
});
