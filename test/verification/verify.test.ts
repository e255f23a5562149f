import { describe, expect, test } from 'vitest';
import { canonicalJson } from '../../src/matrix/json/canonical-json.ts';
import { type KeyId, type RoomId } from '../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
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
      depth: 2,
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

  test('counts a key that had expired as missing from version 5 on', () => {
    const event = signedMember('5', 1, { origin_server_ts: 1_000 });
    const keysUntil = (validUntilTs: number): VerifyKey[] => [keyOfServer(serverName(1), validUntilTs)];
    expect(check('5', event, keysUntil(999)).outcome).toBe('key-missing');
    expect(check('5', event, keysUntil(1_000)).outcome).toBe('passed');
    expect(check('4', signedMember('4', 1, { origin_server_ts: 1_000 }), keysUntil(999)).outcome).toBe('passed');
    expect(check('5', event, [...keysUntil(1_000), ...keysUntil(5)]).outcome).toBe('passed');
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
    ['no event', '{}', 'event.hashes'],
  ])('calls %s malformed', (_, text, rule) => {
    expect(check('11', text)).toEqual(expect.objectContaining({ outcome: 'malformed', eventId: null, rule }));
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
