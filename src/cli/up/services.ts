/** PostgreSQL and Temporal for `up` and the demo: the configured ones, or local ones that end with us. */
import { join } from 'node:path';
import { type Config } from '../../config.ts';
import { maskSecret } from '../../config/settings.ts';
import { choosePort } from '../../launch/ports.ts';
import { launchPostgres } from '../../launch/postgres.ts';
import { type Environment, LaunchError, type Progress } from '../../launch/progress.ts';
import { launchTemporal } from '../../launch/temporal.ts';
import { SEARCH_ATTRIBUTE_TYPES } from '../../temporal/names.ts';
import { type Shutdown } from '../process/shutdown.ts';

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
}

/** Starts what is not configured. Throws `LaunchError`, or the reason of `stop`. */
export async function startServices(options: ServicesOptions): Promise<Services> {
  // Both must have settled before a failure of one is told, or the other would start after the shutdown.
  const [database, temporal] = await Promise.allSettled([startDatabase(options), startTemporal(options)]);
  if (database.status === 'rejected') throw database.reason;
  if (temporal.status === 'rejected') throw temporal.reason;
  options.stop.throwIfAborted();
  return { databaseUrl: database.value, ...temporal.value };
}

async function startDatabase(options: ServicesOptions): Promise<string> {
  const { config, env, progress, durability, shutdown } = options;
  const { url } = config.database;
  if (url !== null) {
    progress(`PostgreSQL: ${String(maskSecret('database.url', url))}`);
    return url;
  }
  const dataDirectory = join(config.dataDirectory, 'postgres');
  const postgres = await launchPostgres({ dataDirectory, durability, env, progress });
  shutdown.add('PostgreSQL', () => postgres.stop());
  progress(`PostgreSQL ${postgres.major}: started, data in ${postgres.dataDirectory}`);
  return postgres.databaseUrl;
}

async function startTemporal(options: ServicesOptions): Promise<Omit<Services, 'databaseUrl'>> {
  const { config, env, progress, durability, shutdown } = options;
  const { address, namespace } = config.temporal;
  if (address !== null) {
    progress(`Temporal: ${address}, namespace ${namespace}`);
    return { temporalAddress: address, temporalUiUrl: undefined };
  }
  const temporal = await launchTemporal({
    dataDirectory: durability === 'throw-away' ? 'memory' : join(config.dataDirectory, 'temporal'),
    port: await portNear(TEMPORAL_PORT),
    uiPort: await portNear(TEMPORAL_UI_PORT),
    namespace,
    searchAttributes: SEARCH_ATTRIBUTE_TYPES,
    env,
    progress,
  });
  shutdown.add('Temporal', () => temporal.stop());
  progress(`Temporal: started at ${temporal.address}, namespace ${namespace}`);
  return { temporalAddress: temporal.address, temporalUiUrl: temporal.uiUrl };
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
