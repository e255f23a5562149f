import { connect } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import Fastify, { type FastifyInstance } from 'fastify';
import { EventStream, eventFrame, idFrame, sendEventStream } from '../../src/http/event-stream.ts';
import { goneSignal } from '../../src/http/gone-signal.ts';

let app: FastifyInstance;
afterEach(() => app.close());

async function serve(stream: (gone: AbortSignal) => EventStream, idleMs?: number): Promise<URL> {
  app = Fastify({ forceCloseConnections: true });
  app.get('/', (_request, reply) => sendEventStream(reply, stream(goneSignal(reply)), idleMs));
  return new URL(await app.listen({ host: '127.0.0.1', port: 0 }));
}

async function* framesOf(...frames: string[]): AsyncGenerator<string> {
  for (const frame of frames) yield await Promise.resolve(frame);
}

test('each event is one block with its id and one line of data, whatever characters it holds', async () => {
  const data = { body: 'a\nb\r\n\u2028\u0000' };
  const url = await serve(() => new EventStream(framesOf(eventFrame(7, data), idFrame(9)), () => undefined));
  const response = await fetch(url);
  expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
  const [retry, event, id, rest] = (await response.text()).split('\n\n');
  expect(retry).toMatch(/^retry: \d+$/);
  expect(event).toMatch(/^id: 7\ndata: [^\r\n]*$/);
  expect(JSON.parse((event ?? '').slice('id: 7\ndata: '.length))).toEqual(data);
  expect([id, rest]).toEqual(['id: 9', '']);
});

test('a reader who takes nothing is cut, and was read ahead for no further than a buffer', async () => {
  let read = 0;
  async function* endless(gone: AbortSignal): AsyncGenerator<string> {
    for (; !gone.aborted; read += 1) yield await Promise.resolve(eventFrame(read, 'x'.repeat(100_000)));
  }
  let cut: () => void = () => undefined;
  const isCut = new Promise<void>((resolve) => (cut = resolve));
  const ended = new Promise<void>((resolve) => {
    void serve((gone) => {
      gone.addEventListener('abort', () => resolve());
      return new EventStream(endless(gone), () => cut());
    }, 200).then((url) => {
      const socket = connect(Number(url.port), url.hostname);
      socket.on('error', () => undefined);
      socket.write('GET / HTTP/1.1\r\nhost: here\r\n\r\n');
      socket.pause();
    });
  });
  await isCut;
  await ended;
  // What the kernel takes on both sides of a connection, a few MB, and no more.
  expect(read).toBeLessThan(200);
});
