/** The entry point of the `rejoinder` command: runs it, prints what went wrong, exits 0, 1 (failed) or 2 (asked wrongly). */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import colours from 'picocolors';
import { createOutput } from './output.ts';
import { runCommandLine } from './program.ts';

/** The version in package.json, which is beside `src/` when run from source and beside `dist/` when built. */
function packageVersion(): string {
  for (let folder = dirname(fileURLToPath(import.meta.url)); folder !== dirname(folder); folder = dirname(folder)) {
    try {
      const { version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { version: string };
      return version;
    } catch {
      continue;
    }
  }
  return 'unknown';
}

// "rejoinder members … | head" closes our output early; that is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));

process.exitCode = await runCommandLine(process.argv.slice(2), {
  env: process.env,
  output: createOutput(process.stdout, process.stderr, colours),
  version: packageVersion(),
});
