import { once } from 'node:events';
import { type IncomingHttpHeaders, createServer } from 'node:http';
import { type AddressInfo } from 'node:net';
import { type Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { trace } from '@opentelemetry/api';
import { InMemorySpanExporter, type ReadableSpan, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base';
import pg from 'pg';
import copyStreams from 'pg-copy-streams';
import { request } from 'undici';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createLogger } from '../src/logging.ts';
import { type Telemetry, startTelemetry } from '../src/telemetry.ts';
import { type OperatorPorts } from '../src/operator/ports.ts';
import { type TestDatabase, createTestDatabase } from './support/postgres.ts';
import { ALIAS, type RunningServer, TOKEN, ask, portsOfTest, post, startServer } from './operator/rooms-of-test.ts';

const logger = createLogger({ level: 'silent' });
const CALLER = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';

let database: TestDatabase;
let telemetry: Telemetry;
let exporter: InMemorySpanExporter;

beforeAll(async () => {
  database = await createTestDatabase('empty');
});
afterAll(() => database.drop());
beforeEach(() => {
  exporter = new InMemorySpanExporter();
  telemetry = startTelemetry({
    otlpEndpoint: null,
    role: 'test',
    logger,
    spanProcessor: new SimpleSpanProcessor(exporter),
  });
});
afterEach(() => telemetry.shutdown());

/** A homeserver that answers anything with `{}`, and remembers what it was sent. */
async function startHomeserver(): Promise<{ url: string; headers: IncomingHttpHeaders[]; close(): Promise<void> }> {
  const headers: IncomingHttpHeaders[] = [];
  const server = createServer((incoming, response) => {
    headers.push(incoming.headers);
    response.end('{}');
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    headers,
    close: async () => {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}

/** The operator's server over a room whose join asks a homeserver and the database. */
async function serverThatWorks(homeserver: string): Promise<RunningServer> {
  const store = database.openStore();
  const ports = portsOfTest();
  const joinRoom: OperatorPorts['joinRoom'] = async (join) => {
    const { body } = await request(`${homeserver}/_matrix/federation/v1/state_ids/${encodeURIComponent('!r:hs1')}?x=1`);
    await body.dump();
    await store.query('SELECT $1::text AS secret', ['a value of the query']);
    logger.info('joined');
    return ports.joinRoom(join);
  };
  return startServer({ ...ports, joinRoom });
}

async function untilEnded(name: RegExp): Promise<readonly ReadableSpan[]> {
  // The span of a request ends with its connection's last byte, which the caller may see first.
  while (!exporter.getFinishedSpans().some((span) => name.test(span.name))) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  return exporter.getFinishedSpans();
}

describe('a trace', () => {
  test('goes from the operator request through federation requests to SQL, and into the log', async () => {
    const homeserver = await startHomeserver();
    const server = await serverThatWorks(homeserver.url);
    const { status } = await post(server, '/rooms/join', { room: ALIAS, user_id: 'alice' });
    expect(status).toBe(200);
    const spans = await untilEnded(/rooms\/join/);
    await server.close();
    await homeserver.close();

    const [inbound] = spans.filter((span) => span.name === 'POST /_rejoinder/v1/rooms/join');
    const children = spans.filter((span) => span.parentSpanContext?.spanId === inbound?.spanContext().spanId);
    expect(children.map((span) => span.name)).toEqual([
      'GET /_matrix/federation/v1/state_ids/{}',
      expect.stringMatching(/^pg.query:SELECT/),
    ]);
    const traceId = inbound?.spanContext().traceId;
    expect(new Set(spans.map((span) => span.spanContext().traceId))).toEqual(new Set([traceId]));
    expect(server.log.join('')).toContain(`"trace_id":"${traceId}"`);
    expect(inbound?.attributes['http.response.status_code']).toBe(200);
    expect(JSON.stringify(spans.map(({ attributes }) => attributes))).not.toContain('a value of the query');
  });

  test('stays here: another homeserver is told nothing of it', async () => {
    const homeserver = await startHomeserver();
    const server = await serverThatWorks(homeserver.url);
    await post(server, '/rooms/join', { room: ALIAS, user_id: 'alice' });
    await server.close();
    await homeserver.close();
    expect(homeserver.headers).toHaveLength(1);
    expect(homeserver.headers[0]).not.toHaveProperty('traceparent');
  });

  test('of an operator who brings his own is continued', async () => {
    const server = await startServer();
    await ask(server, '/rooms', { headers: { traceparent: CALLER } });
    const spans = await untilEnded(/rooms$/);
    await server.close();
    expect(spans[0]?.spanContext().traceId).toBe('0af7651916cd43dd8448eb211c80319c');
  });

  test('holds no token that somebody put into a URL', async () => {
    const server = await startServer();
    await ask(server, `/rooms?access_token=${TOKEN}`);
    const spans = await untilEnded(/rooms$/);
    await server.close();
    expect(JSON.stringify(spans.map(({ name, attributes }) => [name, attributes]))).not.toContain(TOKEN);
  });

  test('does not disturb COPY', async () => {
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    await client.query('CREATE TEMPORARY TABLE numbers (n int)');
    await trace.getTracer('test').startActiveSpan('copying', async (span) => {
      await pipeline(['1\n', '2\n'], client.query(copyStreams.from('COPY numbers FROM STDIN')) as Writable);
      span.end();
    });
    const { rows } = await client.query<{ sum: string }>('SELECT sum(n) FROM numbers');
    await client.end();
    expect(rows).toEqual([{ sum: '3' }]);
  });
});

describe('without an exporter', () => {
  test('requests have trace ids for the log, and nothing is recorded', async () => {
    await telemetry.shutdown();
    telemetry = startTelemetry({ otlpEndpoint: null, role: 'test', logger });
    const server = await startServer();
    await ask(server, '/rooms');
    await server.close();
    expect(server.log.join('')).toMatch(/"trace_id":"[0-9a-f]{32}"/);
    expect(exporter.getFinishedSpans()).toEqual([]);
  });

  test('a collector that is not there does not disturb the work', async () => {
    await telemetry.shutdown();
    telemetry = startTelemetry({ otlpEndpoint: 'http://127.0.0.1:9', role: 'test', logger });
    const server = await startServer();
    expect((await ask(server, '/rooms')).status).toBe(200);
    await server.close();
  });
});
