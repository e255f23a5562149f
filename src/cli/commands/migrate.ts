/** `rejoinder migrate`: brings the database to this version and registers the search attributes in Temporal. */
import { loadConfig, requireSetting } from '../../config.ts';
import { type Environment } from '../../config/sources.ts';
import { migrate as migrateDatabase } from '../../store/migrate.ts';
import { registerSearchAttributes } from '../../temporal/search-attributes.ts';
import { connectTemporal } from '../../temporal/client.ts';
import { CliError } from '../failure.ts';
import { type Output } from '../output.ts';

export interface MigrateOptions {
  readonly env: Environment;
  readonly config?: string;
}

export async function migrate({ env, config: path }: MigrateOptions, output: Output): Promise<void> {
  const config = loadConfig({ path, env });
  const databaseUrl = requireSetting(config.database.url, 'database.url', 'the URL of a PostgreSQL database');
  const address = requireSetting(config.temporal.address, 'temporal.address', 'the address of a Temporal server');
  const applied = await migrateDatabase(databaseUrl);
  output.line(applied === 0 ? 'database: up to date' : `database: ${applied} migration(s) applied`);

  const target = { ...config.temporal, address };
  const temporal = await connectTemporal(target).catch((error: unknown) => {
    throw new CliError(
      `no Temporal server answers at ${address}: ${error instanceof Error ? error.message : String(error)}`,
      {
        hint: 'Start one ("temporal server start-dev"), or correct temporal.address.',
        cause: error,
      },
    );
  });
  try {
    await registerSearchAttributes(temporal.connection, config.temporal.namespace);
  } finally {
    await temporal.close();
  }
  output.line(`temporal: search attributes registered in namespace ${config.temporal.namespace}`);
}
