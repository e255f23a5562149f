import { type FastifyInstance } from 'fastify';
import { request } from 'undici';
import { pino } from 'pino';
import { expect, onTestFinished, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { createClientServer } from '../../src/client-api/server.ts';
import { ClientRequest } from '../../src/client-api/client-request.ts';
import { bareOptions } from './client.ts';

interface Running {
  readonly app: FastifyInstance;
  readonly url: string;
  readonly log: string[];
}

async function start(
  over: Partial<Parameters<typeof createClientServer>[0]> = {},
  prepare: (app: FastifyInstance) => void = () => undefined,
): Promise<Running> {
  const log: string[] = [];
  const logger = pino({ level: 'trace' }, { write: (line: string) => void log.push(line) });
  const app = createClientServer({ ...bareOptions(systemClock), logger, ...over });
  prepare(app);
  onTestFinished(() => app.close());
  return { app, url: await app.listen({ host: '127.0.0.1', port: 0 }), log };
}

test('tells which versions of the specification it speaks', async () => {
  const { url } = await start();
  const response = await fetch(`${url}/_matrix/client/versions`);
  expect(response.status).toBe(200);
  const { versions } = (await response.json()) as { versions: string[] };
  expect(versions).toEqual(expect.arrayContaining(['r0.6.1', 'v1.1', 'v1.10']));
});

test('tells where clients reach it, if somebody has said so', async () => {
  const { url } = await start({ publicBaseUrl: 'https://matrix.example.org' });
  const response = await fetch(`${url}/.well-known/matrix/client`);
  expect(await response.json()).toEqual({ 'm.homeserver': { base_url: 'https://matrix.example.org' } });
  const silent = await start();
  const nothing = await fetch(`${silent.url}/.well-known/matrix/client`);
  expect(nothing.status).toBe(404);
  expect(await nothing.json()).toMatchObject({ errcode: 'M_NOT_FOUND' });
});

test.each(['/_matrix/client/versions', '/_matrix/client/v3/account/whoami', '/_matrix/client/v3/no/such/thing'])(
  'a web page of any origin is told before it asks that it may ask for %s',
  async (path) => {
    const { url } = await start();
    const { statusCode, headers } = await request(`${url}${path}`, {
      method: 'OPTIONS',
      headers: { origin: 'https://app.example.com', 'access-control-request-method': 'PUT' },
    });
    expect(statusCode).toBe(204);
    expect(headers['access-control-allow-origin']).toBe('*');
    expect(headers['access-control-allow-methods']).toContain('DELETE');
    expect(headers['access-control-allow-headers']).toBe('X-Requested-With, Content-Type, Authorization');
  },
);

test('an answer may be read by a web page of any origin, a refusal too', async () => {
  const { url } = await start();
  for (const path of ['/_matrix/client/versions', '/nothing', '/_matrix/client/v3/%ZZ']) {
    const response = await fetch(`${url}${path}`);
    expect([path, response.headers.get('access-control-allow-origin')]).toEqual([path, '*']);
  }
});

test('what is not there is unrecognized, and so is another method of what is there', async () => {
  const { url } = await start();
  const unknown = await fetch(`${url}/_matrix/client/v3/no/such/thing`);
  expect(unknown.status).toBe(404);
  expect(await unknown.json()).toMatchObject({ errcode: 'M_UNRECOGNIZED' });
  const otherMethod = await fetch(`${url}/_matrix/client/versions`, { method: 'DELETE' });
  expect(otherMethod.status).toBe(405);
  expect(await otherMethod.json()).toMatchObject({ errcode: 'M_UNRECOGNIZED' });
});

test('a body of a megabyte and more is refused', async () => {
  const { url } = await start();
  const response = await fetch(`${url}/_matrix/client/versions`, {
    method: 'PUT',
    body: Buffer.alloc(1024 * 1024 + 1),
  });
  expect(response.status).toBe(405);
  const posted = await start({}, (app) => app.post('/test', () => ({})));
  const refused = await fetch(`${posted.url}/test`, { method: 'POST', body: Buffer.alloc(1024 * 1024 + 1, ' ') });
  expect(refused.status).toBe(413);
  expect(await refused.json()).toMatchObject({ errcode: 'M_TOO_LARGE' });
});

test('nothing of a query is logged, where old clients put their tokens', async () => {
  const { url, log } = await start({}, (app) => {
    app.get('/fails', () => {
      throw new Error('for the test');
    });
  });
  expect((await fetch(`${url}/fails?access_token=secret`)).status).toBe(500);
  expect(log.join('')).toContain('for the test');
  expect(log.join('')).not.toContain('secret');
});

const addressSeen = async (isBehindProxy: boolean, forwarded: string | undefined): Promise<unknown> => {
  const { url } = await start({ isBehindProxy }, (app) =>
    app.get('/address', (asked, reply) => ({ address: new ClientRequest(asked, reply).address })),
  );
  const headers: Record<string, string> = forwarded === undefined ? {} : { 'x-forwarded-for': forwarded };
  return ((await (await fetch(`${url}/address`, { headers })).json()) as { address: unknown }).address;
};

test('behind a proxy who asks is whom the proxy names, and not whom the asker names', async () => {
  expect(await addressSeen(true, '203.0.113.1, 198.51.100.7')).toBe('198.51.100.7');
  expect(await addressSeen(true, undefined)).toBe('127.0.0.1');
  expect(await addressSeen(false, '198.51.100.7')).toBe('127.0.0.1');
});
