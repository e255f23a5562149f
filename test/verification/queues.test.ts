import { describe, expect, test } from 'vitest';
import { Admission } from '../../src/verification/admission.ts';
import { CHUNK_BYTES_MAX, CHUNK_EVENTS_MAX, chunkStarts, eventAt, packEvents } from '../../src/verification/batch.ts';
import { FairQueue } from '../../src/verification/fair-queue.ts';

const NEVER = new AbortController().signal;

async function settled(): Promise<void> {
  await new Promise((resolve) => {
    setImmediate(resolve);
  });
}

describe('the fair queue', () => {
  test('takes turns between rooms and keeps the order within one', () => {
    const queue = new FairQueue<string>();
    for (const item of ['a1', 'a2', 'a3', 'b1', 'c1', 'b2']) queue.push(item[0]!, item);
    const order: string[] = [];
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) order.push(item);
    expect(order).toEqual(['a1', 'b1', 'c1', 'a2', 'b2', 'a3']);
    expect([queue.shift(), queue.peek()]).toEqual([undefined, undefined]);
  });

  test('forgets what is dropped', () => {
    const queue = new FairQueue<number>();
    for (const item of [1, 2, 3, 4]) queue.push(item < 3 ? 'a' : 'b', item);
    queue.drop((item) => item !== 2);
    expect([queue.peek(), queue.shift(), queue.shift()]).toEqual([2, 2, undefined]);
  });
});

describe('admission', () => {
  test('lets callers in while they fit, and the rest as others leave', async () => {
    const admission = new Admission(10);
    const entered: string[] = [];
    const enter = (room: string, bytes: number): Promise<void> =>
      admission.enter(room, bytes, NEVER).then(() => void entered.push(room));
    await Promise.all([enter('a', 6), enter('b', 4)]);
    const waiting = [enter('a', 6), enter('a', 1), enter('c', 3)];
    await settled();
    expect(entered).toEqual(['a', 'b']);
    admission.leave(6);
    await settled();
    expect(entered).toEqual(['a', 'b', 'a']);
    admission.leave(6);
    await Promise.all(waiting);
    expect(entered).toEqual(['a', 'b', 'a', 'c', 'a']);
  });

  test('lets one in that is larger than the bound, alone', async () => {
    const admission = new Admission(10);
    await admission.enter('a', 100, NEVER);
    let second = false;
    const waiting = admission.enter('b', 1, NEVER).then(() => (second = true));
    await settled();
    expect(second).toBe(false);
    admission.leave(100);
    await waiting;
  });

  test('lets a caller leave the queue, and those behind it move up', async () => {
    const admission = new Admission(10);
    await admission.enter('a', 8, NEVER);
    const controller = new AbortController();
    const large = admission.enter('b', 9, controller.signal);
    const small = admission.enter('b', 2, NEVER);
    controller.abort(new Error('gone'));
    await expect(large).rejects.toThrow('gone');
    await small;
  });
});

describe('packing events', () => {
  test('gives each event back, empty ones too', () => {
    const events = ['one', '', 'three'].map((text) => Buffer.from(text));
    const packed = packEvents(events);
    expect(events.map((_, i) => Buffer.from(eventAt(packed, i)).toString())).toEqual(['one', '', 'three']);
  });

  test('cuts chunks by count and by bytes, and gives an oversized event one of its own', () => {
    expect(chunkStarts([])).toEqual([]);
    const small = Array.from({ length: CHUNK_EVENTS_MAX * 2 + 1 }, () => new Uint8Array(1));
    expect(chunkStarts(small)).toEqual([0, CHUNK_EVENTS_MAX, CHUNK_EVENTS_MAX * 2]);
    const huge = new Uint8Array(CHUNK_BYTES_MAX + 1);
    expect(chunkStarts([new Uint8Array(1), huge, huge, new Uint8Array(1)])).toEqual([0, 1, 2, 3]);
  });
});
