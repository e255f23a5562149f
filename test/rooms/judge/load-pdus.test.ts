import { describe, expect, test } from 'vitest';
import { preparePdu } from '../../../src/matrix/event-format.ts';
import { parseJsonObject } from '../../../src/matrix/json/strict-json.ts';
import { parseStored } from '../../../src/rooms/judge/load-pdus.ts';
import { rulesOf, sampleEvent } from '../../matrix/sample-event.ts';

/** Reads an event as it comes in as an outlier, then as it lies in the store. */
function readTwice(version: string, text: string) {
  const json = parseJsonObject(text);
  if (!json.ok) throw new Error(json.reason);
  const first = preparePdu(json.value, rulesOf(version), { capReferences: false });
  if (!first.ok) throw new Error(first.reason);
  return [first.pdu, parseStored(text, rulesOf(version), first.pdu.eventId)];
}

describe('a stored event', () => {
  test('reads as it did when it came in, in every format', () => {
    for (const version of ['1', '3', '5', '6', '11', '12']) {
      const [first, stored] = readTwice(version, JSON.stringify(sampleEvent(version)));
      expect(stored).toEqual(first);
    }
  });

  test('may have a time and numbers that JavaScript cannot hold, before version 6', () => {
    const text = JSON.stringify(sampleEvent('5', { content: { level: 50 } }))
      .replace('1700000000000', '9223372036854775807')
      .replace('"level":50', '"level":50.0');
    const [first, stored] = readTwice('5', text);
    expect(stored).toEqual(first);
  });

  test('may cite more than events do today: outliers are older than the limit', () => {
    const many = Array.from({ length: 30 }, (_, i) => `$${String(i).padStart(43, 'a')}`);
    const [first, stored] = readTwice('4', JSON.stringify(sampleEvent('4', { auth_events: many, prev_events: many })));
    expect(stored).toEqual(first);
  });
});
