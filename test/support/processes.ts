/**
 * Rejoinder as it is deployed: real `rejoinder serve` and `rejoinder worker` processes over a database and a Temporal
 * namespace of their own, in reach of a test's Synapse. Tests talk to them as operators do, kill them, and look into the
 * database. Needs the build (`npm run build`).
 */
import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Client, Connection } from '@temporalio/client';
import { inject } from 'vitest';
import { type Child, startChild } from '../../src/launch/child.ts';
import { freePort } from '../../src/launch/ports.ts';
import { type Simulator } from '../../src/simulator/contract.ts';
import { type Store } from '../../src/store/open-store.ts';
import { registerSearchAttributes } from '../../src/temporal/search-attributes.ts';
import { createTestDatabase } from './postgres.ts';
import { type TestSynapse } from './synapse.ts';

const BINARY = fileURLToPath(new URL('../../bin/rejoinder.js', import.meta.url));
const TASK_QUEUE = 'rejoinder';
const START_TIMEOUT_MS = 60_000;
const POLL_MS = 50;
/** The longest any test waits for anything: a killed worker is missed after a heartbeat timeout, on a machine with other work. */
const EVENTUALLY_MS = 100_000;

export interface ProcessesOptions {
  /** `resync.sweep_after`, such as `1s`. */
  readonly sweepAfter?: string;
  /** `resync.first_retry`. */
  readonly firstRetry?: string;
  /** Where `serve` looks for Temporal; the run's server when absent. */
  readonly temporalOfServe?: string;
  /** `telemetry.otlp_endpoint`; nothing is exported when absent. */
  readonly otlpEndpoint?: string;
  /** Where other servers reach it through a proxy, and the port behind that; a free one that is reached itself when absent. */
  readonly proxied?: { readonly listensOn: number; readonly reachedAt: number };
  /** Of application services, as their files hold them, of a server of this name. */
  readonly registrations?: (serverName: string) => readonly object[];
  /** A port each for the metrics of one server and one worker. */
  readonly hasMetrics?: boolean;
}

/** What the processes meet: their certificates, and a federation of which they know where its servers are. */
export interface ProcessesPeer {
  readonly certificates: TestSynapse['certificates'];
  readonly simulator?: Pick<Simulator, 'authorityPem' | 'staticAddresses' | 'residents'>;
}

export interface StartOptions {
  /** How `stop` ends it: `KILL` leaves it no time for anything. */
  readonly endedBy?: 'TERM' | 'KILL';
  /** Of a server beside the first: other servers and operators do not reach it, and it reaches the database by this address. */
  readonly beside?: { readonly databaseUrl: string };
}

/** A server, and where clients reach it. */
export interface ServeChild extends Child {
  readonly clientUrl: string;
}

export interface OperatorAnswer {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
}

export interface RejoinderProcesses {
  readonly serverName: string;
  /** Over the database that the processes use. */
  readonly store: Store;
  readonly databaseUrl: string;
  readonly temporal: Client;
  /** Starts the process and waits until it serves. */
  serve(options?: StartOptions): Promise<ServeChild>;
  worker(options?: StartOptions): Promise<Child>;
  /** A request to the operator API; `post` is its body. */
  ask(path: string, post?: object): Promise<OperatorAnswer>;
  /** What Prometheus would read, with `hasMetrics`. */
  scrape(role: 'serve' | 'worker'): Promise<string>;
  /** Ends what still runs, throws when an end was not clean, and removes everything. */
  stop(): Promise<void>;
}

/** Polls until `probe` gives something. Throws after a time that only a fault takes. */
export async function eventually<T>(what: string, probe: () => Promise<T | undefined>): Promise<T> {
  for (const deadline = Date.now() + EVENTUALLY_MS; ;) {
    const found = await probe();
    if (found !== undefined) return found;
    if (Date.now() > deadline) throw new Error(`${what}: not within ${EVENTUALLY_MS / 1_000} s`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** A namespace apart: the schedule of the sweep has one name in each. */
async function createNamespace(connection: Connection): Promise<string> {
  const namespace = `rejoinder-${randomBytes(6).toString('hex')}`;
  await connection.workflowService.registerNamespace({
    namespace,
    workflowExecutionRetentionPeriod: { seconds: 86_400 as never },
  });
  // The server's other parts hear of a new namespace a moment later.
  await eventually(`namespace ${namespace}`, () =>
    registerSearchAttributes(connection, namespace).then(
      () => true,
      () => undefined,
    ),
  );
  return namespace;
}

export async function startProcesses(
  { certificates, simulator }: ProcessesPeer,
  options: ProcessesOptions = {},
): Promise<RejoinderProcesses> {
  const folder = await mkdtemp(join(tmpdir(), 'rejoinder-processes-'));
  const authoritiesFile = join(folder, 'authorities.pem');
  const authorityPem = await readFile(certificates.authorityFile, 'utf8');
  await writeFile(authoritiesFile, `${authorityPem}\n${simulator?.authorityPem ?? ''}`);
  const database = await createTestDatabase();
  const address = inject('temporalAddress');
  const connection = await Connection.connect({ address });
  const namespace = await createNamespace(connection);
  const [federationPort, operatorPort] = [options.proxied?.listensOn ?? (await freePort()), await freePort()];
  const metricsPorts = { serve: await freePort(), worker: await freePort() };
  const serverName = `localhost:${options.proxied?.reachedAt ?? federationPort}`;
  const token = randomBytes(24).toString('hex');
  const running: { readonly child: Child; readonly endedBy: string; readonly name: string }[] = [];

  const registrationFiles = await Promise.all(
    (options.registrations?.(serverName) ?? []).map(async (registration, i) => {
      const file = join(folder, `service-${i}.yaml`);
      await writeFile(file, JSON.stringify(registration));
      return file;
    }),
  );

  interface Place {
    readonly temporalAddress: string;
    readonly clientPort: number;
    readonly beside?: StartOptions['beside'];
  }
  const settings = ({ temporalAddress, clientPort, beside }: Place): object => ({
    server_name: serverName,
    data_directory: folder,
    listeners: {
      federation: {
        host: '127.0.0.1',
        port: beside === undefined ? federationPort : 0,
        tls: { certificate_path: certificates.certificateFile, private_key_path: certificates.keyFile },
      },
      client: { host: '127.0.0.1', port: clientPort },
      operator: { host: '127.0.0.1', port: beside === undefined ? operatorPort : 0 },
      ...(options.hasMetrics === true
        ? { metrics: { port: metricsPorts.serve }, worker_metrics: { port: metricsPorts.worker } }
        : {}),
    },
    app_service_config_files: registrationFiles,
    operator: { token },
    client_api: { registration: 'open', rate_limits: { registration: { per_minute: 1_000, burst: 1_000 } } },
    database: { url: beside?.databaseUrl ?? database.url, pool_size: 5 },
    temporal: { address: temporalAddress, namespace, task_queue: TASK_QUEUE },
    trusted_key_servers: (simulator?.residents ?? []).slice(0, 1).map((name) => ({ server_name: name })),
    federation: {
      custom_ca_path: authoritiesFile,
      allowed_ip_ranges: ['127.0.0.0/8', '::1/128'],
      static_addresses: simulator?.staticAddresses ?? {},
    },
    resync: { sweep_after: options.sweepAfter ?? '2m', first_retry: options.firstRetry ?? '30s' },
    ...(options.otlpEndpoint === undefined ? {} : { telemetry: { otlp_endpoint: options.otlpEndpoint } }),
  });

  async function start(
    role: 'serve' | 'worker',
    temporalAddress: string,
    isUp: string,
    { endedBy = 'TERM', beside }: StartOptions = {},
  ): Promise<ServeChild> {
    const clientPort = await freePort();
    const name = `${role}-${running.length + 1}`;
    const configFile = join(folder, `${name}.yaml`);
    const logFile = join(folder, `${name}.log`);
    // JSON is YAML.
    await writeFile(
      configFile,
      JSON.stringify(settings({ temporalAddress, clientPort, ...(beside === undefined ? {} : { beside }) })),
    );
    const child = await startChild({
      name: `rejoinder ${role}`,
      command: process.execPath,
      args: [BINARY, '--config', configFile, role],
      env: { PATH: process.env['PATH'], HOME: process.env['HOME'] },
      logFile,
      stopSignal: endedBy,
      cwd: folder,
    });
    running.push({ child, endedBy, name });
    await child.waitUntil(async () => (await readFile(logFile, 'utf8')).includes(isUp), START_TIMEOUT_MS);
    return { ...child, clientUrl: `http://127.0.0.1:${clientPort}` };
  }

  async function ask(path: string, post?: object): Promise<OperatorAnswer> {
    const response = await fetch(`http://127.0.0.1:${operatorPort}/_rejoinder/v1${path}`, {
      method: post === undefined ? 'GET' : 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      ...(post === undefined ? {} : { body: JSON.stringify(post) }),
    });
    return { status: response.status, body: (await response.json()) as Record<string, unknown> };
  }

  async function scrape(role: 'serve' | 'worker'): Promise<string> {
    return (await fetch(`http://127.0.0.1:${metricsPorts[role]}/metrics`)).text();
  }

  async function stop(): Promise<void> {
    const unclean: string[] = [];
    for (const { child, endedBy, name } of running) {
      await child.stop();
      const end = await child.ended;
      if (endedBy === 'TERM' && end !== 'exited with 0') unclean.push(`${name} ${end}: ${await child.logTail()}`);
    }
    await connection.close();
    await database.drop();
    await rm(folder, { recursive: true, force: true });
    if (unclean.length > 0) throw new Error(unclean.join('\n'));
  }

  return {
    serverName,
    store: database.openStore({ serverName }),
    databaseUrl: database.url,
    temporal: new Client({ connection, namespace }),
    serve: (how) => start('serve', options.temporalOfServe ?? address, '"msg":"serving"', how),
    worker: (how) => start('worker', address, '"msg":"working"', how),
    ask,
    scrape,
    stop,
  };
}
