import { describe, expect, test } from 'vitest';
import { canonicalJson } from '../../src/matrix/json/canonical-json.ts';
import { contentHash, eventIdOf } from '../../src/matrix/signing/hashes.ts';
import { inspectEvent } from '../../src/inspect/inspect-event.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { redact } from '../../src/matrix/signing/redaction.ts';
import { ROOM_VERSIONS } from '../../src/matrix/room-versions.ts';
import { signEvent } from '../../src/matrix/signing/signatures.ts';
import { EXAMPLE, OTHER, keyOf, rulesOf, sampleEvent } from '../matrix/sample-event.ts';

function answerOf(source: string, version: string, keys?: JsonObject): JsonObject {
  const inspected = inspectEvent(source, rulesOf(version), keys);
  if (!inspected.ok) throw new Error(inspected.rule);
  return inspected.answer;
}

describe('inspecting an event', () => {
  test.each(ROOM_VERSIONS)('of version %s tells its id, hash, canonical JSON, redaction and signatures', (version) => {
    const rules = rulesOf(version);
    const event = signEvent(sampleEvent(version, { unsigned: { age: 1 } }), rules, EXAMPLE, keyOf('example.org', 'b'));
    const keys = { [EXAMPLE]: { 'ed25519:b': keyOf('example.org', 'b').publicKey } };
    expect(answerOf(JSON.stringify(event), version, keys)).toEqual({
      event_id: eventIdOf(event, rules),
      content_hash: contentHash(event),
      content_hash_ok: true,
      canonical_json: canonicalJson(event),
      redacted: redact(event, rules),
      signatures: [
        { server: EXAMPLE, key_id: 'ed25519:a', checked: false, ok: false },
        { server: EXAMPLE, key_id: 'ed25519:b', checked: true, ok: true },
      ],
    });
  });

  test('takes the event bare or wrapped', () => {
    const event = sampleEvent('11');
    expect(answerOf(JSON.stringify({ event }), '11')).toEqual(answerOf(JSON.stringify(event), '11'));
  });

  test('does not call a wrong hash or signature right', () => {
    const event = { ...sampleEvent('11'), signatures: { [OTHER]: { 'ed25519:a': 'A'.repeat(86), 'ed25519:z': '*' } } };
    const keys = { [OTHER]: { 'ed25519:a': keyOf(OTHER).publicKey, 'ed25519:z': keyOf(OTHER).publicKey } };
    expect(answerOf(JSON.stringify(event), '11', keys)).toMatchObject({
      content_hash_ok: false,
      signatures: [
        { key_id: 'ed25519:a', checked: true, ok: false },
        { key_id: 'ed25519:z', checked: true, ok: false },
      ],
    });
  });

  test('keeps the spelling of numbers where the version allows any', () => {
    const text = JSON.stringify(sampleEvent('5', { type: 'm.room.power_levels', content: { ban: 0 } }));
    const answer = answerOf(text.replace('"ban":0', '"ban":5e1'), '5');
    expect(answer['canonical_json']).toContain('"ban":50.0');
    expect(canonicalJson(answer)).toContain('"redacted":{"auth_events"');
    expect(canonicalJson(answer['redacted']!)).toContain('"ban":50.0');
  });

  test.each<[string, string, string]>([
    ['no JSON', '{', 'json.syntax'],
    ['a list', '[]', 'json.object'],
    ['duplicate keys', '{"event":{"type":"a","type":"b"}}', 'json.duplicate-key'],
    ['a depth of 10,000', '{"event":' + '['.repeat(10_000) + ']'.repeat(10_000) + '}', 'json.depth'],
    ['a string of 1 MB', JSON.stringify(sampleEvent('11', { content: { body: 'x'.repeat(1_000_000) } })), 'event.size'],
    [
      '300 auth events',
      JSON.stringify(sampleEvent('11', { auth_events: Array<string>(300).fill('$a') })),
      'event.auth_events',
    ],
    ['an event that is a string', '{"event":"x"}', 'event.hashes'],
  ])('refuses %s', (_, text, rule) => {
    const inspected = inspectEvent(text, rulesOf('11'));
    expect(inspected.ok || inspected.rule).toBe(rule);
  });
});
