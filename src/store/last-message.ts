/**
 * The last statement of a transaction and its COMMIT, in one message. What the statement locks, such as `journal_head`, is
 * then held for no round trip and for no turn of this process's event loop.
 *
 * It is one group of the extended protocol, closed by one Sync: when the statement fails, PostgreSQL skips the rest of the
 * group, so COMMIT never runs after an error (https://www.postgresql.org/docs/current/protocol-flow.html). The driver has
 * no such group: its queries are sent one after the other, or each with a Sync of its own.
 */
import type pg from 'pg';
import { invariant } from '../invariant.ts';

/** A statement that PostgreSQL parses once a connection, under its name. */
export interface Statement {
  /** Of one text only, in the whole program, and none of hot-statements.ts. */
  readonly name: string;
  readonly text: string;
}

/** What the driver keeps of a connection, by the names of statements; its types leave it out. */
interface Connection extends pg.Connection {
  readonly parsedStatements: Record<string, string | undefined>;
  readonly submittedNamedStatements: Record<string, string | undefined>;
}

/** A row in the text form of the protocol; `null`: SQL's NULL. */
export type TextRow = readonly (string | null)[];

class LastMessage implements pg.Submittable {
  /** `text` and `values` are what a tracer shows; by `name` the driver keeps account of what is parsed. */
  readonly name: string;
  readonly text: string;
  readonly values: readonly (string | null)[];
  /** The driver and its tracer put theirs around it. */
  callback: (error: Error | null, rows?: readonly TextRow[]) => void;
  readonly #isLast: boolean;
  readonly #rows: TextRow[] = [];
  #tag = '';

  constructor(
    statement: Statement,
    values: readonly (string | null)[],
    isLast: boolean,
    callback: LastMessage['callback'],
  ) {
    this.name = statement.name;
    this.text = statement.text;
    this.values = values;
    this.#isLast = isLast;
    this.callback = callback;
  }

  readonly submit = (plain: pg.Connection): void => {
    const connection = plain as Connection;
    const { name, text } = this;
    connection.stream.cork();
    try {
      if ((connection.parsedStatements[name] ?? connection.submittedNamedStatements[name]) === undefined) {
        connection.parse({ name, text, types: [] }, true);
        connection.submittedNamedStatements[name] = text;
      }
      connection.bind({ statement: name, values: [...this.values] }, true);
      connection.execute({}, true);
      if (this.#isLast) {
        connection.parse({ name: '', text: 'COMMIT', types: [] }, true);
        connection.bind({}, true);
        connection.execute({}, true);
      }
      connection.sync();
    } finally {
      connection.stream.uncork();
    }
  };

  handleDataRow({ fields }: { readonly fields: TextRow }): void {
    this.#rows.push(fields);
  }

  handleCommandComplete({ text }: { readonly text: string }): void {
    this.#tag = text;
  }

  handleReadyForQuery(): void {
    // PostgreSQL answers ROLLBACK to the COMMIT of a transaction that had failed before.
    if (this.#isLast && this.#tag !== 'COMMIT') this.callback(new Error(`COMMIT was answered with ${this.#tag}`));
    else this.callback(null, this.#rows);
  }

  handleError(error: Error): void {
    this.callback(error);
  }
}

/**
 * Runs a statement and, where `isLast`, COMMIT behind it; resolves with the statement's rows once both are done. Rejects
 * with PostgreSQL's error; the transaction is then to be rolled back.
 */
export function sendLast(
  client: pg.PoolClient,
  statement: Statement,
  values: readonly (string | null)[],
  isLast: boolean,
): Promise<readonly TextRow[]> {
  return new Promise((resolve, reject) => {
    client.query(
      new LastMessage(statement, values, isLast, (error, rows) => {
        if (error === null) {
          invariant(rows, 'a message without an error has rows');
          resolve(rows);
        } else {
          reject(error);
        }
      }),
    );
  });
}
