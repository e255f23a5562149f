/** Runs a command line as `main.ts` does, within the process of the test, in a folder and an environment of its own. */
import { Writable } from 'node:stream';
import colours from 'picocolors';
import { createOutput } from '../../src/cli/output.ts';
import { runCommandLine } from '../../src/cli/program.ts';

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function capture(onLine?: (line: string) => void): { stream: Writable; text: () => string } {
  const chunks: string[] = [];
  const stream = new Writable({
    write: (chunk, _encoding, done) => {
      chunks.push(String(chunk));
      onLine?.(String(chunk).trimEnd());
      done();
    },
  });
  return { stream, text: () => chunks.join('') };
}

export interface RunOptions {
  readonly cwd: string;
  readonly env?: Readonly<Record<string, string>>;
  /** How `up` starts its processes. */
  readonly self?: readonly string[];
  /** Ends commands that run until they are asked to stop. */
  readonly stop?: AbortSignal;
  /** Called for each line on standard output, as it is written. */
  readonly onLine?: (line: string) => void;
}

/** Nothing of the tests' own environment reaches the command. */
export async function runCli(
  args: readonly string[],
  { cwd, env = {}, self = [], stop = new AbortController().signal, onLine }: RunOptions,
): Promise<Ran> {
  const [stdout, stderr] = [capture(onLine), capture()];
  const before = process.cwd();
  process.chdir(cwd);
  try {
    const output = createOutput(stdout.stream, stderr.stream, colours.createColors(false));
    const code = await runCommandLine(args, {
      env,
      output,
      version: '1.2.3',
      self,
      listenForStop: () => stop,
    });
    return { code, stdout: stdout.text(), stderr: stderr.text() };
  } finally {
    process.chdir(before);
  }
}
