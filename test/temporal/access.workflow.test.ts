/** Client and worker as they meet a Temporal that somebody else runs: TLS, certificates, API keys, codecs, refusals. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, inject, onTestFinished, test } from 'vitest';
import { type Telemetry, startTelemetry } from '../../src/telemetry.ts';
import { connectTemporal } from '../../src/temporal/client.ts';
import { type TemporalTarget } from '../../src/temporal/connection.ts';
import { type Activities } from '../../src/temporal/contract.ts';
import { isUnauthenticated } from '../../src/temporal/namespace.ts';
import { SCHEDULED } from '../../src/temporal/names.ts';
import { installTemporalRuntime } from '../../src/temporal/runtime.ts';
import { startWorker } from '../../src/temporal/worker.ts';
import { silent } from '../federation/tls-server.ts';
import { connectTestTemporal } from '../support/temporal.ts';
import {
  type GatewayOptions,
  type TemporalGateway,
  UNAUTHENTICATED,
  startTemporalGateway,
} from '../support/temporal-gateway.ts';

const BUNDLE = fileURLToPath(new URL('../../dist/workflow-bundle.js', import.meta.url));

let folder: string;
let telemetry: Telemetry;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rejoinder-access-'));
  installTemporalRuntime(silent);
  telemetry = startTelemetry({ otlpEndpoint: null, role: 'test', logger: silent });
});
afterAll(async () => {
  await telemetry.shutdown();
  await rm(folder, { recursive: true, force: true });
});

let files = 0;
async function write(text: string, name = `file-${(files += 1)}`): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, text);
  return path;
}

async function gateway(options: GatewayOptions = {}): Promise<TemporalGateway> {
  const started = await startTemporalGateway(inject('temporalAddress'), options);
  onTestFinished(() => started.close());
  return started;
}

async function targetOf(address: string, more: Partial<TemporalTarget>): Promise<TemporalTarget> {
  const names = await connectTestTemporal();
  await names.close();
  const { namespace, taskQueue, workflowIdPrefix } = names;
  return { address, namespace, taskQueue, idPrefix: workflowIdPrefix, connectTimeoutMs: 5_000, ...more };
}

/** A pass of the sweep by a worker and a client that both reach Temporal so; gives its answer, and its history as the server has it. */
async function sweepBy(
  target: TemporalTarget,
  { rung = 1, deployment = null }: { rung?: number; deployment?: { name: string; buildId: string } | null } = {},
) {
  const answer = { rung, revived: 2, woken: 3 };
  const activities = { sweep: () => Promise.resolve(answer) } as unknown as Activities;
  const worker = await startWorker({
    ...{ target, workflowBundlePath: BUNDLE, cachedWorkflows: 10, activities, telemetry },
    deployment,
  });
  onTestFinished(() => worker.shutdown());
  const temporal = await connectTemporal(target);
  onTestFinished(() => temporal.close());
  const run = async () => {
    const handle = await temporal.client.workflow.start(SCHEDULED.sweep.workflowType, {
      workflowId: `${target.idPrefix ?? ''}pass-${(files += 1)}`,
      taskQueue: target.taskQueue,
      args: [{ budgetMs: 12_345 }],
    });
    return { result: (await handle.result()) as unknown, history: JSON.stringify(await handle.fetchHistory()) };
  };
  return { answer, run, temporal };
}

test('over TLS a server is believed by its authority alone', async () => {
  const { address, authority } = await gateway();
  const tls = { serverName: null, certificatePath: null, privateKeyPath: null };
  const caPath = await write(authority.certificatePem);
  const { run, answer } = await sweepBy(await targetOf(address, { tls: { ...tls, caPath } }));
  expect((await run()).result).toEqual(answer);

  const other = await targetOf(address, { tls: { ...tls, caPath: null }, connectTimeoutMs: 1_000 });
  await expect(connectTemporal(other)).rejects.toThrow();
});

test('a server that wants certificates lets in who has one, and nobody else', async () => {
  const before = await gateway({ wantsClientCertificate: true });
  const { address, authority } = before;
  const { certificatePem, keyPem } = await before.issueToClient();
  const caPath = await write(authority.certificatePem);
  const [certificatePath, privateKeyPath] = [await write(certificatePem), await write(keyPem)];
  const target = await targetOf(address, { tls: { serverName: 'localhost', caPath, certificatePath, privateKeyPath } });
  const { run, answer } = await sweepBy(target);
  expect((await run()).result).toEqual(answer);

  const without = { serverName: 'localhost', caPath, certificatePath: null, privateKeyPath: null };
  await expect(connectTemporal({ ...target, tls: without, connectTimeoutMs: 1_000 })).rejects.toThrow();
});

test('an API key that is replaced in its file is used from then on, by client and worker', async () => {
  const accepted = new Set(['Bearer the first', 'Bearer the second']);
  const last = { client: '', worker: '' };
  const { address, authority } = await gateway({
    refuse: (path, authorization = '') => {
      if (path.endsWith('/StartWorkflowExecution')) last.client = authorization;
      if (path.endsWith('/RespondActivityTaskCompleted')) last.worker = authorization;
      return accepted.has(authorization) ? undefined : UNAUTHENTICATED;
    },
  });
  const caPath = await write(authority.certificatePem);
  const apiKeyPath = await write('the first\n', 'api-key');
  const tls = { serverName: null, caPath, certificatePath: null, privateKeyPath: null };
  const target = await targetOf(address, { tls, apiKeyPath });
  const { run, answer } = await sweepBy(target);
  expect((await run()).result).toEqual(answer);
  expect(last).toEqual({ client: 'Bearer the first', worker: 'Bearer the first' });

  await write('the second\n', 'api-key');
  // Both keys are good for a while, as where keys are renewed.
  const lastOfRun = async (): Promise<object> => {
    await run();
    return last;
  };
  await expect
    .poll(lastOfRun, { timeout: 20_000, interval: 250 })
    .toEqual({ client: 'Bearer the second', worker: 'Bearer the second' });
  accepted.delete('Bearer the first');
  expect((await run()).result).toEqual(answer);

  const stranger = { ...target, apiKeyPath: await write('the third') };
  await expect(connectTemporal(stranger)).rejects.toSatisfy(isUnauthenticated);
  await expect(connectTemporal({ ...target, apiKeyPath: await write(' \n') })).rejects.toThrow('is empty');
});

const CODEC = `
const turned = (data) => Uint8Array.from(data, (byte) => byte ^ 0x55);
const encoding = new TextEncoder().encode('binary/turned');
export const payloadCodec = {
  encode: async (payloads) => payloads.map(({ metadata, data }) => ({
    metadata: { encoding, inner: metadata.encoding }, data: turned(data ?? []),
  })),
  decode: async (payloads) => payloads.map((payload) => payload.metadata.inner === undefined ? payload : {
    metadata: { encoding: payload.metadata.inner }, data: turned(payload.data),
  }),
};
`;

test('what a payload codec encodes is not to be read at the server, and everything runs as without', async () => {
  const address = inject('temporalAddress');
  const plain = await sweepBy(await targetOf(address, {}));
  const readable = Buffer.from('12345').toString('base64').slice(0, 4);
  expect((await plain.run()).history).toContain(readable);

  const payloadCodecPath = await write(CODEC, 'codec.mjs');
  const { run, answer } = await sweepBy(await targetOf(address, { payloadCodecPath }));
  const { result, history } = await run();
  expect(result).toEqual(answer);
  expect(history).toContain(Buffer.from('binary/turned').toString('base64'));
  expect(history).not.toContain(Buffer.from('"budgetMs"').toString('base64').slice(2, 10));
});

test.each([
  ['export const codec = {};', 'exports no payloadCodec'],
  ['export default { encode: async (all) => all };', 'exports no payloadCodec'],
  ['throw new Error("no key");', 'cannot be loaded: Error: no key'],
  [
    'export default { encode: async () => { throw new Error("no key"); }, decode: async (all) => all };',
    'fails: Error',
  ],
  ['export default { encode: async (all) => all, decode: async () => [] };', 'does not decode what it has encoded'],
  ['export default { encode: async (all) => all, decode: async () => "x" };', 'does not decode what it has encoded'],
])('a codec that is none is named before anything is connected: %s', async (code, complaint) => {
  const payloadCodecPath = await write(code, `codec-${(files += 1)}.mjs`);
  const target = await targetOf('127.0.0.1:1', { payloadCodecPath });
  await expect(connectTemporal(target)).rejects.toThrow(complaint);
});

test('of two versions of the worker at once the current one gets the work', async () => {
  const target = await targetOf(inject('temporalAddress'), {});
  const name = target.taskQueue;
  const one = await sweepBy(target, { rung: 1, deployment: { name, buildId: '1' } });
  const two = await sweepBy(target, { rung: 2, deployment: { name, buildId: '2' } });
  const makeCurrent = async (buildId: string): Promise<void> => {
    const { workflowService } = one.temporal.connection;
    const request = { namespace: target.namespace, deploymentName: name, buildId, ignoreMissingTaskQueues: true };
    // The server hears of a version when its worker asks for work.
    await expect
      .poll(() => workflowService.setWorkerDeploymentCurrentVersion(request).then(() => 'done', String))
      .toBe('done');
  };
  await makeCurrent('1');
  expect((await two.run()).result).toEqual(one.answer);
  await makeCurrent('2');
  expect((await one.run()).result).toEqual(two.answer);
});
