/** `rejoinder migrate`: brings the database to this version and registers the search attributes in Temporal. */
import { type Config, loadConfig, requireSetting } from '../../config.ts';
import { type Environment } from '../../config/sources.ts';
import { migrate as migrateDatabase } from '../../store/migrate.ts';
import { type TemporalTarget } from '../../temporal/connection.ts';
import { type Output } from '../output.ts';
import { prepareTemporal } from '../process/temporal.ts';

export interface MigrateOptions {
  readonly env: Environment;
  readonly config?: string;
}

/** Brings the schema of the configured database up to date. */
export async function migrate({ env, config: path }: MigrateOptions, output: Output): Promise<void> {
  await migrateBoth(loadConfig({ path, env }), (line) => output.line(line));
}

/** Prepares the configured database and Temporal, and says what it did. Throws when a setting is missing. */
export async function migrateBoth(config: Config, say: (line: string) => void): Promise<void> {
  const databaseUrl = requireSetting(config.database.url, 'database.url', 'the URL of a PostgreSQL database');
  const address = requireSetting(config.temporal.address, 'temporal.address', 'the address of a Temporal server');
  const applied = await migrateDatabase(databaseUrl);
  say(applied === 0 ? 'database: up to date' : `database: ${applied} migration(s) applied`);
  const target: TemporalTarget = { ...config.temporal, address };
  await prepareTemporal(target, say);
}
