import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { authEventKeys, authStateOf, checkAuthEventsCited } from '../../../src/matrix/auth/auth-events.ts';
import { authorise } from '../../../src/matrix/auth/auth-rules.ts';
import { type Json, type JsonObject, type Pdu } from '../../../src/matrix/pdu.ts';
import { ROOM_VERSIONS } from '../../../src/matrix/room-versions.ts';
import { ALICE, BOB, CREATOR, create, event, joinRules, member, powerLevels, room, rulesOf } from '../room-of-tests.ts';

const RUNS = { seed: 1, numRuns: 2_000 };
/** What one judgement of the largest event may take; quadratic work on it takes minutes. */
const JUDGEMENT_MS_MAX = 2_000;

const MEMBERSHIPS = ['join', 'invite', 'leave', 'ban', 'knock'];
const FIELDS = [
  ...['membership', 'third_party_invite', 'join_authorised_via_users_server', 'join_rule', 'users', 'events', 'ban'],
  ...['notifications', 'users_default', 'state_default', 'kick', 'invite', 'redact', 'creator', 'm.federate'],
  ...['additional_creators', 'room_version', 'public_key', 'public_keys', '__proto__', 'constructor'],
];
const TYPES = [
  ...['m.room.create', 'm.room.member', 'm.room.power_levels', 'm.room.join_rules', 'm.room.third_party_invite'],
  ...['m.room.aliases', 'm.room.redaction', 'm.room.topic', '__proto__'],
];
const json = fc.oneof(
  fc.constantFrom<Json>(
    ...MEMBERSHIPS,
    ALICE,
    '50',
    50,
    { [ALICE]: 100 },
    { signed: { mxid: BOB, token: 't', signatures: {} } },
  ),
  fc.jsonValue() as fc.Arbitrary<Json>,
);
const content: fc.Arbitrary<JsonObject> = fc.dictionary(fc.constantFrom(...FIELDS), json);
const anyEvent = fc
  .record({
    type: fc.constantFrom(...TYPES),
    sender: fc.constantFrom(CREATOR, ALICE, BOB),
    stateKey: fc.option(fc.constantFrom('', ALICE, BOB, 't', 'x', '@'), { nil: undefined }),
    content,
    redacts: fc.constantFrom('$a:one', 'x'),
  })
  .map(({ stateKey, ...fields }) => event({ ...fields, ...(stateKey !== undefined && { stateKey }) }));

describe('anything at all', () => {
  test('in an event and in the state gets a verdict, never a throw', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...ROOM_VERSIONS),
        anyEvent,
        fc.array(anyEvent, { maxLength: 6 }),
        (version, judged, others) => {
          const rules = rulesOf(version);
          const state = authStateOf([create(version), member(CREATOR, 'join'), member(ALICE, 'join'), ...others]);
          const verdict = authorise(judged, state, rules);
          expect(verdict.ok || verdict.rule.length > 0).toBe(true);
          expect(authEventKeys(judged, rules).length).toBeLessThanOrEqual(7);
          expect(checkAuthEventsCited(judged, others, rules, () => false)).toHaveProperty('ok');
        },
      ),
      RUNS,
    );
  });

  test('that is huge is judged at once', () => {
    const many: JsonObject = Object.fromEntries(
      Array.from({ length: 50_000 }, (_, i) => [`@user${String(i)}:one`, i % 100]),
    );
    const long = 'x'.repeat(1_000_000);
    const judged: Pdu[] = [
      powerLevels({ users: many, events: many, notifications: many }),
      powerLevels({ users: { [`@${long}:one`]: long } }),
      member(BOB, 'invite', {
        sender: CREATOR,
        content: { third_party_invite: { signed: { mxid: long, token: long } } },
      }),
      member(`@${long}:one`, 'ban', { sender: CREATOR }),
      event({ type: long, stateKey: long }),
      { ...joinRules(long), authEvents: Array.from({ length: 10_000 }, (_, i) => `$${String(i)}` as Pdu['eventId']) },
    ];
    for (const version of ROOM_VERSIONS) {
      const state = room(version, powerLevels({ users: many, events: many }));
      for (const subject of judged) {
        const started = performance.now();
        authorise(subject, state, rulesOf(version));
        checkAuthEventsCited(subject, [], rulesOf(version), () => false);
        expect(performance.now() - started).toBeLessThan(JUDGEMENT_MS_MAX);
      }
    }
  });
});
