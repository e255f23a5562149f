import { describe, expect, test } from 'vitest';
import { checkContentHash, contentHash, eventIdOf } from '../../../src/matrix/signing/hashes.ts';
import { type JsonObject } from '../../../src/matrix/pdu.ts';
import { parseJsonObject } from '../../../src/matrix/json/strict-json.ts';
import { rulesOf, sampleEvent } from '../sample-event.ts';

/** https://spec.matrix.org/v1.16/appendices/#event-signing */
const MINIMAL = {
  room_id: '!x:domain',
  sender: '@a:domain',
  origin: 'domain',
  origin_server_ts: 1_000_000,
  signatures: {},
  hashes: {},
  type: 'X',
  content: {},
  prev_events: [],
  auth_events: [],
  depth: 3,
  unsigned: { age_ts: 1_000_000 },
};

describe('the content hash', () => {
  test('is the one that the spec gives for its two events', () => {
    expect(contentHash(MINIMAL)).toBe('5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos');
    const message = {
      content: { body: 'Here is the message content' },
      event_id: '$0:domain',
      origin: 'domain',
      origin_server_ts: 1_000_000,
      type: 'm.room.message',
      room_id: '!r:domain',
      sender: '@u:domain',
      signatures: {},
      unsigned: { age_ts: 1_000_000 },
    };
    expect(contentHash(message)).toBe('onLKD1bGljeBWQhWZ1kaP9SorVmRQNdN5aM2JYU2n/g');
  });

  test('does not cover what servers add on the way', () => {
    const marked = {
      ...MINIMAL,
      signatures: { a: {} },
      hashes: { sha256: 'x' },
      unsigned: 1,
      age_ts: 1,
      outlier: true,
    };
    expect(contentHash({ ...marked, destinations: [] })).toBe(contentHash(MINIMAL));
    expect(contentHash({ ...MINIMAL, destination: [] })).not.toBe(contentHash(MINIMAL));
  });

  test('matches in either alphabet, padded or not', () => {
    const sha256 = contentHash(MINIMAL);
    const urlSafe = sha256.replaceAll('+', '-').replaceAll('/', '_');
    for (const claimed of [sha256, `${sha256}=`, urlSafe]) {
      expect(checkContentHash({ ...MINIMAL, hashes: { sha256: claimed } })).toBe('match');
    }
  });

  test('tells a changed event from one whose hash cannot be read', () => {
    const sha256 = contentHash(MINIMAL);
    expect(checkContentHash({ ...MINIMAL, hashes: { sha256 }, depth: 4 })).toBe('mismatch');
    expect(checkContentHash({ ...MINIMAL, hashes: { sha256: 'AAAA' } })).toBe('mismatch');
    for (const hashes of [{}, { sha256: 'A' }, { sha256: 'ÄÖ' }, { sha256: 5 }, null, []]) {
      expect(checkContentHash({ ...MINIMAL, hashes })).toBe('unreadable');
    }
  });

  test('depends on how a number is spelled where the version lets it be spelled', () => {
    const hashOf = (number: string): string => {
      const parsed = parseJsonObject(`{"content":{"a":${number}}}`);
      return parsed.ok ? contentHash(parsed.value) : parsed.rule;
    };
    expect(hashOf('1e3')).toBe(hashOf('1000.0'));
    expect(hashOf('1e3')).not.toBe(hashOf('1000'));
    expect(hashOf('9007199254740993')).not.toBe(hashOf('9007199254740992'));
  });
});

describe('the event id', () => {
  test('is read off the event in versions 1 and 2', () => {
    expect(eventIdOf(sampleEvent('1'), rulesOf('1'))).toBe('$event:example.org');
    expect(eventIdOf(sampleEvent('2'), rulesOf('2'))).toBe('$event:example.org');
  });

  // These ids were computed by the reference implementation.
  test('is the reference hash from version 3 on, URL-safe from 4', () => {
    const event: JsonObject = {
      type: 'm.room.message',
      room_id: '!r:h',
      sender: '@a:h',
      content: { x: 1 },
      depth: 5,
      prev_events: ['$p'],
      auth_events: ['$q'],
      origin_server_ts: 1,
      hashes: { sha256: 'aa' },
      signatures: { h: { 'ed25519:1': 'aa' } },
    };
    expect(eventIdOf(event, rulesOf('3'))).toBe('$JdlhVTACNCmu6GaQTujYLltVsd2b0KOMvDdsQwHJG+k');
    for (const version of ['4', '5', '6', '7', '8', '9', '10', '11', '12']) {
      expect(eventIdOf(event, rulesOf(version))).toBe('$JdlhVTACNCmu6GaQTujYLltVsd2b0KOMvDdsQwHJG-k');
    }
  });

  test('does not change when the content is redacted or signatures are added', () => {
    const event = sampleEvent('10');
    const id = eventIdOf(event, rulesOf('10'));
    expect(eventIdOf({ ...event, content: {}, signatures: {}, unsigned: { a: 1 } }, rulesOf('10'))).toBe(id);
    expect(eventIdOf({ ...event, depth: 8 }, rulesOf('10'))).not.toBe(id);
  });
});
