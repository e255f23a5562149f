import { Readable } from 'node:stream';
import { type FastifyInstance } from 'fastify';
import { pino } from 'pino';
import { expect, onTestFinished, test } from 'vitest';
import { type Translate, createAnswerError } from '../../src/http/answer-error.ts';
import { createApp } from '../../src/http/create-app.ts';
import {
  type Endpoint,
  type OpenRequest,
  addEndpoints,
  openRequest,
  refuseOtherMethods,
} from '../../src/http/endpoint.ts';
import { MatrixError } from '../../src/http/matrix-error.ts';

type TestEndpoint = Endpoint<OpenRequest, { readonly name: string }>;

/** A listener that serves `answer` under `GET /things/:id`, with what it logged. */
function listenerOf(answer: TestEndpoint['answer'], translate?: Translate): { app: FastifyInstance; log: string[] } {
  const log: string[] = [];
  const logger = pino({ level: 'error' }, { write: (line: string) => void log.push(line) });
  const app = createApp({
    bodyBytesMax: 100,
    headersMs: 1000,
    requestMs: 1000,
    keepAliveMs: 1000,
    connectionsMax: 10,
    trustCaller: false,
    answerError: createAnswerError(logger, translate),
  });
  onTestFinished(() => app.close());
  const endpoints: TestEndpoint[] = [
    { method: 'GET', path: '/things/:id', answer },
    { method: 'PUT', path: '/things/:id', answer: () => ({}) },
  ];
  addEndpoints(app, endpoints, openRequest, { name: 'here' });
  refuseOtherMethods(app, endpoints);
  return { app, log };
}

const fail = (error: unknown): TestEndpoint['answer'] => {
  return () => {
    throw error;
  };
};

test('an endpoint is given the decoded parts of its path, and what its chapter is given', async () => {
  const { app } = listenerOf(({ params }, { name }) => ({ id: params['id'], name }));
  const response = await app.inject('/things/a%2Fb');
  expect(response.json()).toEqual({ id: 'a/b', name: 'here' });
  expect((await app.inject('/things/a%2Fb/')).statusCode).toBe(200);
});

test('a stream is sent as JSON', async () => {
  const { app } = listenerOf(() => Readable.from(['{"rows":', '[]}']));
  const response = await app.inject('/things/1');
  expect(response.headers['content-type']).toBe('application/json; charset=utf-8');
  expect(response.json()).toEqual({ rows: [] });
});

test('each method of a path has its endpoint, every other one is refused with 405, and another path with 404', async () => {
  const { app } = listenerOf(() => ({}));
  for (const method of ['GET', 'HEAD', 'PUT'] as const) {
    expect((await app.inject({ method, url: '/things/1' })).statusCode).toBe(200);
  }
  for (const method of ['POST', 'DELETE', 'PATCH', 'OPTIONS'] as const) {
    const response = await app.inject({ method, url: '/things/1' });
    expect(response.statusCode).toBe(405);
    expect(response.json()).toMatchObject({ errcode: 'M_UNRECOGNIZED' });
  }
  const unknown = await app.inject('/others/1');
  expect(unknown.statusCode).toBe(404);
  expect(unknown.json()).toMatchObject({ errcode: 'M_UNRECOGNIZED' });
});

test('a refusal is sent with its members and headers, and says when to come back', async () => {
  const details = { retry_after_ms: 1_500, progress: { step: 1 } };
  const { app } = listenerOf(fail(new MatrixError(429, 'M_LIMIT_EXCEEDED', 'too many', details, { 'x-why': 'so' })));
  const response = await app.inject('/things/1');
  expect(response.statusCode).toBe(429);
  expect(response.json()).toEqual({ errcode: 'M_LIMIT_EXCEEDED', error: 'too many', ...details });
  expect(response.headers).toMatchObject({ 'retry-after': '2', 'x-why': 'so' });
});

test('an error of a use case is told as its edge translates it', async () => {
  const translate: Translate = (error) =>
    error instanceof RangeError ? new MatrixError(404, 'M_NOT_FOUND', error.message) : undefined;
  const { app } = listenerOf(fail(new RangeError('no such thing')), translate);
  expect((await app.inject('/things/1')).json()).toEqual({ errcode: 'M_NOT_FOUND', error: 'no such thing' });
});

test('what nobody knows is logged, and told without a word about it', async () => {
  const { app, log } = listenerOf(fail(new Error('the database at 10.0.0.7 is gone')));
  const response = await app.inject('/things/1');
  expect(response.statusCode).toBe(500);
  expect(response.json()).toEqual({ errcode: 'M_UNKNOWN', error: 'internal server error' });
  expect(log.join('')).toContain('10.0.0.7');
});

test.each([
  [
    'a body that is too large',
    { 'content-type': 'application/json' },
    `{"a":"${'x'.repeat(200)}"}`,
    413,
    'M_TOO_LARGE',
  ],
  ['a body that is no JSON', { 'content-type': 'application/json' }, '{', 400, 'M_NOT_JSON'],
  ['an empty body', { 'content-type': 'application/json' }, '', 400, 'M_NOT_JSON'],
  ['a body of another type', { 'content-type': 'text/xml' }, '<a/>', 415, 'M_NOT_JSON'],
])('%s is refused as Matrix refuses', async (_what, headers, payload, status, errcode) => {
  const { app, log } = listenerOf(() => ({}));
  const response = await app.inject({ method: 'PUT', url: '/things/1', headers, payload });
  expect(response.statusCode).toBe(status);
  expect(response.json()).toMatchObject({ errcode });
  expect(log).toEqual([]);
});

test.each([
  ['that is badly encoded', '/things/%ZZ'],
  ['with a part that is too long', `/things/${'x'.repeat(800)}`],
])('a path %s is refused', async (_what, url) => {
  const { app } = listenerOf(() => ({}));
  const response = await app.inject(url);
  expect(response.statusCode).toBe(400);
  expect(response.json()).toMatchObject({ errcode: 'M_INVALID_PARAM' });
});
