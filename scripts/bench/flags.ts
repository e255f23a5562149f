/** The flags of benches: numbers that are numbers, and one line of help for whoever typed something else. */
import { parseArgs } from 'node:util';

/** What a bench takes: a default for each number, names of the yes-or-no ones and of those with a text. */
export interface FlagNames {
  readonly numbers: Readonly<Record<string, number>>;
  readonly switches: readonly string[];
  readonly texts: readonly string[];
}

export interface Flags {
  number(name: string): number;
  isSet(name: string): boolean;
  text(name: string): string | undefined;
}

/** Ends the process with 2 and a line of help on a wrong flag. */
export function readFlags(command: string, { numbers, switches, texts }: FlagNames): Flags {
  const usage = [
    ...Object.entries(numbers).map(([name, value]) => `[--${name} ${value}]`),
    ...switches.map((name) => `[--${name}]`),
    ...texts.map((name) => `[--${name} ${name.toUpperCase()}]`),
  ];
  const fail = (reason: string): never => {
    console.error(`${reason}\nusage: npm run ${command} -- ${usage.join(' ')}`);
    process.exit(2);
  };
  const values = ((): Record<string, unknown> => {
    try {
      return parseArgs({
        options: Object.fromEntries([
          ...[...Object.keys(numbers), ...texts].map((name) => [name, { type: 'string' as const }]),
          ...switches.map((name) => [name, { type: 'boolean' as const }]),
        ]),
      }).values;
    } catch (error) {
      return fail(error instanceof Error ? error.message : String(error));
    }
  })();
  for (const name of Object.keys(numbers)) {
    const typed = values[name];
    if (typeof typed === 'string' && !/^[1-9]\d{0,8}$/.test(typed)) {
      fail(`--${name}: expected a number, found ${typed}`);
    }
  }
  return {
    number: (name) => Number(values[name] ?? numbers[name]),
    isSet: (name) => values[name] === true,
    text: (name) => values[name] as string | undefined,
  };
}
