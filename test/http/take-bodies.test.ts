import { request as httpRequest } from 'node:http';
import { type AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { pino } from 'pino';
import { expect, onTestFinished, test } from 'vitest';
import { createAnswerError } from '../../src/http/answer-error.ts';
import { createApp } from '../../src/http/create-app.ts';
import { takeBodies } from '../../src/http/take-bodies.ts';

const KIB = 1024;

/** A listener that holds each body until it is let go: of 100 KiB each, 400 KiB of all and 200 KiB of a sender. */
async function start() {
  const app = createApp({
    bodyBytesMax: 100 * KIB,
    headersMs: 10_000,
    requestMs: 10_000,
    keepAliveMs: 1000,
    connectionsMax: 100,
    trustCaller: false,
    answerError: createAnswerError(pino({ level: 'silent' })),
  });
  onTestFinished(() => app.close());
  const limits = { bytesMax: 100 * KIB, bytesOfAllMax: 400 * KIB, bytesOfSenderMax: 200 * KIB };
  takeBodies(app, limits, ({ headers }) => String(headers['x-sender']));
  let waiting: { readonly count: number; readonly reached: () => void }[] = [];
  const holds: (() => void)[] = [];
  app.put('/', async ({ body }) => {
    await new Promise<void>((resolve) => {
      holds.push(resolve);
      for (const { count, reached } of waiting) if (holds.length >= count) reached();
    });
    return { length: (body as Buffer).length };
  });
  await app.listen({ port: 0, host: '127.0.0.1' });
  const { port } = app.server.address() as AddressInfo;

  const send = (sender: string, pieces: readonly Buffer[], announced = {}) => {
    const headers = { 'x-sender': sender, 'content-type': 'text/x', ...announced };
    const sent = httpRequest({ port, method: 'PUT', path: '/', headers, agent: false });
    const answer = new Promise<{ status: number | undefined; body: unknown }>((resolve, reject) => {
      sent.on('error', reject);
      sent.on('response', (response) => {
        void text(response).then((body) => resolve({ status: response.statusCode, body: JSON.parse(body) as unknown }));
      });
    });
    answer.catch(() => undefined);
    for (const piece of pieces) sent.write(piece);
    sent.end();
    return { answer, leave: () => sent.destroy() };
  };
  return {
    put: (sender: string, bytes: number) => send(sender, [Buffer.alloc(bytes)]),
    putAnnounced: (sender: string, bytes: number) => send(sender, [Buffer.alloc(1)], { 'content-length': bytes }),
    putInPieces: (sender: string, bytes: number) => send(sender, Array<Buffer>(bytes).fill(Buffer.alloc(1))),
    /** Resolves when so many bodies are held. */
    held: (count: number) =>
      new Promise<void>((reached) => {
        if (holds.length >= count) reached();
        else waiting = [...waiting, { count, reached }];
      }),
    letGo: () => holds.splice(0).forEach((hold) => hold()),
  };
}

const limited = { status: 429, body: { errcode: 'M_LIMIT_EXCEEDED', retry_after_ms: 5000 } };

test('who sends more at a time than his share is told to come back, and others are not', async () => {
  const { put, held, letGo } = await start();
  const taken = [put('a', 100 * KIB), put('a', 100 * KIB)];
  await held(2);
  expect(await put('a', 100 * KIB).answer).toMatchObject(limited);
  const other = put('b', 100 * KIB);
  await held(3);
  letGo();
  for (const { answer } of [...taken, other]) {
    expect(await answer).toEqual({ status: 200, body: { length: 100 * KIB } });
  }
  const again = put('a', 100 * KIB);
  await held(1);
  letGo();
  expect((await again.answer).status).toBe(200);
});

test('all senders together hold no more than there is, and short bodies find a place all the same', async () => {
  const { put, held, letGo } = await start();
  const taken = ['a', 'a', 'b', 'b', 'c'].map((sender) => put(sender, 90 * KIB));
  await held(5);
  expect(await put('d', 90 * KIB).answer).toMatchObject(limited);
  const short = put('d', 8 * KIB);
  await held(6);
  letGo();
  for (const { answer } of [...taken, short]) expect((await answer).status).toBe(200);
});

test('a body counts as long as somebody works at it, though its sender has gone', async () => {
  const { put, held, letGo } = await start();
  const gone = [put('a', 100 * KIB), put('a', 100 * KIB)];
  await held(2);
  for (const { leave } of gone) leave();
  for (const { answer } of gone) await expect(answer).rejects.toThrow();
  expect(await put('a', 100 * KIB).answer).toMatchObject(limited);
  letGo();
  const again = put('a', 100 * KIB);
  await held(1);
  letGo();
  expect((await again.answer).status).toBe(200);
});

test('a body in pieces of a byte counts for what the pieces take', async () => {
  const { putInPieces } = await start();
  expect(await putInPieces('a', 4 * KIB).answer).toMatchObject(limited);
});

test('a body that is too long is refused, whether it says so or not', async () => {
  const { put, putAnnounced, putInPieces, held, letGo } = await start();
  for (const { answer } of [put('a', 101 * KIB), putAnnounced('a', 101 * KIB)]) {
    expect(await answer).toMatchObject({ status: 413, body: { errcode: 'M_TOO_LARGE' } });
  }
  const next = putInPieces('a', 10);
  await held(1);
  letGo();
  expect(await next.answer).toEqual({ status: 200, body: { length: 10 } });
});
