/** PostgreSQL and Temporal for `up` and the demo: the configured ones, or local ones that end with us. */
import { join } from 'node:path';
import { type Config } from '../../config.ts';
import { maskSecret } from '../../config/settings.ts';
import { choosePort } from '../../launch/ports.ts';
import { type LocalPostgres, launchPostgres } from '../../launch/postgres.ts';
import { type Environment, LaunchError, type Progress } from '../../launch/progress.ts';
import { type LocalTemporal, launchTemporal } from '../../launch/temporal.ts';
import { SEARCH_ATTRIBUTE_TYPES } from '../../temporal/names.ts';
import { type Shutdown } from '../process/shutdown.ts';
import { keepRunning } from './keep-running.ts';

/** Where people and the `temporal` command look for a local server; another port is taken where these are not free. */
const TEMPORAL_PORT = 7233;
const TEMPORAL_UI_PORT = 8233;

export interface ServicesOptions {
  readonly config: Config;
  readonly env: Environment;
  readonly progress: Progress;
  readonly durability: 'safe' | 'throw-away';
  /** Takes how each is stopped. */
  readonly shutdown: Shutdown;
  readonly stop: AbortSignal;
}

export interface Services {
  readonly databaseUrl: string;
  readonly temporalAddress: string;
  /** Of a local server; a configured one has its UI elsewhere. */
  readonly temporalUiUrl: string | undefined;
  /** Rejects with a `CliError` when a local server ends unasked and cannot be had again. */
  readonly failed: Promise<never>;
}

const NEVER = new Promise<never>(() => undefined);

/** Starts what is not configured. Throws `LaunchError`, or the reason of `stop`. */
export async function startServices(options: ServicesOptions): Promise<Services> {
  // Both must have settled before a failure of one is told, or the other would start after the shutdown.
  const [database, temporal] = await Promise.allSettled([startDatabase(options), startTemporal(options)]);
  if (database.status === 'rejected') throw database.reason;
  if (temporal.status === 'rejected') throw temporal.reason;
  options.stop.throwIfAborted();
  const failed = Promise.race([database.value.failed, temporal.value.failed]);
  failed.catch(() => undefined);
  return { databaseUrl: database.value.url, ...temporal.value.place, failed };
}

async function startDatabase(
  options: ServicesOptions,
): Promise<{ readonly url: string; readonly failed: Promise<never> }> {
  const { config, env, progress, durability, shutdown } = options;
  const { url } = config.database;
  if (url !== null) {
    progress(`PostgreSQL: ${String(maskSecret('database.url', url))}`);
    return { url, failed: NEVER };
  }
  const dataDirectory = join(config.dataDirectory, 'postgres');
  const { server, failed } = await keepRunning<LocalPostgres>({
    name: 'PostgreSQL',
    launch: (ended) =>
      launchPostgres({
        dataDirectory,
        durability,
        env,
        progress,
        ...(ended === undefined ? {} : { port: ended.port }),
      }),
    isKept: durability === 'safe',
    progress,
    shutdown,
  });
  progress(`PostgreSQL ${server.major}: started, data in ${server.dataDirectory}`);
  return { url: server.databaseUrl, failed };
}

async function startTemporal(
  options: ServicesOptions,
): Promise<{ readonly place: Omit<Services, 'databaseUrl' | 'failed'>; readonly failed: Promise<never> }> {
  const { config, env, progress, durability, shutdown } = options;
  const { address, namespace } = config.temporal;
  if (address !== null) {
    progress(`Temporal: ${address}, namespace ${namespace}`);
    return { place: { temporalAddress: address, temporalUiUrl: undefined }, failed: NEVER };
  }
  const places = { port: await portNear(TEMPORAL_PORT), uiPort: await portNear(TEMPORAL_UI_PORT) };
  const { server, failed } = await keepRunning<LocalTemporal>({
    name: 'Temporal',
    launch: () =>
      launchTemporal({
        dataDirectory: durability === 'throw-away' ? 'memory' : join(config.dataDirectory, 'temporal'),
        ...places,
        namespace,
        searchAttributes: SEARCH_ATTRIBUTE_TYPES,
        env,
        progress,
      }),
    isKept: durability === 'safe',
    progress,
    shutdown,
  });
  progress(`Temporal: started at ${server.address}, namespace ${namespace}`);
  return { place: { temporalAddress: server.address, temporalUiUrl: server.uiUrl }, failed };
}

/** The usual port, or a free one where it is taken. */
async function portNear(usual: number): Promise<number> {
  try {
    return await choosePort(usual, 'Temporal');
  } catch (error) {
    if (!(error instanceof LaunchError)) throw error;
    return choosePort(undefined, 'Temporal');
  }
}
