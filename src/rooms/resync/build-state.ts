/** Folds what is accepted of a resident's answer into a snapshot. It works with numbers of events: a state may have a million. */
import { bytes } from '../../columns/column.ts';
import { stateNeededToAuthorise } from '../../matrix/auth/auth-events.ts';
import { authoriseAgainstState } from '../../matrix/auth/auth-rules.ts';
import { type EventId } from '../../matrix/identifiers.ts';
import { type Pdu } from '../../matrix/pdu.ts';
import { stateMapKey } from '../../matrix/state-map.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type Sql } from '../../store/open-store.ts';
import { inPages } from '../../store/pages.ts';
import { trieKey } from '../../store/snapshots/snapshot-trie.ts';
import { createSnapshotOf, readNumbers } from '../../store/snapshots/snapshots.ts';
import { type OutlierTable } from '../judge/outlier-table.ts';
import { digestOfRows } from './digest-of-rows.ts';
import { fallenWith } from './unjudged.ts';
import { type WantedEvents } from './wanted-events.ts';

/** Events whose numbers are looked up at a time. */
const NUMBERS_READ = 10_000;

/** What becomes of an event that the answer names: bits of its mark. */
const PLACED = 1;
const DROPPED = 2;
const FELL = 4;

/** The state that a resident named, by rows of the answer's events (wanted-events.ts). */
export interface NamedState {
  /** Each event once, in the order in which they were named. */
  readonly rows: Uint32Array;
  /** The event after which the state is, to be added where it is one of a state; `undefined`: it is not. */
  readonly atEventId: EventId | undefined;
}

export interface BuiltState {
  readonly snapshotId: SnapshotId;
  readonly digest: string;
  readonly members: number;
  /** Not usable, refused, no state event, or a second one for its place. */
  readonly dropped: number;
  readonly fell: number;
  /** State events, as far as they are had, that the answer names and this state does not hold. */
  readonly leftOut: readonly EventId[];
}

/** One event a (type, state_key): of two the one that was named first, and before all the one after which the state is. */
export async function buildState(
  sql: Sql,
  { rows, atEventId }: NamedState,
  judged: OutlierTable,
  wanted: WantedEvents,
): Promise<BuiltState> {
  const { ids } = judged;
  const marks = createMarks();
  for (const eventId of wanted.dropped()) marks.add(ids.add(eventId), DROPPED);
  const missing = wanted.goneWithout();
  const fallen = fallenWith(judged, missing);
  const leaveOut = (row: number): void => {
    const eventId = ids.idOf(row);
    if (fallen.has(eventId)) marks.add(row, FELL);
    else if (!missing.has(eventId)) marks.add(row, DROPPED);
  };
  const accepted = rows.filter((row) => {
    const isUsable = judged.verdictAt(row) === 'accepted' && judged.isStateAt(row);
    if (!isUsable) leaveOut(row);
    return isUsable;
  });
  await numberAll(sql, judged, accepted);
  let placed = firstOfPlaces(judged, accepted, (second) => marks.add(second, DROPPED));

  // The answer is the state before the event; what builds on it comes after it.
  const at = atEventId === undefined ? undefined : rowOfState(judged, atEventId);
  let isAtNamed = false;
  if (at !== undefined) {
    const isAccepted = judged.verdictAt(at) === 'accepted';
    // Outside the timeline only check 4 is made of an event; of this one the state is here that check 5 asks for.
    const isRefused = missing.size === 0 && !isAllowedBy(judged, at, placed);
    isAtNamed = !isAccepted || !isRefused;
    if (!isAccepted) leaveOut(at);
    else if (isRefused) marks.add(at, DROPPED);
    else placed = await withEvent(sql, judged, placed, at);
  }

  let members = 0;
  for (const row of placed) {
    marks.add(row, PLACED);
    if (judged.isJoinAt(row)) members += 1;
  }
  const leftOut: EventId[] = [];
  const noteLeftOut = (row: number): void => {
    const isNoState = judged.verdictAt(row) !== undefined && !judged.isStateAt(row);
    if (!marks.has(row, PLACED) && !isNoState) leftOut.push(ids.idOf(row));
  };
  rows.forEach(noteLeftOut);
  if (at !== undefined && isAtNamed && !rows.includes(at)) noteLeftOut(at);
  const snapshotId = await createSnapshotOf(sql, judged.roomId, {
    keys: keysOf(judged, placed),
    values: Float64Array.from(placed, (row) => judged.nidAt(row) ?? 0),
  });
  const digest = await digestOfRows(ids, placed);
  return { snapshotId, digest, members, dropped: marks.count(DROPPED), fell: marks.count(FELL), leftOut };
}

/** Bits by row, and how many rows have each. */
function createMarks() {
  const column = bytes();
  const counts = new Map<number, number>();
  return {
    add(row: number, bit: number): void {
      const before = column.get(row);
      if ((before & bit) !== 0) return;
      column.set(row, before | bit);
      counts.set(bit, (counts.get(bit) ?? 0) + 1);
    },
    has: (row: number, bit: number): boolean => (column.get(row) & bit) !== 0,
    count: (bit: number): number => counts.get(bit) ?? 0,
  };
}

/** The row of an event that is here and one of a state. */
function rowOfState(judged: OutlierTable, eventId: EventId): number | undefined {
  const row = judged.ids.rowOf(eventId);
  return row !== undefined && judged.verdictAt(row) !== undefined && judged.isStateAt(row) ? row : undefined;
}

/** Looks up the numbers that are not known: of what was held before, or stored with few others. */
async function numberAll(sql: Sql, judged: OutlierTable, rows: Iterable<number>): Promise<void> {
  function* unknown(): Generator<EventId, void, undefined> {
    for (const row of rows) {
      if (judged.nidAt(row) === undefined || judged.stateKeyNidAt(row) === undefined) yield judged.ids.idOf(row);
    }
  }
  for (const page of inPages(unknown(), NUMBERS_READ)) {
    for (const [eventId, { nid, stateKeyNid }] of await readNumbers(sql, judged.roomId, page)) {
      judged.number(judged.ids.add(eventId), nid, stateKeyNid);
    }
  }
}

function keyOf(judged: OutlierTable, row: number): number {
  return trieKey(judged.stateKeyNidAt(row) ?? 0, judged.typeAt(row) === 'm.room.member');
}

function keysOf(judged: OutlierTable, rows: Uint32Array): Float64Array {
  return Float64Array.from(rows, (row) => keyOf(judged, row));
}

/** One event for each place, of numbered ones: the first. */
function firstOfPlaces(judged: OutlierTable, rows: Uint32Array, onSecond: (row: number) => void): Uint32Array {
  const sorted = keysOf(judged, rows).sort();
  const twice = new Set<number>();
  for (let i = 1; i < sorted.length; i += 1) {
    const [key, before] = [sorted[i], sorted[i - 1]];
    if (key !== undefined && key === before) twice.add(key);
  }
  // An honest answer has none.
  if (twice.size === 0) return rows;
  const taken = new Set<number>();
  return rows.filter((row) => {
    const key = keyOf(judged, row);
    if (!twice.has(key)) return true;
    if (taken.has(key)) onSecond(row);
    const isFirst = !taken.has(key);
    taken.add(key);
    return isFirst;
  });
}

/** Whether the state allows the event (check 5). */
function isAllowedBy(judged: OutlierTable, at: number, placed: Uint32Array): boolean {
  const { rules } = judged;
  const event = judged.viewAt(at);
  const state = new Map<string, Pdu>();
  for (const { type, stateKey } of stateNeededToAuthorise(event, rules)) {
    const row = placed.find((one) => judged.isOfPlaceAt(one, type, stateKey));
    if (row !== undefined) state.set(stateMapKey(type, stateKey), judged.viewAt(row));
  }
  return authoriseAgainstState(event, (type, stateKey) => state.get(stateMapKey(type, stateKey)), rules).ok;
}

/** The state with this event in its place. */
async function withEvent(sql: Sql, judged: OutlierTable, placed: Uint32Array, at: number): Promise<Uint32Array> {
  await numberAll(sql, judged, [at]);
  const key = keyOf(judged, at);
  const others = placed.filter((row) => keyOf(judged, row) !== key);
  const all = new Uint32Array(others.length + 1);
  all.set(others);
  all[others.length] = at;
  return all;
}
