/**
 * What entries mean for what clients are shown, entry by entry: the position of each counts, for a client's token may stand
 * between any two appends, and its timeline begin between any two entries. Pure; the rows are written with the positions
 * (write-entries.ts).
 */
import { type EventId } from '../../matrix/identifiers.ts';
import { type JournalEvent } from '../../resync/entries.ts';
import { type SnapshotId } from '../../resync/events.ts';

/** An event that was rejected or soft-failed, and is neither by the entry with this index. */
export interface ShownEvent {
  readonly entry: number;
  readonly eventId: EventId;
}

/** A row of `current_states`, with the index of the entry that made it so. */
export interface CurrentStateRow {
  readonly entry: number;
  readonly state: SnapshotId;
  readonly partial: boolean;
}

const WHOLE_AFTER: ReadonlySet<string> = new Set(['FullStateJoined', 'RoomCreated', 'ResyncCompleted']);

/** Whether the room is partial after an entry that decides it; `undefined`: it does not. */
export function isPartialAfter(event: JournalEvent): boolean | undefined {
  if (event.type === 'PartialStateJoined') return true;
  // A join is rejected by full state; who leaves learns no more of it.
  if (event.type === 'StayEnded') return event.because === 'left' ? undefined : false;
  return WHOLE_AFTER.has(event.type) ? false : undefined;
}

/** The events that are accepted after all; what hides others needs no position. */
export function shownAfterAll(events: readonly JournalEvent[]): ShownEvent[] {
  return events.flatMap((event, entry) => {
    if (event.type === 'SoftFailureLifted') return [{ entry, eventId: event.eventId }];
    const isJudgedAgain = event.type === 'EventUnPartialStated' || event.type === 'VerdictChanged';
    return isJudgedAgain && event.was === 'rejected' && event.is === 'accepted'
      ? [{ entry, eventId: event.eventId }]
      : [];
  });
}

/** What the room is after each entry that changes it, from what it was `before`. */
export function currentStateRows(
  before: { readonly state: SnapshotId | null; readonly partial: boolean },
  events: readonly JournalEvent[],
): CurrentStateRow[] {
  const rows: CurrentStateRow[] = [];
  let { state, partial } = before;
  for (const [entry, event] of events.entries()) {
    const stateAfter = 'currentState' in event ? event.currentState : state;
    const partialAfter = isPartialAfter(event) ?? partial;
    const isChanged = stateAfter !== state || partialAfter !== partial;
    [state, partial] = [stateAfter, partialAfter];
    if (isChanged && state !== null) rows.push({ entry, state, partial });
  }
  return rows;
}
