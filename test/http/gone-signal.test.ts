import { EventEmitter } from 'node:events';
import { type FastifyReply } from 'fastify';
import { expect, test } from 'vitest';
import { GoneCaller, goneSignal } from '../../src/http/gone-signal.ts';

class Raw extends EventEmitter {
  closed = false;
  writableFinished = false;

  close(): void {
    this.closed = true;
    this.emit('close');
  }
}

function replyOf(raw: Raw): FastifyReply {
  return { raw } as unknown as FastifyReply;
}

test('a caller who goes away ends what waits for him, once', () => {
  const raw = new Raw();
  const caller = new GoneCaller(replyOf(raw));
  const signal = goneSignal(replyOf(raw));
  let told = 0;
  caller.addEventListener('abort', { handleEvent: () => (told += 1) });
  raw.close();
  expect([caller.aborted, signal.aborted, told]).toEqual([true, true, 1]);
  expect(caller.reason).toMatchObject({ message: 'the caller went away' });
});

test('one who has his answer has not gone away, and whoever stopped listening is told nothing', () => {
  const raw = new Raw();
  const caller = new GoneCaller(replyOf(raw));
  let told = 0;
  const listener = { handleEvent: () => (told += 1) };
  caller.addEventListener('abort', listener);
  caller.removeEventListener('abort', listener);
  raw.writableFinished = true;
  raw.close();
  expect([caller.aborted, told]).toEqual([false, 0]);
});

test('one who has gone before anybody looks is gone', () => {
  const raw = new Raw();
  raw.close();
  expect(new GoneCaller(replyOf(raw)).aborted).toBe(true);
  expect(goneSignal(replyOf(raw)).aborted).toBe(true);
});
