import { describe, expect, test } from 'vitest';
import { canonicalJson } from '../../src/matrix/json/canonical-json.ts';
import { type KeyId, type RoomId } from '../../src/matrix/identifiers.ts';
import { type Json, type JsonObject } from '../../src/matrix/pdu.ts';
import { eventIdOf } from '../../src/matrix/signing/hashes.ts';
import { redact } from '../../src/matrix/signing/redaction.ts';
import { ROOM_VERSIONS } from '../../src/matrix/room-versions.ts';
import { signEvent, signJson } from '../../src/matrix/signing/signatures.ts';
import { type VerifyKey } from '../../src/verification/contract.ts';
import { type ThreadOutcome } from '../../src/verification/messages.ts';
import { prepareEvent } from '../../src/verification/prepare.ts';
import { type VerifiedEvent, keyLookup, verifyEvent } from '../../src/verification/verify.ts';
import { keyOf, rulesOf, sampleEvent } from '../matrix/sample-event.ts';
import { ROOM, bytesOf, keyOfServer, serverName, signedMember } from './signed-room.ts';

const ALL_KEYS = [0, 1, 2, 3, 4].map((i) => keyOfServer(serverName(i)));

function check(version: string, event: JsonObject | string, keys: readonly VerifyKey[] = ALL_KEYS): ThreadOutcome {
  return verified(version, event, keys).outcome;
}

function verified(version: string, event: JsonObject | string, keys: readonly VerifyKey[] = ALL_KEYS): VerifiedEvent {
  const rules = rulesOf(version);
  const roomId = (version === '12' ? `!${'A'.repeat(43)}` : ROOM) as RoomId;
  const raw = typeof event === 'string' ? Buffer.from(event) : bytesOf(event);
  return verifyEvent(prepareEvent(raw, { rules, roomId, capReferences: true }), rules, keyLookup(keys));
}

function nested(levels: number): Json {
  let value: Json = [];
  for (let level = 1; level < levels; level++) value = [value];
  return value;
}

function passed(outcome: ThreadOutcome): (ThreadOutcome & { outcome: 'passed' })['pdu'] {
  if (outcome.outcome !== 'passed') throw new Error(JSON.stringify(outcome));
  return outcome.pdu;
}

describe('verifying one event', () => {
  test.each(ROOM_VERSIONS)('passes a well signed event of version %s in the columns that storing needs', (version) => {
    expect(passed(check(version, signedMember(version, 1)))).toMatchObject({
      type: 'm.room.member',
      stateKey: '@user1:s1.example.org',
      sender: '@user1:s1.example.org',
      membership: 'join',
      depth: 2n,
      hollow: false,
    });
  });

  test.each(ROOM_VERSIONS)('keeps only the redacted event of version %s when the content hash is wrong', (version) => {
    const honest = signedMember(version, 1);
    const tampered = { ...honest, content: { membership: 'join', displayname: 'Liar' } };
    const { outcome, rewritten } = verified(version, tampered);
    const pdu = passed(outcome);
    expect(pdu.hollow).toBe(true);
    expect(rewritten).toBe(canonicalJson(redact(honest, rulesOf(version))));
    expect(pdu.eventId).toBe(passed(check(version, honest)).eventId);
  });

  test('passes the redacted copy of an event as hollow', () => {
    const pdu = passed(check('11', redact(signedMember('11', 1), rulesOf('11'))));
    expect([pdu.hollow, pdu.membership]).toEqual([true, 'join']);
  });

  test('does not keep unsigned, which nothing covers', () => {
    const event = signedMember('11', 1);
    expect(verified('11', { ...event, unsigned: { redacted_because: {}, age: 1.5 } })).toEqual({
      outcome: check('11', event),
      rewritten: canonicalJson(event),
    });
    expect(verified('11', event).rewritten).toBeUndefined();
  });

  describe('of a text longer than any event may be', () => {
    const users = (count: number): JsonObject =>
      Object.fromEntries(Array.from({ length: count }, (_, i) => [`@user${i}:some.example.org`, 50]));
    const escaped = (event: JsonObject): string =>
      JSON.stringify(event).replace(/[^ -~]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
    const body = '語'.repeat(21_000);

    test.each(ROOM_VERSIONS)('weighs the canonical JSON without unsigned, and keeps that (version %s)', (version) => {
      const message = signedMember(version, 1, { content: { membership: 'join', displayname: body } });
      const levels = signedMember(version, 1, { type: 'm.room.power_levels', content: { users: users(1300) } });
      const texts = [
        escaped(message),
        JSON.stringify(levels, null, 8),
        JSON.stringify({ ...levels, unsigned: { prev_content: { users: users(1300) }, age: 1 } }),
        escaped({ ...message, unsigned: { redacted_because: message } }),
      ];
      for (const [i, text] of texts.entries()) {
        expect(Buffer.byteLength(text)).toBeGreaterThan(65_536);
        const honest = i === 0 || i === 3 ? message : levels;
        const { outcome, rewritten } = verified(version, text);
        expect(passed(outcome)).toEqual(passed(check(version, honest)));
        expect(rewritten).toBe(canonicalJson(honest));
      }
    });

    test('keeps the redacted form where the content hash is wrong', () => {
      const honest = signedMember('11', 1);
      const text = escaped({ ...honest, content: { membership: 'join', displayname: body } });
      const { outcome, rewritten } = verified('11', text);
      expect(passed(outcome).hollow).toBe(true);
      expect(rewritten).toBe(canonicalJson(redact(honest, rulesOf('11'))));
    });

    test('refuses what is too large as canonical JSON, and names it', () => {
      const event = signedMember('11', 1, { content: { membership: 'join', displayname: 'x'.repeat(65_500) } });
      const eventId = eventIdOf(event, rulesOf('11'));
      expect(check('11', event)).toMatchObject({ outcome: 'malformed', rule: 'event.size', eventId });
    });
  });

  test('refuses a signature that is wrong, of another key, or not base64', () => {
    const event = signedMember('11', 1);
    const resigned = (signature: string): JsonObject => ({
      ...event,
      signatures: { [serverName(1)]: { 'ed25519:a': signature } },
    });
    for (const outcome of [
      check('11', { ...event, depth: 99 }),
      check('11', resigned('A'.repeat(86))),
      check('11', resigned('*')),
      check('11', event, [{ ...keyOfServer(serverName(1)), publicKey: keyOfServer(serverName(2)).publicKey }]),
    ]) {
      expect(outcome).toMatchObject({ outcome: 'bad-signature', serverName: 's1.example.org' });
    }
  });

  test('refuses an event that its sender did not sign', () => {
    const event = signedMember('11', 1);
    const [signature] = Object.values(event['signatures'] as JsonObject);
    for (const signatures of [
      {},
      { 'other.org': signature! },
      { [serverName(1)]: {} },
      { [serverName(1)]: { 'rsa:1': 'x' } },
    ]) {
      expect(check('11', { ...event, signatures })).toMatchObject({
        outcome: 'bad-signature',
        reason: 'not signed by s1.example.org',
      });
    }
  });

  test('says which key it would have needed', () => {
    expect(check('11', signedMember('11', 1), [])).toMatchObject({
      outcome: 'key-missing',
      serverName: 's1.example.org',
      keyId: 'ed25519:a',
    });
  });

  test('refuses a signature by a key that had ended by then, from version 5 on', () => {
    const event = signedMember('5', 1, { origin_server_ts: 1_000 });
    const keysUntil = (validUntilTs: number): VerifyKey[] => [keyOfServer(serverName(1), validUntilTs)];
    expect(check('5', event, keysUntil(999))).toMatchObject({
      outcome: 'bad-signature',
      serverName: 's1.example.org',
      reason: 's1.example.org, ed25519:a: valid until 999, the event is of 1000',
    });
    expect(check('5', event, keysUntil(1_000)).outcome).toBe('passed');
    expect(check('4', signedMember('4', 1, { origin_server_ts: 1_000 }), keysUntil(999)).outcome).toBe('passed');
    expect(check('5', event, [...keysUntil(1_000), ...keysUntil(5)]).outcome).toBe('passed');
  });

  test('counts a key as missing while a fresher answer could let it be valid', () => {
    const event = signedMember('5', 1, { origin_server_ts: 1_000 });
    const renewable = (until: number): VerifyKey[] => [keyOfServer(serverName(1), 999, until)];
    expect(check('5', event, renewable(1_000))).toMatchObject({ outcome: 'key-missing', keyId: 'ed25519:a' });
    expect(check('5', event, renewable(999)).outcome).toBe('bad-signature');
  });

  test('waits for a second key where the first had ended, since it may be the one', () => {
    const server = serverName(1);
    const event = signEvent(
      signedMember('5', 1, { origin_server_ts: 1_000 }),
      rulesOf('5'),
      server,
      keyOf(server, 'b'),
    );
    const ended = keyOfServer(server, 999);
    expect(check('5', event, [ended])).toMatchObject({ outcome: 'key-missing', keyId: 'ed25519:b' });
    const { keyId, publicKey } = keyOf(server, 'b');
    expect(check('5', event, [ended, { ...keyOfServer(server), keyId, publicKey }]).outcome).toBe('passed');
    expect(check('5', event, [ended, { ...ended, keyId, publicKey }]).outcome).toBe('bad-signature');
  });

  test('needs every signature whose key is at hand to verify, and one to be at hand', () => {
    const event = signedMember('11', 1);
    const server = serverName(1);
    const twice = signEvent(event, rulesOf('11'), server, keyOf(server, 'b'));
    expect(check('11', twice).outcome).toBe('passed');
    const second = { ...keyOfServer(server), keyId: 'ed25519:b' as KeyId };
    expect(check('11', twice, [...ALL_KEYS, second]).outcome).toBe('bad-signature');
    expect(check('11', twice, [...ALL_KEYS, { ...second, publicKey: keyOf(server, 'b').publicKey }]).outcome).toBe(
      'passed',
    );
  });

  test('needs the authoriser of a restricted join to have signed too', () => {
    const content = { membership: 'join', join_authorised_via_users_server: `@mod:${serverName(2)}` };
    const event = signedMember('10', 1, { content });
    expect(check('10', event)).toMatchObject({ outcome: 'bad-signature', serverName: 's2.example.org' });
    const both = signEvent(event, rulesOf('10'), serverName(2), keyOf(serverName(2)));
    expect(check('10', both).outcome).toBe('passed');
    expect(check('10', both, [keyOfServer(serverName(1))])).toMatchObject({ outcome: 'key-missing' });
    expect(check('7', signedMember('7', 1, { content })).outcome).toBe('passed');
  });

  test('needs the server in the event id to have signed in versions 1 and 2', () => {
    const event = signedMember('1', 1, { event_id: `$x:${serverName(2)}` });
    expect(check('1', event)).toMatchObject({ outcome: 'bad-signature', serverName: 's2.example.org' });
    const both = signEvent(event, rulesOf('1'), serverName(2), keyOf(serverName(2)));
    expect(check('1', both).outcome).toBe('passed');
  });

  test('needs no signature for an invite made from a third-party invite', () => {
    const content = { membership: 'invite', third_party_invite: { signed: {} } };
    expect(check('10', { ...signedMember('10', 1, { content }), signatures: {} }).outcome).toBe('passed');
  });

  test.each<[string, string, string]>([
    ['not JSON', '{', 'json.syntax'],
    ['not an object', '[]', 'json.object'],
    ['duplicate keys', '{"a":1,"a":2}', 'json.duplicate-key'],
    ['nested 600 deep', `{"a":${'['.repeat(600)}${']'.repeat(600)}}`, 'json.depth'],
  ])('calls %s malformed, which has no id', (_, text, rule) => {
    expect(check('11', text)).toEqual(expect.objectContaining({ outcome: 'malformed', eventId: null, rule }));
  });

  /** Events that break their format, as they were met in old rooms or made on purpose. */
  const MISSHAPEN: readonly [string, string, Record<string, Json>][] = [
    ['a sender that is no user id', 'event.sender', { type: 'm.room.aliases', sender: 's1.example.org' }],
    ['a negative depth', 'event.depth', { depth: -1 }],
    ['nesting of 140 levels', 'event.nesting', { content: { a: nested(140) } }],
    ['too many auth events', 'event.auth_events', { auth_events: Array<Json>(11).fill('$x') }],
    ['content that is no object', 'event.content', { content: [] }],
    ['no room id', 'event.room_id', { room_id: null }],
    ['no hashes', 'event.hashes', { hashes: null }],
  ];
  const cases = ['1', '4', '11'].flatMap((version) => MISSHAPEN.map((misshapen) => [version, ...misshapen] as const));
  test.each(cases)('calls an event of version %s with %s malformed, and names it', (version, _, rule, changes) => {
    const reference = rulesOf(version).eventReferences === 'ids' ? '$x' : ['$x:y', {}];
    const auth = changes['auth_events'] === undefined ? {} : { auth_events: Array<Json>(11).fill(reference) };
    const event = { ...signedMember(version, 1), ...changes, ...auth };
    expect(check(version, event)).toMatchObject({
      outcome: 'malformed',
      rule,
      eventId: version === '1' ? '$member1:s1.example.org' : eventIdOf(event, rulesOf(version)),
    });
  });

  test('names an event with a fraction by the hash that other servers know it by', () => {
    const text = JSON.stringify(signedMember('5', 1, { content: { membership: 'join', n: 1.5 } }));
    expect(check('6', text)).toMatchObject({
      outcome: 'malformed',
      rule: 'event.number',
      eventId: passed(check('5', text)).eventId,
    });
  });

  test('names no event of version 1 that gives no id', () => {
    for (const event_id of [null, 5, 'x', `$${'x'.repeat(255)}`]) {
      const event = { ...signedMember('1', 1), event_id };
      expect(check('1', event)).toMatchObject({ outcome: 'malformed', rule: 'event.event_id', eventId: null });
    }
  });

  test('calls an event of another room, or without a readable content hash, malformed, and names it', () => {
    const foreign = signedMember('11', 1, { room_id: '!other:example.org' });
    expect(check('11', foreign)).toMatchObject({
      outcome: 'malformed',
      rule: 'event.room',
      eventId: expect.any(String),
    });
    const server = serverName(1);
    const unhashed = { ...sampleEvent('11', { sender: `@a:${server}`, signatures: {} }), hashes: {} };
    const { signatures = {} } = signJson(redact(unhashed, rulesOf('11')), server, keyOf(server));
    expect(check('11', { ...unhashed, signatures })).toMatchObject({ outcome: 'malformed', rule: 'event.hashes' });
  });

  test('passes no membership that is not a string, nor one that cannot be stored', () => {
    for (const membership of [5, null, {}, 'joi\0n']) {
      expect(passed(check('11', signedMember('11', 1, { content: { membership } }))).membership).toBeNull();
    }
    expect(
      passed(check('11', signedMember('11', 1, { type: 'm.room.name', content: { membership: 'join' } }))).membership,
    ).toBeNull();
  });
});
