/** What is wrong with a configuration, in words that say what to change and where. */

/** One thing wrong with the configuration. */
export interface ConfigProblem {
  /** Dotted, such as `listeners.operator.port`; empty for the file as a whole. */
  readonly key: string;
  /** The offending value as it may be shown (secrets masked), or `undefined` when it is missing. */
  readonly value?: unknown;
  /** What would have been right, completing "expected …". */
  readonly expected: string;
  /** File and line, or the environment variable. */
  readonly where: string;
}

/** The configuration cannot be used; `message` lists every problem, one a line. */
export class ConfigError extends Error {
  readonly problems: readonly ConfigProblem[];
  constructor(problems: readonly ConfigProblem[]) {
    super(problems.map(describe).join('\n'));
    this.name = 'ConfigError';
    this.problems = problems;
  }
}

const SHOWN_VALUE_CHARS_MAX = 80;

function describe({ key, value, expected, where }: ConfigProblem): string {
  if (key === '') return `${where}: expected ${expected}`;
  // JSON keeps control characters out of a terminal.
  const shown = value === undefined ? 'nothing' : JSON.stringify(value).slice(0, SHOWN_VALUE_CHARS_MAX);
  return `${where}: ${key}: expected ${expected}, found ${shown}`;
}
