/**
 * The tables that are folds of the journal, and what of them is: a rebuild (rebuild.ts) makes them anew from the recorded
 * entries and compares. What is written beside the journal has its reason here, column by column.
 */

import { UNFOLLOWED } from './unfollowed.ts';

/** When a value of a live row, `l`, contradicts the one that was folded again, `r`. */
export type ColumnCheck = { readonly differs: string } | { readonly noFold: string };

export interface FoldTable {
  readonly name: string;
  readonly key: readonly string[];
  /** All columns but those of the key. */
  readonly columns: Readonly<Record<string, ColumnCheck>>;
  /** When a row that only one side has contradicts the other; absent: always. `$schema` is that of the live tables. */
  readonly lone?: string;
  /** Present: its rows are no fold, though folds write some, or take some away. */
  readonly noFold?: string;
  /** The rows of the table called `$table` that are compared in room `$1`; absent: those that name the room. */
  readonly rows?: string;
}

/** The value is the same on both sides. */
const same = (column: string): ColumnCheck => ({ differs: `l.${column} IS DISTINCT FROM r.${column}` });
const allSame = (...columns: readonly string[]): Record<string, ColumnCheck> =>
  Object.fromEntries(columns.map((column) => [column, same(column)]));
/** Readers may fill it in, or an entry of today's code may know what an older one did not: it is compared where both know it. */
const whereBothKnow = (column: string): ColumnCheck => ({ differs: `l.${column} <> r.${column}` });
const noFold = (why: string): ColumnCheck => ({ noFold: why });

const TRIED = noFold('written by who asks for the state at the gap, as often as it is tried');
const CALLED = (column: string): ColumnCheck => ({
  differs: `l.members IS NOT NULL AND r.members IS NOT NULL AND l.${column} IS DISTINCT FROM r.${column}`,
});

export const FOLD_TABLES: readonly FoldTable[] = [
  {
    name: 'rooms',
    key: ['room_id'],
    columns: {
      ...allSame('room_version', 'epoch', 'state_version', 'partial', 'current_state', 'join_event_id', 'joined_via'),
      ...allSame('resync_seq', 'timeline_seq', 'purged_to'),
      // Not known while a body is missing, and filled in by the next reader (room-summaries.ts).
      members: whereBothKnow('members'),
      invited: whereBothKnow('invited'),
      name: CALLED('name'),
      canonical_alias: CALLED('canonical_alias'),
      collected_at: noFold('when the maintenance was there last'),
    },
  },
  {
    name: 'resyncs',
    key: ['room_id', 'epoch'],
    columns: {
      ...allSame('seq', 'phase', 'next_wake_at', 'purge_at'),
      // JSON has no equality of its own, and `jsonb` refuses what strings may hold: our own text of it is compared.
      state: { differs: 'l.state::text IS DISTINCT FROM r.state::text' },
      rung_at: noFold('when the sweep rang'),
      wanted_at: noFold('when somebody waited for it'),
      waiters: noFold('and how many did'),
    },
  },
  {
    name: 'event_states',
    key: ['event_nid'],
    columns: {
      ...allSame('event_id', 'room_id', 'epoch', 'position', 'state_before', 'state_after', 'verdict', 'soft_failed'),
      ...allSame('covered', 'rule', 'reason', 'partial', 'auth_state', 'shown_at'),
      // Those of outliers, on which it rests, may have become known since.
      auth_depth: whereBothKnow('auth_depth'),
    },
  },
  { name: 'anchors', key: ['room_id', 'event_id'], columns: allSame('epoch', 'state_after', 'partial', 'assumed') },
  {
    name: 'gaps',
    key: ['room_id', 'event_id'],
    columns: {
      ...allSame('epoch', 'origin', 'opened_at'),
      // When it is tried next is of who tries; whether at all is journalled.
      wake_at: { differs: '(l.wake_at IS NULL) <> (r.wake_at IS NULL)' },
      attempts: TRIED,
      begins: TRIED,
      begun_until: TRIED,
      last_resident: TRIED,
      last_failure: TRIED,
      last_reason: TRIED,
    },
  },
  {
    name: 'room_servers',
    key: ['room_id', 'server_name'],
    columns: {
      source: same('source'),
      // Since when a server speaks was read off the clock while what it said was appended: a rebuild writes 0.
      since: { differs: 'r.since <> 0 AND l.since <> r.since' },
    },
  },
  {
    name: 'event_edges',
    key: ['room_id', 'prev_event_id', 'event_id'],
    columns: {},
    // Earlier versions wrote what anchors cite, too.
    lone: `l.event_id IS NULL OR EXISTS (SELECT FROM event_states s WHERE s.event_id = l.event_id AND s.room_id = l.room_id)`,
  },
  { name: 'forward_extremities', key: ['room_id', 'event_id'], columns: {} },
  {
    name: 'current_states',
    key: ['room_id', 'position'],
    columns: allSame('state', 'partial'),
    // Of states from before this table those that were collected by then are left out.
    lone: `l.room_id IS NOT NULL
            OR EXISTS (SELECT FROM snapshot_chunks c WHERE c.room_id = r.room_id AND c.hash = r.state AND c.condemned_at IS NULL)`,
  },
  {
    name: 'former_members',
    key: ['room_id', 'user_id'],
    columns: {},
    noFold:
      'found in the difference of two states as the one is replaced, and the first of them may be collected by now',
  },
  { name: 'silent_leaves', key: ['room_id', 'user_id'], columns: allSame('left_at', 'settled_at') },
  { name: 'local_members', key: ['room_id', 'user_id'], columns: allSame('membership', 'event_id') },
  {
    name: 'missing_events',
    key: ['room_id', 'event_id'],
    columns: {},
    noFold:
      'a work list: whom to ask for what, and who was asked, noted at each answer; entries count what is missing, and name a few',
  },
  {
    name: 'left_out',
    key: ['room_id', 'event_id', 'anchor_id'],
    columns: {},
    noFold: 'up to 20,000 ids of an answer, which no entry repeats; the next answer about the anchor replaces them',
  },
  {
    name: 'awaited_events',
    key: ['room_id', 'event_id', 'awaited_by'],
    columns: {},
    noFold: 'as `left_out`: ids of an answer, which no entry repeats',
  },
  {
    // What is left of work that entries make: a row goes, and no entry says so, when what rests on the change is known. So each
    // that is there must come of an entry, and of none before the last one about it; and where one is there no more, what rests on
    // the change has followed it, or is due itself.
    name: 'correction_causes',
    key: ['room_id', 'event_id'],
    columns: {
      cause: { differs: 'l.cause < r.cause' },
      verdict: noFold('also set where a verdict is noted once more, beside the journal (changed-since.ts)'),
      states: noFold('gathers what changed since the row was last worked off'),
      anchors: noFold('whether the states at anchors were looked at'),
      guess_ended: { differs: 'l.guess_ended IS NOT NULL AND l.guess_ended IS DISTINCT FROM r.guess_ended' },
      looked_to: noFold('how far the room was looked through for what rests on it'),
      since: noFold('read off the clock'),
    },
    // First verdicts on what states lacked, and on what was an outlier: whether they were waited for is in no entry.
    lone: `CASE WHEN r.event_id IS NULL THEN l.states AND NOT EXISTS (
                     SELECT FROM journal j WHERE j.position = l.cause
                        AND j.type IN ('PduAccepted', 'PduRejected', 'EventUnPartialStated'))
                ELSE r.event_id IN (${UNFOLLOWED}) END`,
  },
  {
    name: 'correction_targets',
    key: ['room_id', 'event_id'],
    columns: {},
    noFold:
      'a work list: found by looking at what rests on a change at that moment, worked off by a look that may find nothing changed',
  },
  {
    // First verdicts are no journal entries, and are taken over where entries are about an event or one that cites it.
    name: 'outlier_verdicts',
    key: ['event_nid'],
    columns: { ...allSame('verdict', 'rule', 'reason'), auth_depth: noFold('worked out with the first verdict') },
    rows: `SELECT p.room_id, o.* FROM $table o JOIN pdus p ON p.nid = o.event_nid
            WHERE p.room_id = $1 AND o.event_nid IN (SELECT event_nid FROM pg_temp.outlier_verdicts)`,
  },
];
