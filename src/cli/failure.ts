/** How a command fails: one line that says what and where, one that says what to do, and an exit code. */
import { CommanderError } from 'commander';

/** 1: it did not work. 2: it was asked wrongly (arguments, configuration), and would not work a second time either. */
export type ExitCode = 1 | 2;

export class CliError extends Error {
  override readonly name = 'CliError';
  readonly exitCode: ExitCode;
  /** What the person can do; a sentence. */
  readonly hint: string | undefined;

  constructor(message: string, options: { hint?: string; exitCode?: ExitCode; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.exitCode = options.exitCode ?? 1;
    this.hint = options.hint;
  }
}

export interface Failure {
  readonly lines: readonly string[];
  readonly exitCode: number;
}

/** Errors whose messages were written for the person at the terminal. The rest are told with what they were made of. */
const SPOKEN = new Set(['LaunchError', 'SchemaError', 'SecretFileError', 'RoomError', 'FederationError']);

/** What to print about anything thrown, and the code to exit with. `debug` adds the stack. */
export function describeFailure(error: unknown, debug: boolean): Failure {
  // Commander has printed its own line already (and help or version are no failure).
  if (error instanceof CommanderError) return { lines: [], exitCode: error.exitCode === 0 ? 0 : 2 };
  if (!(error instanceof Error)) return { lines: [String(error)], exitCode: 1 };
  const stack = debug && error.stack !== undefined ? [error.stack] : [];
  if (error instanceof CliError) {
    const hint = error.hint === undefined ? [] : [error.hint];
    return { lines: [error.message, ...hint, ...stack], exitCode: error.exitCode };
  }
  if (error.name === 'ConfigError') return { lines: [...error.message.split('\n'), ...stack], exitCode: 2 };
  if (SPOKEN.has(error.name)) return { lines: [error.message, ...stack], exitCode: 1 };
  return { lines: [`${error.name}: ${messageOf(error)}`, ...stack], exitCode: 1 };
}

/** Node's connection failures to several addresses have an empty message and the reasons inside. */
function messageOf(error: Error): string {
  if (error.message !== '') return error.message;
  if (error instanceof AggregateError) return error.errors.map(String).join('; ');
  return 'no reason was given';
}
