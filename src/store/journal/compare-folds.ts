/** Compares the tables that are folds, as they are and as they were folded again, a room at a time (rebuild.ts). */
import { type RoomId } from '../../matrix/identifiers.ts';
import { type ResyncState, asResyncState } from '../../resync/state.ts';
import { type Transaction } from '../open-store.ts';
import { FOLD_TABLES, type FoldTable } from './fold-tables.ts';

/** What one table says of a room that its journal does not, or the other way round. */
export interface TableDifference {
  readonly table: string;
  /** Rows that differ, or that only one side has. */
  readonly rows: number;
  /** The first few, by their key. */
  readonly first: readonly RowDifference[];
}

export interface RowDifference {
  /** As text, in the order of the table's key. */
  readonly key: readonly string[];
  readonly only?: 'live' | 'rebuilt';
  /** Of a row that both sides have, the columns that differ; as text. */
  readonly columns?: Readonly<Record<string, { readonly live: string | null; readonly rebuilt: string | null }>>;
}

interface CompareQuery {
  readonly roomId: RoomId;
  /** Of the live tables. */
  readonly schema: string;
  readonly rowsMax: number;
}

/** The tables of a room in which the live rows are others than those that the open transaction has folded. */
export async function compareFolds(tx: Transaction, query: CompareQuery): Promise<TableDifference[]> {
  const differences: TableDifference[] = [];
  for (const table of FOLD_TABLES) {
    if (table.noFold !== undefined) continue;
    await tx.query(`ANALYZE pg_temp.${table.name}`);
    const difference = await compareTable(tx, query, table);
    if (difference !== undefined) differences.push(difference);
  }
  return differences;
}

interface Check {
  readonly column: string;
  readonly differs: string;
}

type FoundRow = Readonly<Record<string, string | boolean | null>> & { readonly rows: number };

async function compareTable(
  tx: Transaction,
  { roomId, schema, rowsMax }: CompareQuery,
  table: FoldTable,
): Promise<TableDifference | undefined> {
  const checks = Object.entries(table.columns).flatMap(([column, check]) =>
    'differs' in check ? [{ column, differs: check.differs }] : [],
  );
  const key = table.key.join(', ');
  const columns = [
    ...table.key.map((column, i) => `coalesce(l.${column}, r.${column})::text AS "key${i}"`),
    ...checks.flatMap(({ column, differs }, i) => [
      `${differs} AS "differs${i}", l.${column}::text AS "live${i}", r.${column}::text AS "rebuilt${i}"`,
    ]),
  ];
  // Whoever is told of a state is told which of its fields differ, and rows of older code may lack fields.
  const isState = table.name === 'resyncs';
  const found = await tx.query<FoundRow>(
    `SELECT count(*) OVER () AS rows, l.room_id IS NOT NULL AS "inLive", r.room_id IS NOT NULL AS "inRebuilt",
            ${columns.join(', ')}
       FROM (${rowsOf(table, schema)}) AS l FULL JOIN (${rowsOf(table, 'pg_temp')}) AS r USING (${key})
      WHERE CASE WHEN l.room_id IS NULL OR r.room_id IS NULL THEN ${table.lone?.replaceAll('$schema', schema) ?? 'true'}
                 ELSE ${['false', ...checks.map(({ differs }) => `(${differs})`)].join(' OR ')} END
      ORDER BY ${key} LIMIT $2`,
    [roomId, isState ? null : rowsMax],
  );
  const shown = found.map((row) => differenceOf(row, table, checks)).filter((row) => row !== undefined);
  const rows = isState ? shown.length : (found[0]?.rows ?? 0);
  return shown.length === 0 ? undefined : { table: table.name, rows, first: shown.slice(0, rowsMax) };
}

function rowsOf({ name, rows = 'SELECT * FROM $table WHERE room_id = $1' }: FoldTable, schema: string): string {
  return rows.replace('$table', `${schema}.${name}`);
}

function differenceOf(row: FoundRow, table: FoldTable, checks: readonly Check[]): RowDifference | undefined {
  const key = table.key.map((_, i) => String(row[`key${i}`]));
  if (row['inRebuilt'] === false) return { key, only: 'live' };
  if (row['inLive'] === false) return { key, only: 'rebuilt' };
  const columns: Record<string, { live: string | null; rebuilt: string | null }> = {};
  for (const [i, { column }] of checks.entries()) {
    if (row[`differs${i}`] !== true) continue;
    const [live, rebuilt] = [row[`live${i}`] as string | null, row[`rebuilt${i}`] as string | null];
    if (table.name === 'resyncs' && column === 'state') Object.assign(columns, stateDifferences(live, rebuilt));
    else columns[column] = { live, rebuilt };
  }
  return Object.keys(columns).length === 0 ? undefined : { key, columns };
}

function stateDifferences(live: string | null, rebuilt: string | null): NonNullable<RowDifference['columns']> {
  const [before, after] = [live, rebuilt].map((text) =>
    asResyncState(text === null ? null : (JSON.parse(text) as ResyncState)),
  );
  const fields = Object.keys({ ...before, ...after }) as (keyof ResyncState)[];
  return Object.fromEntries(
    fields.flatMap((field) => {
      const [was, is] = [JSON.stringify(before?.[field]), JSON.stringify(after?.[field])];
      return was === is ? [] : [[`state.${field}`, { live: was, rebuilt: is }]];
    }),
  );
}
