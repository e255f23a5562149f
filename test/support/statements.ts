/** What a piece of work sends to PostgreSQL, for tests that hold the number of statements. */
import pg from 'pg';

/** The texts of the statements that every client of this process sent while `work` ran, in order. */
export async function statementsOf(work: () => Promise<unknown>): Promise<string[]> {
  const texts: string[] = [];
  const prototype = pg.Client.prototype as unknown as { query: (...args: unknown[]) => unknown };
  const original = prototype.query;
  prototype.query = function (this: pg.Client, ...args: unknown[]) {
    const [query] = args;
    texts.push(typeof query === 'string' ? query : ((query as { text?: string } | null)?.text ?? '?'));
    return original.apply(this, args);
  };
  try {
    await work();
  } finally {
    prototype.query = original;
  }
  return texts;
}
