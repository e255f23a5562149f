/**
 * The statement that writes journal entries, with the rows that need their positions and the notification. It is the last one
 * of its transaction, and travels in one message with COMMIT.
 */
import { invariant } from '../../invariant.ts';
import { type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type JournalStream } from '../../resync/events.ts';
import { type Transaction, constraintOf } from '../open-store.ts';
import { NOW_MS, booleanArray, int8Array, textArray } from '../sql-values.ts';
import { type JournalEvent, isOutgoing } from '../../resync/entries.ts';
import { type Folded } from './fold-entries.ts';
import { type EventStateRow } from './fold-timeline.ts';
import { notifying, takingPositions } from './positions.ts';
import { type LockedRoom } from './rooms.ts';

/** What is appended was journalled before, by somebody else or by an earlier try of the same work. */
export class AlreadyJournalledError extends Error {
  override readonly name = 'AlreadyJournalledError';
}

/**
 * Rows of `event_states` for what `entry` takes into the timeline of room `$1` in epoch `$2`; their columns are the arrays from
 * `$first` on, as `rowValues` gives them.
 */
function insertJudged(first: number): string {
  const at = (column: number): string => `$${first + column}`;
  return `
    INSERT INTO event_states (event_nid, event_id, room_id, epoch, position, state_before, state_after, verdict,
                              soft_failed, rule, reason, partial, auth_depth, auth_state, covered, shown_at)
    SELECT s.event_nid, s.event_id, $1, $2, entry.position, decode(s.state_before, 'hex'), decode(s.state_after, 'hex'),
           s.verdict, s.soft_failed, s.rule, s.reason, s.partial, s.auth_depth,
           s.auth_state::bigint[], s.covered,
           CASE WHEN s.verdict = 'accepted' AND NOT s.soft_failed THEN entry.position END
      FROM unnest(${at(0)}::bigint[], ${at(1)}::text[], ${at(2)}::text[], ${at(3)}::text[], ${at(4)}::text[],
                  ${at(5)}::boolean[], ${at(6)}::text[], ${at(7)}::text[], ${at(8)}::boolean[], ${at(9)}::int[],
                  ${at(10)}::text[], ${at(11)}::boolean[])
           AS s(event_nid, event_id, state_before, state_after, verdict, soft_failed, rule, reason, partial, auth_depth,
                auth_state, covered)
      JOIN entry ON entry.event_id = s.event_id AND entry.type IN ('PduAccepted', 'PduRejected')
    ON CONFLICT (event_nid) DO UPDATE
       SET (epoch, position, state_before, state_after, verdict, soft_failed, rule, reason, partial, auth_depth, auth_state,
            covered, shown_at) =
           (excluded.epoch, excluded.position, excluded.state_before, excluded.state_after, excluded.verdict,
            excluded.soft_failed, excluded.rule, excluded.reason, excluded.partial, excluded.auth_depth, excluded.auth_state,
            excluded.covered, excluded.shown_at)`;
}

/** Shows events of room `$1` that `shown` gives with the position of the entry which accepts them after all. */
function showAccepted(shown: string): string {
  return `
    UPDATE event_states e SET shown_at = s.position
      FROM (${shown}) AS s(event_id, position)
     WHERE e.event_id = s.event_id AND e.room_id = $1 AND e.verdict = 'accepted' AND NOT e.soft_failed`;
}

/** Rows of `current_states` of room `$1` for what `moved` gives: position, state, and whether the room is partial. */
function insertCurrentStates(moved: string): string {
  return `
    INSERT INTO current_states (room_id, position, state, partial)
    SELECT $1, m.position, decode(m.state, 'hex'), m.partial FROM (${moved}) AS m(position, state, partial)`;
}

/** Rows of `correction_causes` in room `$1` for what `changed` gives: event, position of its cause, the two marks, and where a guess ended. */
function insertCauses(changed: string): string {
  return `
    INSERT INTO correction_causes AS c (room_id, event_id, cause, verdict, states, anchors, since, guess_ended)
    SELECT $1, d.event_id, d.cause, d.verdict, d.states, d.verdict,
           ${NOW_MS}, d.guess_ended
      FROM (${changed}) AS d(event_id, cause, verdict, states, guess_ended)
    ON CONFLICT (room_id, event_id) DO UPDATE
       SET (cause, verdict, states, anchors, guess_ended, looked_to) =
           (excluded.cause, c.verdict OR excluded.verdict, c.states OR excluded.states, c.anchors OR excluded.anchors,
            coalesce(excluded.guess_ended, c.guess_ended),
            CASE WHEN excluded.verdict OR excluded.guess_ended IS NOT NULL THEN NULL ELSE c.looked_to END)`;
}

function rowValues(rows: readonly EventStateRow[]): string[] {
  return [
    int8Array(rows.map(({ eventNid }) => eventNid)),
    textArray(rows.map(({ eventId }) => eventId)),
    textArray(rows.map(({ stateBefore }) => stateBefore)),
    textArray(rows.map(({ stateAfter }) => stateAfter)),
    textArray(rows.map(({ verdict }) => verdict)),
    booleanArray(rows.map(({ softFailed }) => softFailed)),
    textArray(rows.map(({ rule }) => rule)),
    textArray(rows.map(({ reason }) => reason)),
    booleanArray(rows.map(({ partial }) => partial)),
    int8Array(rows.map(({ authDepth }) => authDepth)),
    textArray(rows.map(({ authState }) => authState)),
    booleanArray(rows.map(({ covered }) => covered)),
  ];
}

const WRITE_ENTRIES = {
  name: 'write_entries',
  text: `
  WITH ${takingPositions('$3::int')}, entry AS (
    SELECT head.base + e.ordinal AS position, e.*
      FROM head, unnest($4::text[], $5::bigint[], $6::text[], $7::text[], $8::int[], $9::text[], $10::bigint[])
           WITH ORDINALITY AS e(stream, seq, type, data, attempt_no, event_id, cause, ordinal)
  ), written AS (
    INSERT INTO journal (position, room_id, epoch, stream, seq, type, data, attempt_no, event_id, cause, recorded_at)
    SELECT position, $1, $2, stream, seq, type, data::json, attempt_no, event_id, cause,
           ${NOW_MS}
      FROM entry
  ), changed AS (
    ${insertCauses(
      `SELECT d.event_id, head.base + d.entry + 1, d.verdict, d.states, head.base + d.guess_ended + 1
         FROM head, unnest($11::text[], $12::bigint[], $13::boolean[], $14::boolean[], $35::bigint[])
              AS d(event_id, entry, verdict, states, guess_ended)`,
    )}
  ), judged AS (${insertJudged(15)}
  ), shown AS (
    ${showAccepted(
      `SELECT event_id, head.base + e.entry + 1 FROM head, unnest($28::text[], $29::bigint[]) AS e(event_id, entry)`,
    )}
  ), moved AS (
    ${insertCurrentStates(
      `SELECT head.base + c.entry + 1, c.state, c.partial
         FROM head, unnest($30::bigint[], $31::text[], $32::boolean[]) AS c(entry, state, partial)`,
    )}
  ), outgoing AS (
    INSERT INTO outgoing_events (position, room_id, event_id)
    SELECT position, $1, event_id FROM entry WHERE type = 'PduAccepted' AND event_id = ANY ($33::text[])
  ), outgoing_room AS (
    INSERT INTO outgoing_rooms (room_id, position, shared_out, leased_until)
    SELECT $1, head.base + $3::int, head.base, 0 FROM head
     WHERE cardinality($33::text[]) > 0
        OR $34::boolean AND EXISTS (SELECT FROM outgoing_rooms o WHERE o.room_id = $1)
    ON CONFLICT (room_id) DO UPDATE SET position = excluded.position
  )
  SELECT base, ${notifying('$3::int', '$1 || $27::text[]')} FROM head`,
};

interface Entry {
  readonly stream: JournalStream;
  readonly seq: number;
  readonly event: JournalEvent;
}

interface ToWrite extends Omit<Folded, 'moved' | 'resync'> {
  readonly entries: readonly Entry[];
  /** Told of it besides those who wait for the room. */
  readonly users: readonly UserId[];
}

/** From this statement to COMMIT, which comes with it, all other appends wait. Gives the position before the first entry. */
export function writeEntries(
  tx: Transaction,
  room: LockedRoom,
  { entries, users, rows, changes, shown, states }: ToWrite,
  onWritten: (base: number) => void,
): void {
  const events = entries.map(({ event }) => event);
  const values = [
    room.roomId,
    String(room.epoch),
    String(entries.length),
    textArray(entries.map(({ stream }) => stream)),
    int8Array(entries.map(({ seq }) => seq)),
    textArray(events.map(({ type }) => type)),
    textArray(events.map((event) => JSON.stringify(event))),
    int8Array(events.map((event) => ('attemptNo' in event ? event.attemptNo : null))),
    textArray(events.map((event) => ('eventId' in event ? event.eventId : null))),
    int8Array(events.map((event) => (event.type === 'VerdictChanged' ? event.cause : null))),
    textArray(changes.map(({ eventId }) => eventId)),
    int8Array(changes.map(({ entry }) => entry)),
    booleanArray(changes.map(({ verdict }) => verdict)),
    booleanArray(changes.map(({ states }) => states)),
    ...rowValues(rows),
    textArray(users),
    textArray(shown.map(({ eventId }) => eventId)),
    int8Array(shown.map(({ entry }) => entry)),
    int8Array(states.map(({ entry }) => entry)),
    textArray(states.map(({ state }) => state)),
    booleanArray(states.map(({ partial }) => partial)),
    // For others to get: what we said, and once a room is whole, who has missed it.
    textArray(events.flatMap((event) => (isOutgoing(event) ? [event.eventId] : []))),
    String(events.some(({ type }) => type === 'ResyncCompleted')),
    int8Array(changes.map(({ guessEnded }) => guessEnded)),
  ];
  tx.queryLast({
    statement: WRITE_ENTRIES,
    values,
    onRows: ([head]) => {
      invariant(head, 'journal_head has its row');
      onWritten(Number(head[0]));
    },
    translate: (error) => asAlreadyJournalled(room.roomId, error),
  });
}

/** The unique indexes of the journal that say "once" are named so that their names say what was there already. */
function asAlreadyJournalled(roomId: RoomId, error: unknown): unknown {
  const constraint = constraintOf(error);
  if (constraint?.startsWith('journal_one_') !== true) return error;
  const what = constraint.slice('journal_'.length).replaceAll('_', ' ');
  return new AlreadyJournalledError(`${roomId}: ${what}`, { cause: error });
}

const WRITE_JUDGED = `
  WITH entry AS (
    SELECT * FROM unnest($3::bigint[], $4::text[], $5::text[]) AS e(position, type, event_id)
  )
  ${insertJudged(6)}`;
const WRITE_CAUSES = insertCauses(
  'SELECT * FROM unnest($2::text[], $3::bigint[], $4::boolean[], $5::boolean[], $6::bigint[])',
);
const WRITE_SHOWN = showAccepted('SELECT * FROM unnest($2::text[], $3::bigint[])');
const WRITE_STATES = insertCurrentStates('SELECT * FROM unnest($2::bigint[], $3::text[], $4::boolean[])');

/** Writes the rows that need positions for entries that have theirs already: for a rebuild. */
export async function writeFolded(
  tx: Transaction,
  { roomId, epoch }: LockedRoom,
  entries: readonly { readonly position: number; readonly event: JournalEvent }[],
  { rows, changes, shown, states }: Omit<Folded, 'moved' | 'resync'>,
): Promise<void> {
  const positionOf = (entry: number | null): number | null =>
    entry === null ? null : (entries[entry]?.position ?? null);
  const positions = (folded: readonly { readonly entry: number }[]): string =>
    int8Array(folded.map(({ entry }) => positionOf(entry)));
  if (rows.length > 0) {
    const judged = entries.flatMap(({ position, event }) =>
      'eventId' in event ? [{ position, type: event.type, eventId: event.eventId }] : [],
    );
    await tx.query(WRITE_JUDGED, [
      roomId,
      epoch,
      int8Array(judged.map(({ position }) => position)),
      textArray(judged.map(({ type }) => type)),
      textArray(judged.map(({ eventId }) => eventId)),
      ...rowValues(rows),
    ]);
  }
  if (changes.length > 0) {
    await tx.query(WRITE_CAUSES, [
      roomId,
      textArray(changes.map(({ eventId }) => eventId)),
      positions(changes),
      booleanArray(changes.map(({ verdict }) => verdict)),
      booleanArray(changes.map(({ states }) => states)),
      int8Array(changes.map(({ guessEnded }) => positionOf(guessEnded))),
    ]);
  }
  if (shown.length > 0) {
    await tx.query(WRITE_SHOWN, [roomId, textArray(shown.map(({ eventId }) => eventId)), positions(shown)]);
  }
  if (states.length > 0) {
    await tx.query(WRITE_STATES, [
      roomId,
      positions(states),
      textArray(states.map(({ state }) => state)),
      booleanArray(states.map(({ partial }) => partial)),
    ]);
  }
}
