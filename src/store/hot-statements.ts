/**
 * Names for the statements that run again and again, under which PostgreSQL keeps them parsed and, where one plan fits all
 * values, planned: an event that is pushed alone is some twenty statements. What that gives was measured on a loaded machine
 * only, and not clearly. Which ones are hot shows in use, so that no list has to be kept; rare ones take no memory of
 * each connection.
 *
 * A pooler in between must know named statements: PgBouncer from 1.21 on, with `max_prepared_statements` above 0. `DISCARD
 * ALL` between two clients does no harm, since each client begins with none.
 */

/** Runs of a text in this process before it counts as hot. */
const RUNS_MIN = 20;

/** The program's statements are some hundred; more would mean that somebody writes values into the text. */
const TEXTS_MAX = 1_000;

export class HotStatements {
  readonly #runs = new Map<string, number>();
  readonly #names = new Map<string, string>();

  /** The name to send a statement with parameters under; `undefined` while it is not hot. */
  nameOf(text: string): string | undefined {
    const known = this.#names.get(text);
    if (known !== undefined) return known;
    const runs = (this.#runs.get(text) ?? 0) + 1;
    if (runs < RUNS_MIN) {
      if (this.#runs.size < TEXTS_MAX) this.#runs.set(text, runs);
      return undefined;
    }
    this.#runs.delete(text);
    const name = `hot_${this.#names.size + 1}`;
    this.#names.set(text, name);
    return name;
  }
}
