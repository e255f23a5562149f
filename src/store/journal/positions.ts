/**
 * The one counter: whatever a client can see has a position from the row of `journal_head`, entries of the journal and rows
 * of plain tables alike. Positions rise in the order of commits, so whoever has seen what there is up to one has missed
 * nothing before it. None is given twice, also where a crash of PostgreSQL has lost some (recoveries.ts); a reader of one table meets gaps,
 * where others took theirs.
 *
 * They are taken with a transaction's last statement, which travels in one message with COMMIT, and which tells those who
 * wait for what it writes about: they look for themselves (notify.ts).
 */
import { invariant } from '../../invariant.ts';
import { type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type Sql, type Transaction } from '../open-store.ts';
import { textArray } from '../sql-values.ts';
import { LEAVING_OUT } from './recoveries.ts';

/** The channel on which `position topic` is sent, the last position of what was written. */
export const NOTIFY_CHANNEL = 'rejoinder';

/** What somebody may wait for: an append to a room, or something about a user. The sigil tells them apart. */
export type Topic = RoomId | UserId;

/**
 * The CTE `head (base)`, which takes as many positions as the SQL `count` says; the first of them is `base + 1`. From here to
 * COMMIT all others who take some wait.
 */
export function takingPositions(count: string): string {
  return `head AS (UPDATE journal_head SET position = position + ${LEAVING_OUT} + ${count} RETURNING position - ${count} AS base)`;
}

/** A column of `head` that notifies of `topics`, an array in SQL. */
export function notifying(count: string, topics: string): string {
  return `(SELECT count(pg_notify('${NOTIFY_CHANNEL}', (head.base + ${count}) || ' ' || topic)) FROM unnest(${topics}) AS topic)`;
}

/** Tells those who wait for these topics to look, for what was written before. */
export async function tellTopics(sql: Sql, topics: readonly Topic[]): Promise<void> {
  if (topics.length === 0) return;
  await sql.query(
    `SELECT count(pg_notify('${NOTIFY_CHANNEL}', head.position || ' ' || topic)) AS told
       FROM journal_head head, unnest($1::text[]) AS topic`,
    [textArray(topics)],
  );
}

/** A write of rows that have positions. */
export interface PositionedWrite {
  /** Of the statement: of one text only in the whole program. */
  readonly name: string;
  /** Writes the rows. It may read `head (base)`: the first position is `base + 1`. */
  readonly text: string;
  /** Writes rows of another table, as `text` does and with the same values, in the same statement. */
  readonly besides?: string;
  /** `$3`, `$4`, … of the text, in PostgreSQL's text form. */
  readonly values: readonly (string | null)[];
  readonly count: number;
  /** Who is told once it is durable. */
  readonly topics: readonly Topic[];
  /** Given the position before the first one, once that is known. */
  readonly onTaken?: (base: number) => void;
}

/**
 * Takes positions for rows of plain tables and writes these, as the last statement of a transaction: it is sent with COMMIT, or
 * with the next statement. What else the transaction has to lock is locked before.
 */
export function takePositions(tx: Transaction, write: PositionedWrite): void {
  const { name, text, besides, values, count, topics, onTaken } = write;
  tx.queryLast({
    statement: {
      name,
      text: `WITH ${takingPositions('$1::int')}, written AS (${text})${besides === undefined ? '' : `, besides AS (${besides})`}
             SELECT base, ${notifying('$1::int', '$2::text[]')} FROM head`,
    },
    values: [String(count), textArray(topics), ...values],
    onRows: ([head]) => {
      invariant(head, 'journal_head has its row');
      onTaken?.(Number(head[0]));
    },
    translate: (error) => error,
  });
}
