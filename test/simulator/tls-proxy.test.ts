import { once } from 'node:events';
import { type Server, createServer, get } from 'node:https';
import { type AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { createCertificateAuthority } from '../../src/launch/certificates.ts';
import { type FaultProxy, startFaultProxy } from '../../src/simulator/tls-proxy.ts';

const BODY = JSON.stringify({ pdus: Array.from({ length: 2_000 }, (_, index) => ({ index })) });

let authorityPem: string;
let upstream: Server;
let upstreamRequests = 0;
let proxy: FaultProxy;

beforeAll(async () => {
  const authority = await createCertificateAuthority(systemClock);
  authorityPem = authority.certificatePem;
  const { certificatePem, keyPem } = await authority.issue([]);
  upstream = createServer({ cert: certificatePem, key: keyPem }, (request, response) => {
    upstreamRequests += 1;
    request
      .on('data', () => undefined)
      .on('end', () => {
        response.writeHead(200, { 'content-type': 'application/json' }).end(BODY);
      });
  });
  upstream.listen(0, '127.0.0.1');
  await once(upstream, 'listening');
  const { port } = upstream.address() as AddressInfo;
  proxy = await startFaultProxy({ certificatePem, keyPem, upstream: { port, authorityPem } });
});
afterEach(() => {
  proxy.clear();
  proxy.resetCounts();
});
afterAll(async () => {
  await proxy.stop();
  upstream.close();
  upstream.closeAllConnections();
});

interface Answer {
  status: number;
  body: string;
  /** Whether the body ended as HTTP wants it. */
  complete: boolean;
}

/** Asks through the proxy; `bytesMax` goes away after so many bytes. */
async function ask(path: string, bytesMax = Infinity): Promise<Answer> {
  return new Promise((resolve) => {
    const request = get({ host: '127.0.0.1', port: proxy.port, path, ca: authorityPem, agent: false }, (response) => {
      let body = '';
      const done = (): void => {
        request.destroy();
        resolve({ status: response.statusCode!, body, complete: response.complete });
      };
      response.setEncoding('latin1').on('error', () => undefined);
      response.on('data', (text: string) => {
        body += text;
        if (body.length > bytesMax) done();
      });
      response.once('close', done);
    });
    request.on('error', () => resolve({ status: 0, body: '', complete: false }));
  });
}

const STATE = '/_matrix/federation/v1/state/!room?event_id=$e';

test('without faults answers pass as they are, counted by endpoint', async () => {
  expect(await ask(STATE)).toEqual({ status: 200, body: BODY, complete: true });
  await ask('/_matrix/federation/v1/state/!other');
  await ask('/_matrix/key/v2/server');
  expect([...proxy.counts()]).toEqual([
    ['GET /_matrix/federation/v1/state', { requests: 2, bodyBytes: 2 * BODY.length }],
    ['GET /_matrix/key/v2/server', { requests: 1, bodyBytes: BODY.length }],
  ]);
});

test('a fault strikes the requests that match, as often as it is told to', async () => {
  const fault = proxy.inject({
    match: /^GET .*\/state\//,
    times: 1,
    fault: { kind: 'status', status: 503, body: '{}' },
  });
  const before = upstreamRequests;
  expect((await ask('/_matrix/key/v2/server')).status).toBe(200);
  expect(await ask(STATE)).toEqual({ status: 503, body: '{}', complete: true });
  expect(upstreamRequests - before).toBe(1);
  expect((await ask(STATE)).status).toBe(200);
  expect(fault.hits()).toBe(1);
});

test('latency delays an answer', async () => {
  proxy.inject({ match: /state/, fault: { kind: 'latency', ms: 80 } });
  const start = performance.now();
  expect((await ask(STATE)).body).toBe(BODY);
  expect(performance.now() - start).toBeGreaterThan(75);
});

test('bandwidth makes a body take its time', async () => {
  proxy.inject({ match: /state/, fault: { kind: 'bandwidth', bytesPerSecond: BODY.length * 10 } });
  const start = performance.now();
  expect((await ask(STATE)).body).toBe(BODY);
  expect(performance.now() - start).toBeGreaterThan(95);
});

test('a hang-up passes the bytes before it and then breaks the connection', async () => {
  proxy.inject({ match: /state/, fault: { kind: 'hang-up', afterBytes: 1_000 } });
  expect(await ask(STATE)).toEqual({ status: 200, body: BODY.slice(0, 1_000), complete: false });
});

test('a truncated body ends as if it were whole', async () => {
  proxy.inject({ match: /state/, fault: { kind: 'truncate', afterBytes: 1_000 } });
  expect(await ask(STATE)).toEqual({ status: 200, body: BODY.slice(0, 1_000), complete: true });
});

test('an endless body goes on until the client goes away', async () => {
  proxy.inject({ match: /state/, fault: { kind: 'endless', prefix: '{"pdus":[', filler: '{},' } });
  const { body, complete } = await ask(STATE, 5_000_000);
  expect(body.startsWith('{"pdus":[{},{},')).toBe(true);
  expect(body.length).toBeGreaterThan(5_000_000);
  expect(complete).toBe(false);
});

test('rubbish is not JSON', async () => {
  proxy.inject({ match: /state/, fault: { kind: 'rubbish', bytes: 500 } });
  const { body } = await ask(STATE);
  expect(body.length).toBe(500);
  expect(() => JSON.parse(body) as unknown).toThrow();
});

test('a body can be rewritten as JSON, and faults compose', async () => {
  const drop = (body: unknown): unknown => ({ pdus: (body as { pdus: unknown[] }).pdus.slice(0, 1) });
  proxy.inject({ match: /state/, fault: { kind: 'rewrite', rewrite: drop } });
  expect((await ask(STATE)).body).toBe('{"pdus":[{"index":0}]}');
  proxy.inject({ match: /state/, fault: { kind: 'truncate', afterBytes: 4 } });
  expect((await ask(STATE)).body).toBe('{"pd');
});

test('a held body stops at its byte until it is released', async () => {
  const fault = proxy.inject({ match: /state/, fault: { kind: 'hold', afterBytes: 100 } });
  const answer = ask(STATE);
  await fault.held;
  expect(proxy.counts().get('GET /_matrix/federation/v1/state')?.bodyBytes).toBe(100);
  fault.release();
  expect((await answer).body).toBe(BODY);
});

test('a client that goes away from a held body leaves nothing behind', async () => {
  const fault = proxy.inject({ match: /state/, fault: { kind: 'hold', afterBytes: 100 } });
  expect((await ask(STATE, 99)).body.length).toBe(100);
  await fault.held;
  fault.remove();
  expect((await ask(STATE)).body).toBe(BODY);
});
