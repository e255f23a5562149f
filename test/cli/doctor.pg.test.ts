import { randomBytes } from 'node:crypto';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, inject, onTestFinished, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { checkNode } from '../../src/cli/doctor/machine.ts';
import { type Finding } from '../../src/cli/doctor/finding.ts';
import { ensureCertificateFiles } from '../../src/launch/certificates.ts';
import { startChild } from '../../src/launch/child.ts';
import { type TestDatabase, createTestDatabase } from '../support/postgres.ts';
import { PERMISSION_DENIED, startTemporalGateway } from '../support/temporal-gateway.ts';
import { type Ran, runCli } from './run-cli.ts';

const BINARY = fileURLToPath(new URL('../../bin/rejoinder.js', import.meta.url));

let folder: string;
let database: TestDatabase;
let env: Record<string, string>;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'rejoinder-doctor-'));
  database = await createTestDatabase('empty');
  env = {
    PATH: process.env['PATH'] ?? '',
    HOME: folder,
    DATABASE_URL: database.url,
    TEMPORAL_ADDRESS: inject('temporalAddress'),
    TEMPORAL_NAMESPACE: inject('temporalNamespace'),
    REJOINDER_SERVER_NAME: 'rejoinder.test',
    REJOINDER_LISTENERS_FEDERATION_PORT: '0',
    REJOINDER_LISTENERS_CLIENT_PORT: '0',
    REJOINDER_LISTENERS_OPERATOR_PORT: '0',
  };
});
afterEach(async () => {
  await database.drop();
  rmSync(folder, { recursive: true });
});

const run = (args: readonly string[]): Promise<Ran> => runCli(args, { cwd: folder, env });

async function findings(): Promise<Record<string, Finding>> {
  const { stdout } = await run(['doctor', '--json']);
  return Object.fromEntries((JSON.parse(stdout) as Finding[]).map((finding) => [finding.subject, finding]));
}

describe('migrate and doctor', () => {
  test('a new database lacks migrations until migrate has run, which is safe to repeat', async () => {
    const { code, stdout, stderr } = await run(['doctor']);
    expect(code).toBe(1);
    expect(stdout).toMatch(/bad +PostgreSQL +.*the database lacks \d+ of \d+ migration\(s\): run `rejoinder migrate`/);
    expect(stderr).toMatch(/^error: 1 of \d+ checks/);

    const first = await run(['migrate']);
    expect(first).toMatchObject({ code: 0, stderr: '' });
    expect(first.stdout).toMatch(/database: \d+ migration\(s\) applied\ntemporal: search attributes registered/);
    expect((await run(['migrate'])).stdout).toContain('database: up to date');

    const after = await run(['doctor']);
    expect(after.code).toBe(0);
    expect(after.stdout).toMatch(/ok +PostgreSQL +\d.* migrated/);
    expect(after.stdout).toMatch(/ok +Temporal +at .* search attributes registered/);
    expect(after.stdout).toMatch(/Nothing keeps Rejoinder from working/);
  });

  test('migrate names what it needs', async () => {
    delete env['DATABASE_URL'];
    const { code, stderr } = await run(['migrate']);
    expect(code).toBe(2);
    expect(stderr).toMatch(/database.url: expected the URL of a PostgreSQL database \(or REJOINDER_DATABASE_URL\)/);
  });

  test('servers that do not answer are named, without passwords', async () => {
    env['DATABASE_URL'] = 'postgres://me:hunter2@127.0.0.1:1/x';
    env['TEMPORAL_ADDRESS'] = '127.0.0.1:1';
    const { PostgreSQL, Temporal } = await findings();
    expect(PostgreSQL).toMatchObject({ verdict: 'bad', found: expect.stringContaining('ECONNREFUSED') });
    expect(PostgreSQL?.found).not.toContain('hunter2');
    expect(Temporal).toMatchObject({ verdict: 'bad', remedy: expect.stringContaining('TEMPORAL_ADDRESS') });
  });

  test('a namespace that is not there is named', async () => {
    env['TEMPORAL_NAMESPACE'] = 'nowhere';
    expect((await findings())['Temporal']).toMatchObject({ verdict: 'bad', found: expect.stringContaining('nowhere') });
  });

  test('migrate makes the namespace that is missing, once', async () => {
    env['TEMPORAL_NAMESPACE'] = `made-${randomBytes(6).toString('hex')}`;
    const first = await run(['migrate']);
    expect(first).toMatchObject({ code: 0, stderr: '' });
    expect(first.stdout).toContain(`namespace ${env['TEMPORAL_NAMESPACE']} made`);
    expect((await run(['migrate'])).stdout).not.toMatch(/ made$/m);
    expect((await findings())['Temporal']).toMatchObject({ verdict: 'ok' });
  });

  test('a service that lets nobody make namespaces or look at search attributes stops nothing, and what to do by hand is told', async () => {
    const gateway = await startTemporalGateway(inject('temporalAddress'), {
      refuse: (path) => (/OperatorService|RegisterNamespace/.test(path) ? PERMISSION_DENIED : undefined),
    });
    onTestFinished(() => gateway.close());
    const caPath = join(folder, 'authority.pem');
    writeFileSync(caPath, gateway.authority.certificatePem);
    Object.assign(env, { TEMPORAL_ADDRESS: gateway.address, REJOINDER_TEMPORAL_TLS_CA_PATH: caPath });

    const migrated = await run(['migrate']);
    expect(migrated).toMatchObject({ code: 0, stderr: '' });
    expect(migrated.stdout).toMatch(/make them by hand.* --name RejoinderRoom --type Keyword /);
    expect((await findings())['Temporal']).toMatchObject({
      verdict: 'note',
      remedy: expect.stringContaining('--name RejoinderPhase --type Keyword'),
    });
    const logFile = join(folder, 'worker.log');
    const log = (): string => readFileSync(logFile, 'utf8');
    const worker = await startChild({
      name: 'rejoinder worker',
      command: process.execPath,
      args: [BINARY, 'worker'],
      env: { ...env, REJOINDER_TEMPORAL_TASK_QUEUE: `doctor-${randomBytes(6).toString('hex')}` },
      logFile,
      stopSignal: 'TERM',
      cwd: folder,
    });
    onTestFinished(() => worker.stop());
    await worker.waitUntil(() => Promise.resolve(log().includes('"msg":"working"')), 30_000);
    await worker.stop();
    expect(await worker.ended).toBe('exited with 0');
    expect(log()).toContain('does not let us look at search attributes');

    env['TEMPORAL_NAMESPACE'] = 'nowhere';
    const missing = await run(['migrate']);
    expect(missing.code).toBe(1);
    expect(missing.stderr).toMatch(/there is no namespace nowhere, and the server does not let us make it/);
    expect(missing.stderr).toContain('temporal operator namespace create --retention 3d --namespace nowhere');
    expect((await run(['worker'])).stderr).toContain('there is no namespace nowhere; "rejoinder migrate" makes it');
  });

  test('a wrong configuration is told line by line', async () => {
    env['REJOINDER_LOG_LEVEL'] = 'loud';
    const { code, stdout } = await run(['doctor']);
    expect(code).toBe(1);
    expect(stdout).toMatch(/bad +configuration +environment variable REJOINDER_LOG_LEVEL: log.level: expected one of/);
  });

  test('a signing key that others may read, or that is none, is refused', async () => {
    env['REJOINDER_SIGNING_KEY_PATH'] = join(folder, 'key');
    writeFileSync(join(folder, 'key'), 'ed25519 a_x nonsense\n', { mode: 0o600 });
    expect((await findings())['signing key']).toMatchObject({
      verdict: 'bad',
      remedy: expect.stringContaining('seed'),
    });
    chmodSync(join(folder, 'key'), 0o644);
    expect((await findings())['signing key']).toMatchObject({
      verdict: 'bad',
      found: expect.stringContaining('chmod 600'),
    });
  });

  test('a certificate is held against the server name and its key', async () => {
    const files = await ensureCertificateFiles(join(folder, 'tls'), ['rejoinder.test'], systemClock);
    env['REJOINDER_LISTENERS_FEDERATION_TLS_CERTIFICATE_PATH'] = files.certificateFile;
    env['REJOINDER_LISTENERS_FEDERATION_TLS_PRIVATE_KEY_PATH'] = files.keyFile;
    expect((await findings())['TLS certificate']).toMatchObject({ verdict: 'ok' });

    env['REJOINDER_SERVER_NAME'] = 'other.test';
    expect((await findings())['TLS certificate']).toMatchObject({
      found: expect.stringContaining('is not for other.test'),
    });

    const others = await ensureCertificateFiles(join(folder, 'others'), ['rejoinder.test'], systemClock);
    env['REJOINDER_LISTENERS_FEDERATION_TLS_PRIVATE_KEY_PATH'] = others.keyFile;
    expect((await findings())['TLS certificate']).toMatchObject({
      verdict: 'bad',
      found: expect.stringContaining('is not the key of'),
    });
  });

  test('listeners for metrics are looked at where they are configured', async () => {
    const names = async (): Promise<string[]> =>
      Object.keys(await findings()).filter((name) => name.includes('metrics'));
    expect(await names()).toEqual([]);
    env['REJOINDER_LISTENERS_WORKER_METRICS_PORT'] = '0';
    env['REJOINDER_LISTENERS_METRICS_PORT'] = '0';
    expect(await names()).toEqual(['metrics listener', 'worker_metrics listener']);
  });

  test('a port in use is named with its listener', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as { port: number };
    env['REJOINDER_LISTENERS_OPERATOR_PORT'] = String(port);
    const found = (await findings())['operator listener'];
    other.close();
    expect(found).toMatchObject({
      found: `127.0.0.1:${port} is in use`,
      remedy: expect.stringContaining('listeners.operator.port'),
    });
  });
});

test('a Node.js that is too old is named with the one that is needed', () => {
  expect(checkNode('20.18.3')).toMatchObject({ verdict: 'bad', remedy: expect.stringContaining('20.19') });
  expect([checkNode('20.19.0'), checkNode('24.1.0')].map(({ verdict }) => verdict)).toEqual(['ok', 'ok']);
});
