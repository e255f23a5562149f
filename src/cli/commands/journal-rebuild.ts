/** `rejoinder journal rebuild`: folds what was journalled once more, and says what the tables hold otherwise. */
import { loadConfig, requireSetting } from '../../config.ts';
import { type Environment } from '../../config/sources.ts';
import { parseRoomId } from '../../matrix/identifiers.ts';
import { type TableDifference } from '../../store/journal/compare-folds.ts';
import { type RoomRebuilt, rebuildFolds } from '../../store/journal/rebuild.ts';
import { checkSchema } from '../../store/migrate.ts';
import { openStore } from '../../store/open-store.ts';
import { CliError } from '../failure.ts';
import { type Output, printable } from '../output.ts';

/** Rows shown of a table that differs: enough to see of what kind the difference is. */
const ROWS_SHOWN = 5;

export interface RebuildOptions {
  readonly env: Environment;
  readonly config?: string | undefined;
  /** Absent: all rooms. */
  readonly room?: string | undefined;
  readonly json: boolean;
  readonly stop: AbortSignal;
}

/**
 * Prints each room that differs as it is found, and a line about all. As JSON: a line a room that differs.
 *
 * @throws CliError when something differs
 */
export async function rebuildJournal(options: RebuildOptions, output: Output): Promise<void> {
  const roomId = options.room === undefined ? undefined : parseRoomId(options.room);
  if (options.room !== undefined && roomId === undefined) {
    throw new CliError(`${options.room} is no room id`, { exitCode: 2 });
  }
  const config = loadConfig({ path: options.config, env: options.env });
  const store = openStore({
    databaseUrl: requireSetting(config.database.url, 'database.url', 'the URL of a PostgreSQL database'),
    serverName: config.serverName,
    poolSizeMax: 1,
    applicationName: 'rejoinder journal',
  });
  try {
    await checkSchema(store);
    const sums = { rooms: 0, entries: 0, differing: 0 };
    const query = { ...(roomId === undefined ? {} : { roomId }), rowsMax: ROWS_SHOWN, signal: options.stop };
    for await (const room of rebuildFolds(store, query)) {
      sums.rooms += 1;
      sums.entries += room.entries;
      output.status(`${sums.rooms} rooms, ${sums.entries} entries`);
      if (room.differences.length === 0 && room.unfoldable === undefined) continue;
      sums.differing += 1;
      if (options.json) await output.raw(`${JSON.stringify(room)}\n`);
      else printRoom(room, output);
    }
    output.status();
    const folded = `${sums.rooms} room(s), ${sums.entries} journal entries folded again`;
    if (sums.differing > 0) {
      throw new CliError(`${folded}: the tables differ, or could not be compared, in ${sums.differing} room(s)`);
    }
    if (!options.json) output.line(`${folded}: the tables hold the same.`);
  } finally {
    await store.close();
  }
}

function printRoom({ roomId, entries, position, differences, unfoldable }: RoomRebuilt, output: Output): void {
  output.line(`${printable(roomId)} (${entries} entries, at position ${position})`);
  if (unfoldable !== undefined) {
    output.line(`  not compared: the folds of today make nothing of ${printable(unfoldable)}`);
  }
  for (const difference of differences) printTable(difference, output);
}

function printTable({ table, rows, first }: TableDifference, output: Output): void {
  output.line(`  ${table}: ${rows} row(s)`);
  for (const { key, only, columns = {} } of first) {
    output.line(`    ${printable(key.join(' '))}${only === undefined ? '' : `: only ${ONLY[only]}`}`);
    for (const [column, { live, rebuilt }] of Object.entries(columns)) {
      output.line(`      ${column}: ${shown(live)}, and ${shown(rebuilt)} by the journal`);
    }
  }
  if (rows > first.length) output.line(`    and ${rows - first.length} more`);
}

const ONLY = { live: 'in the table', rebuilt: 'by the journal' } as const;

function shown(value: string | null): string {
  return value === null ? 'nothing' : printable(value);
}
