/** The package's own folder: package.json is beside `src/` when run from source and beside `dist/` when built. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { invariant } from '../invariant.ts';

/** The path of a file of the package, such as `dist/workflow-bundle.js`. */
export function packageFile(name: string): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json'))) {
    invariant(folder !== dirname(folder), 'the package is incomplete: it has no package.json');
    folder = dirname(folder);
  }
  return join(folder, name);
}

/** The version in package.json. */
export function packageVersion(): string {
  return (JSON.parse(readFileSync(packageFile('package.json'), 'utf8')) as { version: string }).version;
}
