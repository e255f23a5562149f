import { Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { type EventBatch } from '../../src/federation/contract.ts';
import { createEventStream, DripError, type EventStreamOptions } from '../../src/federation/event-stream.ts';
import { failureOf } from './tls-server.ts';

function streamOf(body: Readable, options: Partial<EventStreamOptions<'pdus'>> = {}) {
  const ended = { times: 0 };
  const stream = createEventStream({
    body,
    arrays: ['pdus'],
    bytesMax: 100_000_000,
    clock: { now: () => 0 },
    translate: (error) => error as Error,
    onEnd: () => (ended.times += 1),
    ...options,
  });
  return { stream, ended };
}

async function batchesOf(stream: AsyncIterable<EventBatch>): Promise<readonly EventBatch[]> {
  const batches: EventBatch[] = [];
  for await (const batch of stream) batches.push(batch);
  return batches;
}

const event = `{"a":"${'x'.repeat(992)}"}`;
const ENDLESS_CHUNK = Buffer.from(`${event},`.repeat(16));

describe('a streamed answer', () => {
  test('comes in batches of many events, and says at its end what there was', async () => {
    const body = Buffer.from(`{"n":1,"pdus":[${Array.from({ length: 1000 }, () => event).join(',')}]}`);
    const chunks = Array.from({ length: Math.ceil(body.length / 16_384) }, (_, i) =>
      body.subarray(i * 16_384, (i + 1) * 16_384),
    );
    const { stream, ended } = streamOf(Readable.from(chunks));
    const batches = await batchesOf(stream);
    const sizes = batches.map(({ events }) => events.length);
    expect(sizes.reduce((a, b) => a + b)).toBe(1000);
    expect(Math.min(...sizes.slice(0, -1))).toBeGreaterThanOrEqual(200);
    expect(stream.summary()).toMatchObject({ bytes: body.length, events: { pdus: 1000 }, dropped: 0 });
    expect(ended.times).toBe(1);
  });

  test('is read no faster than its batches are taken, and closed when the reader leaves', async () => {
    let read = 0;
    const body = new Readable({
      highWaterMark: 65_536,
      read() {
        this.push(read === 0 ? Buffer.from('{"pdus":[') : ENDLESS_CHUNK);
        read += ENDLESS_CHUNK.length;
      },
    });
    const { stream, ended } = streamOf(body);
    let taken = 0;
    for await (const { events } of stream) {
      taken += events.reduce((bytes, { length }) => bytes + length, 0);
      expect(read - taken).toBeLessThan(200_000);
      if (taken > 3_000_000) break;
    }
    expect(body.destroyed).toBe(true);
    expect(ended.times).toBe(1);
  });

  test('in a drip is given up; our own slowness is not held against it', async () => {
    const clock = { at: 0, now: () => clock.at };
    const dripping = Readable.from(
      (function* () {
        yield Buffer.from('{"pdus":[');
        for (;;) {
          clock.at += 1000;
          yield Buffer.from('{},');
        }
      })(),
    );
    const given = streamOf(dripping, { clock });
    expect(await failureOf(batchesOf(given.stream))).toBeInstanceOf(DripError);
    expect(clock.at).toBe(61_000);
    expect(given.ended.times).toBe(1);

    const batch = `${event},`.repeat(300);
    const steady = Readable.from(
      [`{"pdus":[${batch}`, batch, batch, '{}]}'].map((text) => Buffer.from(text)),
      {
        highWaterMark: 1,
      },
    );
    const { stream } = streamOf(steady, { clock });
    for await (const { events } of stream) clock.at += events.length * 1_000_000;
    expect(stream.summary().events).toEqual({ pdus: 901 });
  });

  test('over its limit is cut off', async () => {
    const body = Readable.from([Buffer.from('{"pdus":['), ENDLESS_CHUNK, ENDLESS_CHUNK]);
    const { stream } = streamOf(body, { bytesMax: 20_000 });
    expect(await failureOf(batchesOf(stream))).toMatchObject({ name: 'BodyTooLargeError' });
    expect(body.destroyed).toBe(true);
  });
});
