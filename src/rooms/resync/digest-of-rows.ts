/** The digest of a state whose ids are not in memory as strings: sorted in parts, by how they begin. */
import { setImmediate as turn } from 'node:timers/promises';
import { type EventIdTable } from '../../columns/event-id-table.ts';
import { startStateDigest } from '../../matrix/state-digest.ts';

/** Units that ids are told apart by; those beyond count as one, and are sorted within their part. */
const UNITS = 128;
/** Ids sorted before others get their turn: some 10 ms. */
const SORTED_A_TURN = 10_000;

/** As `stateDigest`, of the ids of these rows, each once. */
export async function digestOfRows(ids: EventIdTable, rows: Uint32Array): Promise<string> {
  // Ids are hashes after their `$`: of a million 250 begin with the same two letters.
  const partOf = (row: number): number => {
    const first = Math.min(ids.unitAt(row, 1), UNITS - 1);
    return first * UNITS + (first === UNITS - 1 ? 0 : Math.min(ids.unitAt(row, 2), UNITS - 1));
  };
  const ends = new Uint32Array(UNITS * UNITS);
  for (const row of rows) {
    const part = partOf(row);
    ends[part] = (ends[part] ?? 0) + 1;
  }
  let end = 0;
  ends.forEach((size, part) => (ends[part] = end += size));
  const starts = ends.slice();
  const inOrder = new Uint32Array(rows.length);
  for (const row of rows) {
    const part = partOf(row);
    const to = (starts[part] ?? 0) - 1;
    starts[part] = to;
    inOrder[to] = row;
  }
  const digest = startStateDigest();
  let sorted = 0;
  for (const [part, start] of starts.entries()) {
    const some = inOrder.subarray(start, ends[part]);
    if (some.length === 0) continue;
    digest.add(Array.from(some, (row) => ids.idOf(row)));
    sorted += some.length;
    if (sorted < SORTED_A_TURN) continue;
    sorted = 0;
    await turn();
  }
  return digest.finish();
}
