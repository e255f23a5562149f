import { describe, expect, test } from 'vitest';
import { canonicalJson } from '../../src/matrix/json/canonical-json.ts';
import { EVENT_BYTES_MAX, checkByteLimits, parsePdu } from '../../src/matrix/event-format.ts';
import { EVENT_DEPTH_MAX } from '../../src/matrix/event-values.ts';
import { eventIdOf } from '../../src/matrix/signing/hashes.ts';
import { type EventId } from '../../src/matrix/identifiers.ts';
import { type Json, type JsonObject } from '../../src/matrix/pdu.ts';
import { ROOM_VERSIONS } from '../../src/matrix/room-versions.ts';
import { parseJsonObject } from '../../src/matrix/json/strict-json.ts';
import { rulesOf, sampleEvent, without } from './sample-event.ts';

function ruleOf(version: string, event: JsonObject, options = {}): string {
  const parsed = parsePdu(event, rulesOf(version), options);
  return parsed.ok ? 'accepted' : parsed.rule;
}

/** As `ruleOf`, from JSON text, where numbers keep their spelling. */
function ruleOfText(version: string, text: string): string {
  const parsed = parseJsonObject(text);
  return parsed.ok ? ruleOf(version, parsed.value) : parsed.rule;
}

function withContent(version: string, content: string): string {
  return JSON.stringify(sampleEvent(version, { content: { here: 0 } })).replace('{"here":0}', content);
}

function nested(depth: number): Json {
  let value: Json = 1;
  for (let i = 0; i < depth; i++) value = [value];
  return value;
}

describe.each(ROOM_VERSIONS)('an event of room version %s', (version) => {
  test('is taken when it is well formed', () => {
    const event = sampleEvent(version, { state_key: '' });
    const parsed = parsePdu(event, rulesOf(version));
    if (!parsed.ok) throw new Error(parsed.reason);
    expect(parsed.pdu).toMatchObject({
      eventId: eventIdOf(event, rulesOf(version)),
      roomId: event['room_id'],
      type: 'm.room.message',
      stateKey: '',
      sender: '@alice:example.org',
      depth: 7n,
      originServerTs: 1_700_000_000_000,
      json: event,
    });
    expect(parsed.pdu.prevEvents).toHaveLength(1);
    expect(parsed.pdu.authEvents).toHaveLength(2);
  });

  test('is a message event when it has no state key', () => {
    const parsed = parsePdu(sampleEvent(version), rulesOf(version));
    expect(parsed.ok && parsed.pdu.stateKey).toBeUndefined();
  });

  test.each([
    'type',
    'room_id',
    'sender',
    'content',
    'depth',
    'prev_events',
    'auth_events',
    'origin_server_ts',
    'hashes',
  ])('is refused without %s', (field) => {
    expect(ruleOf(version, without(sampleEvent(version), field))).toBe(`event.${field}`);
  });

  const WRONG: Record<string, readonly Json[]> = {
    type: [null, 5, true, [], {}, 'x'.repeat(256)],
    room_id: [null, 5, true, [], {}, 's', '', '!', 'room:example.org', '!a b:h h', `!${'x'.repeat(255)}:example.org`],
    sender: [
      null,
      5,
      true,
      [],
      {},
      's',
      '@alice',
      'alice:example.org',
      '@alice:',
      '@a\0:example.org',
      `@${'x'.repeat(255)}:h`,
    ],
    state_key: [null, 5, true, [], {}, 'x'.repeat(256)],
    content: [null, 5, true, [], 's'],
    depth: [null, '7', true, [], {}, -1, 2 ** 63],
    origin_server_ts: [null, '7', true, [], {}],
    prev_events: [
      null,
      5,
      's',
      {},
      [5],
      [null],
      [{}],
      [[]],
      [['$a:b']],
      [['$a:b', 5]],
      [['$a:b', { sha256: 5 }]],
      [['$a:b', {}, 1]],
    ],
    auth_events: [null, 5, 's', {}, [5], [null], [{}], [[]], [['$a:b']], [['$a:b', 5]], [['$a:b', { sha256: 5 }]]],
    hashes: [null, 5, 's', [], { sha256: 5 }, { sha256: 'AAAA', other: {} }],
    signatures: [null, 5, 's', [], { h: 5 }, { h: [] }, { h: { 'ed25519:a': 5 } }],
    unsigned: [null, 5, 's', []],
  };
  test.each(Object.entries(WRONG))('is refused when %s has the wrong type or size', (field, values) => {
    for (const value of values) {
      const rule = ruleOf(version, sampleEvent(version, { [field]: value }));
      expect([`event.${field}`, 'event.number'], JSON.stringify(value)).toContain(rule);
    }
  });

  test('may hold NUL and other control characters in its type and state key, as other servers do', () => {
    for (const text of ['\0', 'a\0b', '\u0001', 'a\tb\n']) {
      expect(ruleOf(version, sampleEvent(version, { type: text, state_key: text }))).toBe('accepted');
    }
  });

  test('may be of a room whose id holds control characters, before version 12', () => {
    const rule = ruleOf(version, sampleEvent(version, { room_id: '!a\n\tb:example.org' }));
    expect(rule).toBe(version === '12' ? 'event.room_id' : 'accepted');
  });

  test('is refused above 65,536 bytes, weighed as the reference implementation does', () => {
    const event = sampleEvent(version, { content: { body: '' } });
    const room = EVENT_BYTES_MAX - Buffer.byteLength(canonicalJson(event)) - ',"unsigned":{}'.length;
    const bodies = ['x'.repeat(room), 'é'.repeat(room / 2 - (room % 2) / 2) + 'x'.repeat(room % 2)];
    for (const body of bodies) {
      expect(ruleOf(version, { ...event, content: { body } })).toBe('accepted');
      expect(ruleOf(version, { ...event, content: { body }, unsigned: { age: 'x'.repeat(99) } })).toBe('accepted');
      expect(ruleOf(version, { ...event, content: { body: `${body}x` } })).toBe('event.size');
    }
  });

  test('is refused when it cites too many events, unless it may be older than the limits', () => {
    const event = sampleEvent(version);
    const [reference] = event['prev_events'] as Json[];
    const cites = (field: string, count: number): JsonObject => ({ ...event, [field]: Array(count).fill(reference) });
    expect(ruleOf(version, cites('prev_events', 20))).toBe('accepted');
    expect(ruleOf(version, cites('prev_events', 21))).toBe('event.prev_events');
    expect(ruleOf(version, cites('auth_events', 10))).toBe('accepted');
    expect(ruleOf(version, cites('auth_events', 300))).toBe('event.auth_events');
    expect(ruleOf(version, cites('prev_events', 300), { capReferences: false })).toBe('accepted');
  });

  test('is refused when it nests deeper than other servers can read', () => {
    const deepest = EVENT_DEPTH_MAX - 2;
    expect(ruleOf(version, sampleEvent(version, { content: { a: nested(deepest) } }))).toBe('accepted');
    expect(ruleOf(version, sampleEvent(version, { content: { a: nested(deepest + 1) } }))).toBe('event.nesting');
    expect(ruleOf(version, sampleEvent(version, { content: { a: nested(100_000) } }))).toBe('event.nesting');
  });

  test('may hold odd numbers only where the version has no strict canonical JSON', () => {
    const strict = rulesOf(version).strictCanonicalJson;
    for (const number of ['1.0', '1e3', '0.5', '-0.0', '9007199254740992', '-9007199254740992', '1e20']) {
      for (const content of [`{"a":${number}}`, `{"a":[[{"b":${number}}]]}`]) {
        expect(ruleOfText(version, withContent(version, content)), content).toBe(strict ? 'event.number' : 'accepted');
      }
    }
    for (const number of ['-0', '9007199254740991', '-9007199254740991']) {
      expect(ruleOfText(version, withContent(version, `{"a":${number}}`))).toBe('accepted');
    }
  });

  test('may hold odd numbers in unsigned, which is thrown away', () => {
    const text = JSON.stringify(sampleEvent(version, { unsigned: { age: 0 } })).replace('{"age":0}', '{"age":1.5}');
    expect(ruleOfText(version, text)).toBe('accepted');
  });

  test('has a depth that is written as an integer, up to the limit of its version', () => {
    const withDepth = (depth: string): string =>
      JSON.stringify(sampleEvent(version)).replace('"depth":7', `"depth":${depth}`);
    const max = Number(version) <= 5 ? '9223372036854775807' : '9007199254740991';
    for (const depth of ['0', '9007199254740990', max]) {
      const parsed = parseJsonObject(withDepth(depth));
      const pdu = parsed.ok ? parsePdu(parsed.value, rulesOf(version)) : parsed;
      expect(pdu.ok && pdu.pdu.depth).toBe(BigInt(depth));
    }
    for (const depth of ['7.0', '7e0', '-1', '9223372036854775808', '12345678901234567890123']) {
      expect(ruleOfText(version, withDepth(depth)), depth).toMatch(/^event\.(depth|number)$/);
    }
  });
});

describe('the event format', () => {
  test('keeps event ids out of events whose id is a hash, and demands a server in those of versions 1 and 2', () => {
    for (const version of ['3', '4', '11', '12']) {
      expect(ruleOf(version, sampleEvent(version, { event_id: '$x' }))).toBe('event.event_id');
    }
    for (const event_id of ['$x', 'x:y', '', null, 5]) {
      expect(ruleOf('1', sampleEvent('1', { event_id }))).toBe('event.event_id');
    }
  });

  test('uses a label as the id where one is given, and needs neither hashes nor proper references then', () => {
    const event = { ...without(sampleEvent('11'), 'hashes'), event_id: 'IMA', prev_events: ['CREATE'] };
    const parsed = parsePdu(event, rulesOf('11'), { label: 'IMA' as EventId });
    expect(parsed.ok && [parsed.pdu.eventId, parsed.pdu.prevEvents]).toEqual(['IMA', ['CREATE']]);
  });

  test('uses a known id without hashing again, and is as strict as ever with all else', () => {
    const event = sampleEvent('11');
    const knownId = '$stored' as EventId;
    const parsed = parsePdu(event, rulesOf('11'), { knownId });
    expect(parsed.ok && parsed.pdu.eventId).toBe(knownId);
    for (const [changed, rule] of [
      [without(event, 'hashes'), 'event.hashes'],
      [{ ...event, prev_events: ['CREATE'] }, 'event.prev_events'],
      [{ ...event, room_id: '!' }, 'event.room_id'],
    ] as const) {
      expect(parsePdu(changed, rulesOf('11'), { knownId })).toMatchObject({ ok: false, rule });
    }
  });

  test('derives the room id from the create event in version 12', () => {
    const create = without(sampleEvent('12', { type: 'm.room.create', state_key: '', content: {} }), 'room_id');
    const parsed = parsePdu(create, rulesOf('12'));
    if (!parsed.ok) throw new Error(parsed.reason);
    expect(parsed.pdu.roomId).toBe(`!${parsed.pdu.eventId.slice(1)}`);
  });

  test('refuses room ids with a server, and the create event among the auth events, in version 12', () => {
    expect(ruleOf('12', sampleEvent('12', { room_id: '!room:example.org' }))).toBe('event.room_id');
    const create = sampleEvent('12', { type: 'm.room.create', state_key: '' });
    expect(ruleOf('12', create)).toBe('event.room_id');
    expect(ruleOf('12', without(create, 'room_id'))).toBe('accepted');
    expect(ruleOf('12', sampleEvent('12', { auth_events: [`$${'A'.repeat(43)}`] }))).toBe('event.auth_events');
    expect(ruleOf('11', sampleEvent('11', { auth_events: [`$${'A'.repeat(43)}`] }))).toBe('accepted');
  });

  test('counts the bytes of types and state keys from version 11 on, and leaves them to the auth checks before', () => {
    for (const field of ['type', 'state_key']) {
      const event = sampleEvent('10', { [field]: 'é'.repeat(200) });
      const parsed = parsePdu(event, rulesOf('10'));
      if (!parsed.ok) throw new Error(parsed.reason);
      expect(checkByteLimits(parsed.pdu)?.rule).toBe(`event.${field}`);
      expect(ruleOf('11', { ...event, auth_events: [] })).toBe(`event.${field}`);
      expect(ruleOf('10', sampleEvent('10', { [field]: 'é'.repeat(256) }))).toBe(`event.${field}`);
      expect(ruleOf('10', sampleEvent('10', { [field]: '😀'.repeat(255) }))).toBe('accepted');
    }
    const fine = parsePdu(sampleEvent('10', { state_key: 'x'.repeat(255) }), rulesOf('10'));
    expect(fine.ok && checkByteLimits(fine.pdu)).toBeUndefined();
  });

  test('takes any timestamp of 64 bits in versions 1 to 5, as near as a number can tell', () => {
    const at = (ts: string): string => JSON.stringify(sampleEvent('5')).replace('1700000000000', ts);
    expect(ruleOfText('5', at('9223372036854775807'))).toBe('accepted');
    expect(ruleOfText('5', at('-9223372036854775808'))).toBe('accepted');
    for (const ts of ['9223372036854775808', '1.0', '1e12', '123456789012345678901']) {
      expect(ruleOfText('5', at(ts)), ts).toBe('event.origin_server_ts');
    }
    const parsed = parseJsonObject(at('9223372036854775807'));
    const pdu = parsed.ok ? parsePdu(parsed.value, rulesOf('5')) : parsed;
    expect(pdu.ok && pdu.pdu.originServerTs).toBe(Number.MAX_SAFE_INTEGER);
  });

  test('takes negative timestamps and unknown keys, __proto__ among them', () => {
    expect(ruleOf('11', sampleEvent('11', { origin_server_ts: -5 }))).toBe('accepted');
    const text = JSON.stringify(sampleEvent('11')).replace('{', '{"__proto__":{"type":"x"},"constructor":1,');
    expect(ruleOfText('11', text)).toBe('accepted');
  });
});
