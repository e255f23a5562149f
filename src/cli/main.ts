/** The entry point of the `rejoinder` command: runs it, prints what went wrong, exits 0, 1 (failed) or 2 (asked wrongly). */
import { isatty } from 'node:tty';
import { fileURLToPath } from 'node:url';
import picocolors from 'picocolors';
import { createOutput } from './output.ts';
import { packageVersion } from './package.ts';
import { runCommandLine } from './program.ts';

/** 128 + SIGINT, as shells count. */
const INTERRUPTED = 130;

/** Aborts at the first SIGINT or SIGTERM; a second one ends the process at once. */
function listenForStop(): AbortSignal {
  const stop = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.on(name, () => {
      if (stop.signal.aborted) process.exit(INTERRUPTED);
      stop.abort(new Error(`stopped by ${name}`));
    });
  }
  return stop.signal;
}

// "rejoinder members … | head" closes our output early; that is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));

// picocolors colours for anything that sets CI, a file or a pipe included; what is read by programs stays plain.
const isRead = isatty(process.stdout.fd) && isatty(process.stderr.fd);
const colours = picocolors.createColors(isRead && picocolors.isColorSupported);

const code = await runCommandLine(process.argv.slice(2), {
  env: process.env,
  output: createOutput(process.stdout, process.stderr, colours, isRead),
  version: packageVersion(),
  self: [process.execPath, ...process.execArgv, fileURLToPath(import.meta.url)],
  listenForStop,
});

// A command that is over has stopped what it started; what is left are timers of a library, which would hold the process up: those of
// a client for requests long answered. What was written is to reach its reader first.
for (const stream of [process.stdout, process.stderr]) {
  await new Promise((resolve) => stream.write('', resolve));
}
process.exit(code);
