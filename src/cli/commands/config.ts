/** `rejoinder config check` and `rejoinder config dump`. */
import { stringify } from 'yaml';
import { loadConfig, loadSettings } from '../../config.ts';
import { type Settings, maskSecret } from '../../config/settings.ts';
import { type Environment, unknownVariables } from '../../config/sources.ts';
import { type Output } from '../output.ts';

export interface ConfigOptions {
  readonly env: Environment;
  readonly config?: string;
}

/** Throws `ConfigError` when something is wrong. */
export function checkConfig({ env, config }: ConfigOptions, output: Output): void {
  const { file } = loadSettings({ path: config, env });
  loadConfig({ path: config, env });
  for (const name of unknownVariables(env)) output.note(`${name} is set and sets nothing: there is no such key`);
  output.line(`${file ?? 'The environment (there is no rejoinder.yaml)'}: valid`);
}

/** What is in force, in the form of the file, secrets masked. */
export function dumpConfig({ env, config }: ConfigOptions, output: Output): void {
  const { settings, file } = loadSettings({ path: config, env });
  output.line(`# in force: ${file ?? 'no file'}, environment, defaults`);
  output.line(stringify(masked(settings)).trimEnd());
}

function masked(settings: Settings): Settings {
  const { operator, database } = settings;
  return {
    ...settings,
    ...(operator.token === undefined
      ? {}
      : { operator: { ...operator, token: String(maskSecret('operator.token', operator.token)) } }),
    ...(database.url === undefined
      ? {}
      : { database: { ...database, url: String(maskSecret('database.url', database.url)) } }),
  };
}
