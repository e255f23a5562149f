/**
 * The files of `migrations/`, as drizzle-kit numbers them. What a person adds by hand to the head of one:
 *
 *     -- min_compatible: 12
 *     -- outside a transaction
 *
 * `min_compatible` says how many migrations a program must know to run on the database afterwards. Whoever only expands the
 * schema (a table, a nullable column, one with a default, an index) gives the number of the files that programs in use
 * know; then these go on, and start again, while the new one is rolled out. What contracts it (a column gone, a new
 * meaning) comes in a later release, without the line: it is for programs that know the file itself.
 *
 * `outside a transaction` is for CREATE INDEX CONCURRENTLY and its like. Its statements run one by one, and all of them again
 * after a failure, so each bears repetition: `DROP INDEX CONCURRENTLY IF EXISTS` goes before the index that it makes.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { invariant } from '../invariant.ts';

export interface Migration {
  /** Of the file's text: what the database remembers. */
  readonly hash: string;
  /** When drizzle-kit made it, milliseconds since the Unix epoch. */
  readonly madeAt: number;
  readonly statements: readonly string[];
  /** How many migrations a program must know to run on the database afterwards. */
  readonly minCompatible: number;
  readonly inTransaction: boolean;
}

const BREAKPOINT = '--> statement-breakpoint';
const MIN_COMPATIBLE = /^-- min_compatible: (\d+)$/m;
const OUTSIDE = /^-- outside a transaction$/m;

/** `migrations/` of this package: beside `src/` when run from source, beside `dist/` when built. */
function migrationsFolder(): string {
  for (let folder = dirname(fileURLToPath(import.meta.url)); ; folder = dirname(folder)) {
    const candidate = join(folder, 'migrations');
    if (existsSync(join(candidate, 'meta', '_journal.json'))) return candidate;
    invariant(folder !== dirname(folder), 'the package has a migrations folder');
  }
}

/** All migrations that this program knows, in order. */
export function readMigrations(): readonly Migration[] {
  const folder = migrationsFolder();
  const journal = JSON.parse(readFileSync(join(folder, 'meta', '_journal.json'), 'utf8')) as {
    readonly entries: readonly { readonly tag: string; readonly when: number }[];
  };
  return journal.entries.map(({ tag, when }, i) =>
    parseMigration(readFileSync(join(folder, `${tag}.sql`), 'utf8'), { number: i + 1, madeAt: when }),
  );
}

/** One file's text; `number` counts from 1. */
export function parseMigration(
  text: string,
  { number, madeAt }: { readonly number: number; readonly madeAt: number },
): Migration {
  return {
    hash: createHash('sha256').update(text).digest('hex'),
    madeAt,
    statements: text.split(BREAKPOINT),
    minCompatible: Number(MIN_COMPATIBLE.exec(text)?.[1] ?? number),
    inTransaction: !OUTSIDE.test(text),
  };
}
