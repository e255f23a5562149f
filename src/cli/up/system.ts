/**
 * The whole of Rejoinder on one machine, in one folder: PostgreSQL and Temporal (configured or local), migrated; a
 * certificate where none is configured; `serve` and `worker` as two processes, as anywhere else. `up` and the demo run it.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { systemClock } from '../../clock.ts';
import { type Config, type ListenerConfig, loadConfig, loadSettings } from '../../config.ts';
import { type SettingsInput } from '../../config/settings.ts';
import { findConfigFile, mergeTrees } from '../../config/sources.ts';
import { ensureCertificateFiles } from '../../launch/certificates.ts';
import { freePort } from '../../launch/ports.ts';
import { type Environment, type Progress } from '../../launch/progress.ts';
import { type TemporalClient } from '../../temporal/client.ts';
import { migrateBoth } from '../commands/migrate.ts';
import { UP_DEFAULTS } from '../defaults.ts';
import { type ListenerName, assertApart, assertFree } from '../process/listen.ts';
import { loadOperatorToken } from '../process/secrets.ts';
import { type Shutdown } from '../process/shutdown.ts';
import { requireTemporal } from '../process/temporal.ts';
import { variablesOf } from './environment.ts';
import { type Part, startPart } from './part.ts';
import { type Services, startServices } from './services.ts';

export interface SystemOptions {
  readonly env: Environment;
  /** The configuration file, as for any command. */
  readonly config?: string;
  /** Above file and environment. */
  readonly overrides?: Partial<SettingsInput>;
  /** The interpreter with its options, and our entry point: how to start ourselves. */
  readonly self: readonly string[];
  readonly durability: 'safe' | 'throw-away';
  readonly progress: Progress;
  /** Above all others: what comes to be known only while the services start. */
  readonly lateSettings?: () => Promise<Partial<SettingsInput>>;
  /** Aborted when the process is asked to stop. */
  readonly stop: AbortSignal;
}

export interface RunningSystem {
  readonly config: Config;
  /** Of the operator API, such as `http://127.0.0.1:8009`. */
  readonly operatorUrl: string;
  readonly operatorToken: string;
  /** The authority that other servers must trust to reach a certificate made here; `undefined` for a configured one. */
  readonly authorityFile: string | undefined;
  readonly services: Services;
  /** Rejects when a part ends unasked, or a local server does and cannot be had again. */
  readonly failed: Promise<never>;
}

/** Starts everything; what was started is registered with `shutdown`, also when it throws. */
export async function startSystem(options: SystemOptions, shutdown: Shutdown): Promise<RunningSystem> {
  const { env, progress, durability, stop } = options;
  const load = (overrides: Partial<SettingsInput>): Config =>
    loadConfig({ path: options.config, env, defaults: UP_DEFAULTS, overrides });

  const planned = load(options.overrides ?? {});
  const { authorityFile, overrides: listening } = await planListeners(planned);
  const decided = mergeTrees(options.overrides ?? {}, listening);
  await mkdir(planned.dataDirectory, { recursive: true });

  const services = await startServices({ config: load(decided), env, progress, durability, shutdown, stop });
  const started = mergeTrees(decided, {
    data_directory: planned.dataDirectory,
    database: { url: services.databaseUrl },
    temporal: { address: services.temporalAddress },
  });
  const overrides: Partial<SettingsInput> = mergeTrees(started, (await options.lateSettings?.()) ?? {});
  const config = load(overrides);
  await migrateBoth(config, progress);
  const operatorToken = await loadOperatorToken(config);
  stop.throwIfAborted();

  // The name may be our default, which no file says.
  const { server_name } = loadSettings({ path: options.config, env, defaults: UP_DEFAULTS, overrides }).settings;
  const file = findConfigFile(options.config, env);
  const childEnv = {
    ...env,
    ...(file === undefined ? {} : { REJOINDER_CONFIG: file }),
    ...variablesOf({ ...overrides, server_name }),
  };
  const start = async (name: 'serve' | 'worker'): Promise<Part> => {
    const logFile = join(config.dataDirectory, `${name}.log`);
    const part = await startPart({ name, self: options.self, env: childEnv, logFile });
    shutdown.add(name, () => part.stop());
    return part;
  };
  const operatorUrl = urlOf(config.listeners.operator);
  const startedAt = systemClock.now();
  const [server, worker] = [await start('serve'), await start('worker')];
  const temporal = await requireTemporal({ ...config.temporal, address: services.temporalAddress });
  try {
    await Promise.all([
      server.waitUntilReady(() => answersHealth(operatorUrl)),
      worker.waitUntilReady(() => isPolled(temporal, config, startedAt)),
    ]);
  } finally {
    await temporal.close();
  }
  stop.throwIfAborted();
  const failed = Promise.race([server.failed, worker.failed, services.failed]);
  failed.catch(() => undefined);
  return { config, operatorUrl, operatorToken, authorityFile, services, failed };
}

/** Ports that are known, free and so worth starting a database for, and a certificate for the federation listener. */
async function planListeners(
  config: Config,
): Promise<{ authorityFile: string | undefined; overrides: Partial<SettingsInput> }> {
  const { federation, client, operator, metrics, workerMetrics } = config.listeners;
  const listeners = {
    federation: await withKnownPort(federation),
    client: await withKnownPort(client),
    operator: await withKnownPort(operator),
    ...(metrics === null ? {} : { metrics: await withKnownPort(metrics) }),
    ...(workerMetrics === null ? {} : { worker_metrics: await withKnownPort(workerMetrics) }),
  };
  assertApart(listeners);
  for (const [name, listener] of Object.entries(listeners)) await assertFree(name as ListenerName, listener);
  if (federation.tls !== null) return { authorityFile: undefined, overrides: { listeners } };

  const name = config.serverName.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1');
  const files = await ensureCertificateFiles(join(config.dataDirectory, 'tls'), [name], systemClock);
  const tls = { certificate_path: files.certificateFile, private_key_path: files.keyFile };
  return {
    authorityFile: files.authorityFile,
    overrides: { listeners: { ...listeners, federation: { ...listeners.federation, tls } } },
  };
}

/** "Any free port" would be known to the child only. */
async function withKnownPort({ host, port }: ListenerConfig): Promise<ListenerConfig> {
  return { host, port: port === 0 ? await freePort() : port };
}

/** Where this machine reaches a listener. */
export function urlOf({ host, port }: ListenerConfig, scheme: 'http' | 'https' = 'http'): string {
  const reachable = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host;
  return `${scheme}://${reachable.includes(':') ? `[${reachable}]` : reachable}:${port}`;
}

async function answersHealth(url: string): Promise<boolean> {
  return fetch(`${url}/health`).then(
    (response) => response.ok,
    () => false,
  );
}

/** Whether a worker has asked for work since then; those of an earlier start are listed for some minutes. */
async function isPolled({ connection }: TemporalClient, { temporal }: Config, sinceMs: number): Promise<boolean> {
  const { pollers } = await connection.workflowService.describeTaskQueue({
    namespace: temporal.namespace,
    taskQueue: { name: temporal.taskQueue },
  });
  return pollers.some(({ lastAccessTime }) => Number(lastAccessTime?.seconds ?? 0) * 1000 >= sinceMs - 1000);
}
