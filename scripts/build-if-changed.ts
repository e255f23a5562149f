/**
 * Builds when something that goes into the build is newer than what was built: `npm run demo` and `npm start` follow an
 * `npm ci`, which has built already, and a compiler that finds nothing to do still takes seconds to find it.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const SOURCES = ['src', 'workflows', 'activities', 'scripts'];
const SETTINGS = ['package.json', 'package-lock.json', 'tsconfig.json', 'tsconfig.build.json'];
/** What a build writes last. */
const BUILT = 'dist/workflow-bundle.js';

const changedAt = (path: string): number => statSync(join(root, path), { throwIfNoEntry: false })?.mtimeMs ?? 0;

function* files(): Generator<string> {
  yield* SETTINGS;
  for (const folder of SOURCES) {
    for (const name of readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })) yield join(folder, name);
  }
}

const builtAt = changedAt(BUILT);
// Folders too: what was removed or renamed changes the folder it was in.
if ([...SOURCES, ...files()].some((path) => changedAt(path) > builtAt)) {
  console.error('Building…');
  const build = spawn('npm', ['run', '--silent', 'build'], { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] });
  const [code] = (await once(build, 'exit')) as [number | null];
  process.exitCode = code ?? 1;
}
