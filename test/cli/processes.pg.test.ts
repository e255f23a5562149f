import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Connection } from '@temporalio/client';
import { afterEach, beforeEach, describe, expect, inject, test } from 'vitest';
import { freePort } from '../../src/launch/ports.ts';
import { type TestDatabase, createTestDatabase } from '../support/postgres.ts';
import { type Ran, type RunOptions, runCli } from './run-cli.ts';

const NO_TEMPORAL = '127.0.0.1:1';
const TOKEN = 'a-token-for-this-test';

let folder: string;
let database: TestDatabase;
let operatorPort: number;
let env: Record<string, string>;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'rejoinder-cli-'));
  database = await createTestDatabase();
  operatorPort = await freePort();
  env = {
    PATH: process.env['PATH'] ?? '',
    HOME: folder,
    DATABASE_URL: database.url,
    TEMPORAL_ADDRESS: inject('temporalAddress'),
    TEMPORAL_NAMESPACE: inject('temporalNamespace'),
    REJOINDER_TEMPORAL_TASK_QUEUE: `cli-${randomBytes(6).toString('hex')}`,
    REJOINDER_SERVER_NAME: 'rejoinder.test',
    REJOINDER_LISTENERS_FEDERATION_HOST: '127.0.0.1',
    REJOINDER_LISTENERS_FEDERATION_PORT: '0',
    REJOINDER_LISTENERS_CLIENT_PORT: '0',
    REJOINDER_LISTENERS_OPERATOR_PORT: String(operatorPort),
    REJOINDER_OPERATOR_TOKEN: TOKEN,
    REJOINDER_LOG_LEVEL: 'silent',
  };
});
afterEach(async () => {
  await database.drop();
  rmSync(folder, { recursive: true });
});

const run = (args: readonly string[], options: Partial<RunOptions> = {}) =>
  runCli(args, { cwd: folder, env, ...options });

const ask = (path: string): Promise<number> =>
  fetch(`http://127.0.0.1:${operatorPort}${path}`, { headers: { authorization: `Bearer ${TOKEN}` } }).then(
    ({ status }) => status,
    () => 0,
  );

async function untilListening(): Promise<void> {
  while ((await ask('/health')) !== 200) await new Promise((resolve) => setTimeout(resolve, 25));
}

/** Something that holds a port. */
async function occupy(port: number): Promise<() => Promise<void>> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', () => resolve()));
  return () => new Promise((resolve) => server.close(() => resolve()));
}

/** A namespace apart, without search attributes: the schedule of the sweep has one name in each. */
async function createNamespace(): Promise<string> {
  const namespace = `cli-${randomBytes(6).toString('hex')}`;
  const connection = await Connection.connect({ address: inject('temporalAddress') });
  const isKnown = (): Promise<boolean> =>
    connection.operatorService.listSearchAttributes({ namespace }).then(
      () => true,
      () => false,
    );
  try {
    await connection.workflowService.registerNamespace({
      namespace,
      workflowExecutionRetentionPeriod: { seconds: 86_400 as never },
    });
    // The server's other parts hear of a new namespace a moment later.
    while (!(await isKnown())) await new Promise((resolve) => setTimeout(resolve, 50));
    return namespace;
  } finally {
    await connection.close();
  }
}

describe('serve', () => {
  test('listens and reads rooms although no Temporal can be reached, and stops when it is asked to', async () => {
    env['TEMPORAL_ADDRESS'] = NO_TEMPORAL;
    const stop = new AbortController();
    const serving = run(['serve'], { stop: stop.signal });
    await untilListening();
    expect(await ask('/_rejoinder/v1/rooms')).toBe(200);
    stop.abort();
    expect(await serving).toMatchObject({ code: 0, stderr: '' });
    expect(await ask('/health')).toBe(0);
  });

  test('tells Prometheus what it has done, on a port of its own and without a token', async () => {
    const metricsPort = await freePort();
    env['REJOINDER_LISTENERS_METRICS_PORT'] = String(metricsPort);
    env['TEMPORAL_ADDRESS'] = NO_TEMPORAL;
    const stop = new AbortController();
    const serving = run(['serve'], { stop: stop.signal });
    await untilListening();
    const scraped = await fetch(`http://127.0.0.1:${metricsPort}/metrics`);
    expect(scraped.headers.get('content-type')).toMatch(/^text\/plain; version=/);
    const text = await scraped.text();
    expect(text).toMatch(/^rejoinder_info\{version="[^"]+",role="serve"\} 1$/m);
    expect(text).toMatch(/^rejoinder_partial_rooms\{phase="fetching"\} 0$/m);
    expect(text).toMatch(/^process_cpu_seconds_total /m);
    expect(await ask('/metrics')).toBe(404);
    stop.abort();
    expect(await serving).toMatchObject({ code: 0, stderr: '' });
    await expect(fetch(`http://127.0.0.1:${metricsPort}/health`)).rejects.toThrow();
  });

  test('names the listener whose port is occupied, its address and what to do', async () => {
    const release = await occupy(operatorPort);
    const { code, stderr } = await run(['serve']);
    await release();
    expect(code).toBe(1);
    expect(stderr).toContain(`the operator listener cannot be opened at 127.0.0.1:${operatorPort}`);
    expect(stderr).toContain('change listeners.operator.port');
  });

  test('does not start without the metrics that are configured', async () => {
    const metricsPort = await freePort();
    env['REJOINDER_LISTENERS_METRICS_PORT'] = String(metricsPort);
    const release = await occupy(metricsPort);
    const { code, stderr } = await run(['serve']);
    await release();
    expect(code).toBe(1);
    expect(stderr).toContain(`the metrics listener cannot be opened at 127.0.0.1:${metricsPort}`);
    expect(stderr).toContain('change listeners.metrics.port');
  });

  test('says what is wrong with the database', async () => {
    env['DATABASE_URL'] = 'postgres://me:hunter2@127.0.0.1:1/x';
    const { code, stderr } = await run(['serve']);
    expect(code).toBe(1);
    expect(stderr).toMatch(/the database cannot be used: .*ECONNREFUSED/);
    expect(stderr).not.toContain('hunter2');
  });
});

describe('worker', () => {
  test('does not start where no Temporal answers', async () => {
    env['TEMPORAL_ADDRESS'] = NO_TEMPORAL;
    const { code, stderr } = await run(['worker']);
    expect(code).toBe(1);
    expect(stderr).toContain(`no Temporal server answers at ${NO_TEMPORAL}`);
  });

  test('does not start in a namespace without the search attributes, and says who registers them', async () => {
    env['TEMPORAL_NAMESPACE'] = await createNamespace();
    const { code, stderr } = await run(['worker']);
    expect(code).toBe(1);
    expect(stderr).toContain('lacks the search attributes RejoinderRoom, RejoinderPhase, RejoinderResident');
    expect(stderr).toContain('rejoinder migrate');
  });
});

describe('up', () => {
  const self = [process.execPath, fileURLToPath(new URL('../../bin/rejoinder.js', import.meta.url))];

  test('runs a server and a worker over what is configured, prints where they are, and ends both', async () => {
    env['TEMPORAL_NAMESPACE'] = await createNamespace();
    env['REJOINDER_LISTENERS_METRICS_PORT'] = '0';
    env['REJOINDER_LISTENERS_WORKER_METRICS_PORT'] = '0';
    const stop = new AbortController();
    const lines: string[] = [];
    let running: Promise<Ran> | undefined;
    await new Promise<void>((resolve, reject) => {
      const onLine = (line: string): void => {
        lines.push(line);
        if (line.startsWith('Join a room:')) resolve();
      };
      running = run(['up'], { self, stop: stop.signal, onLine });
      void running.then(({ stderr }) => reject(new Error(stderr)));
    });
    expect(lines.join('\n')).toContain(`http://127.0.0.1:${operatorPort}/_rejoinder/v1`);
    expect(await ask('/_rejoinder/v1/rooms')).toBe(200);
    const told: (readonly [string | undefined, boolean])[] = [];
    for (const [url] of lines.join('\n').matchAll(/http:\S+\/metrics/g)) {
      const text = await (await fetch(url)).text();
      told.push([/role="(\w+)"/.exec(text)?.[1], /^temporal_worker_task_slots_available\{/m.test(text)]);
    }
    // The worker's with those of the core of Temporal's SDK.
    expect(told).toEqual([
      ['serve', false],
      ['worker', true],
    ]);
    stop.abort();
    expect(await running).toMatchObject({ code: 0 });
    expect(await ask('/health')).toBe(0);
  });

  test('refuses one port for the metrics of server and worker, which it runs on one machine', async () => {
    env['REJOINDER_LISTENERS_METRICS_PORT'] = '9464';
    env['REJOINDER_LISTENERS_WORKER_METRICS_PORT'] = '9464';
    const { code, stdout, stderr } = await run(['up'], { self });
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain('listeners.metrics and listeners.worker_metrics have the same port, 9464');
    expect(stderr).toContain('change listeners.worker_metrics.port');
  });

  test('starts nothing where a listener cannot be opened', async () => {
    const release = await occupy(operatorPort);
    const { code, stdout, stderr } = await run(['up'], { self });
    await release();
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toContain(`the operator listener cannot be opened at 127.0.0.1:${operatorPort}`);
  });
});
