import { Readable } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { type EventBatch } from '../../src/federation/contract.ts';
import { DripError, type EventStreamOptions, createEventStream } from '../../src/federation/event-stream.ts';
import { failureOf } from './tls-server.ts';

function streamOf(body: Readable, options: Partial<EventStreamOptions<'pdus'>> = {}) {
  const ended = { times: 0 };
  const stream = createEventStream({
    body,
    arrays: ['pdus'],
    bytesMax: 100_000_000,
    signal: new AbortController().signal,
    onReceived: () => undefined,
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

/** A body that ends after these chunks, or fails there. */
function bodyOf(chunks: readonly string[], error?: Error): Readable {
  return Readable.from(
    (function* () {
      for (const chunk of chunks) yield Buffer.from(chunk);
      if (error !== undefined) throw error;
    })(),
    { highWaterMark: 1 },
  );
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

  test('is read no further while its reader has no place to read it, which is no drip of its sender', async () => {
    let now = 0;
    let goOn = (): void => undefined;
    const taken: string[] = [];
    const chunks = ['{"pdus":[', `${event},`, `${event}]}`];
    const body = new Readable({
      read() {
        const chunk = chunks.shift();
        if (chunk !== undefined) taken.push(chunk);
        this.push(chunk === undefined ? null : Buffer.from(chunk));
      },
      highWaterMark: 1,
    });
    let waits = 0;
    const { stream } = streamOf(body, {
      clock: { now: () => now },
      beforeReading: () => {
        waits += 1;
        return waits === 1 ? new Promise((resolve) => (goOn = resolve)) : undefined;
      },
    });
    const reading = batchesOf(stream);
    await expect.poll(() => waits).toBe(1);
    await turn();
    expect(taken.length).toBeLessThan(3);
    now = 3_600_000;
    goOn();
    expect((await reading).flatMap(({ events }) => events)).toHaveLength(2);
    expect(waits).toBeGreaterThan(1);
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

  const cut = new Error('cut');
  test.each<[string, Readable, Partial<EventStreamOptions<'pdus'>>, object]>([
    ['is cut', bodyOf(['{"pdus":[{"a":1},{"a":2},{"a"'], cut), {}, cut],
    ['ends too early', bodyOf(['{"pdus":[{"a":1},{"a":2},{"a"']), {}, { message: 'the answer is cut short' }],
    ['turns into rubbish', bodyOf(['{"pdus":[{"a":1},{"a"', ':2},?,{"a":3}']), {}, { name: 'SplitError' }],
    [
      'grows over its limit',
      bodyOf(['{"pdus":[{"a":1},{"a":2},', '{"a":3},{"a":4},']),
      { bytesMax: 30 },
      { name: 'BodyTooLargeError' },
    ],
  ])('that %s gives the whole events before that, then its error', async (_what, body, options, error) => {
    const { stream, ended } = streamOf(body, options);
    const taken: string[] = [];
    const reading = async (): Promise<void> => {
      for await (const { events } of stream) taken.push(...events.map((bytes) => Buffer.from(bytes).toString()));
    };
    expect(await failureOf(reading())).toMatchObject(error);
    expect(taken).toEqual(['{"a":1}', '{"a":2}']);
    expect(() => stream.summary()).toThrow('not been read to its end');
    expect(body.destroyed).toBe(true);
    expect(ended.times).toBe(1);
  });

  test('that fails hands on nothing once the reader has given up, and throws the reason', async () => {
    const gone = new AbortController();
    const body = new Readable({ read: () => undefined });
    body.push('{"pdus":[{"a":1},{"a":2},');
    const aborted = new Error('the request was ended');
    // As undici does with the signal that a request was given.
    gone.signal.addEventListener('abort', () => body.destroy(aborted));
    const translate = (error: unknown) => (gone.signal.reason ?? error) as Error;
    const { stream, ended } = streamOf(body, { signal: gone.signal, translate });
    const batches = batchesOf(stream);
    await new Promise((resolve) => setImmediate(resolve));
    gone.abort(new Error('enough'));
    await expect(batches).rejects.toThrow('enough');
    expect(ended.times).toBe(1);
  });

  test('is not taken for whole when the reader gives up before its last batch', async () => {
    const gone = new AbortController();
    const body = Readable.from([Buffer.from('{"pdus":[{"a":1}],"auth_chain":[{"a":2}]}')]);
    const { stream } = streamOf(body, { signal: gone.signal, arrays: ['pdus', 'auth_chain'] as never });
    const arrays: string[] = [];
    const reading = async (): Promise<void> => {
      for await (const { array } of stream) {
        arrays.push(array);
        gone.abort(new Error('enough'));
      }
    };
    await expect(reading()).rejects.toThrow('enough');
    expect(arrays).toEqual(['pdus']);
  });
});
