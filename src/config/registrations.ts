/** Reads the registration files of application services; what is wrong in any of them is named with file and line. */
import { type AppService, PATTERNS_SIZE_MAX, readRegistration, sizeOf } from '../app-services/registration.ts';
import { type ServerName } from '../matrix/identifiers.ts';
import { ConfigError, type ConfigProblem } from './error.ts';
import { readFileSource } from './sources.ts';

const SECRETS: readonly PropertyKey[] = ['as_token', 'hs_token'];
/** What no two services may have in common. */
const UNIQUE = [
  ['id', 'id'],
  ['as_token', 'asToken'],
  ['sender_localpart', 'sender'],
] as const;

/** Throws a `ConfigError` that names every problem of all files. */
export function readRegistrations(files: readonly string[], serverName: ServerName): AppService[] {
  const problems: ConfigProblem[] = [];
  const services: { readonly service: AppService; readonly file: string }[] = [];
  let size = 0;
  for (const file of files) {
    const source = readFileSource(file, 'id: irc');
    if ('expected' in source) {
      problems.push({
        key: '',
        expected: `the registration of an application service: ${source.expected}`,
        where: source.where,
      });
      continue;
    }
    const read = readRegistration(source.tree, serverName);
    if (!read.ok) {
      problems.push(
        ...read.problems.map(({ path, expected }) => {
          const value = path.reduce<unknown>(
            (at, key) => (at as Record<PropertyKey, unknown> | null | undefined)?.[key],
            source.tree,
          );
          const shown = isSecret(path[0], value) ? '********' : value;
          return { key: path.map(String).join('.'), value: shown, expected, where: source.whereIs(path) };
        }),
      );
      continue;
    }
    const { service } = read;
    for (const [key, of] of UNIQUE) {
      const other = services.find((earlier) => earlier.service[of] === service[of]);
      if (other === undefined) continue;
      const value = SECRETS.includes(key) ? '********' : service[of];
      problems.push({ key, value, expected: `another one than ${other.file} has`, where: source.whereIs([key]) });
    }
    services.push({ service, file });
    size += sizeOf(service);
    if (size > PATTERNS_SIZE_MAX && size - sizeOf(service) <= PATTERNS_SIZE_MAX) {
      const expected = 'fewer or simpler regular expressions, those of all application services together';
      const value = `${size} instructions of at most ${PATTERNS_SIZE_MAX}`;
      problems.push({ key: 'namespaces', value, expected, where: source.whereIs(['namespaces']) });
    }
  }
  if (problems.length > 0) throw new ConfigError(problems);
  return services.map(({ service }) => service);
}

/** A URL with an @ may have a password before it. */
function isSecret(key: PropertyKey | undefined, value: unknown): boolean {
  if (key === 'url') return typeof value === 'string' && value.includes('@');
  return key !== undefined && value !== undefined && SECRETS.includes(key);
}
