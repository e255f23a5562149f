/**
 * What journal entries mean for the tables that are folds of them, all in one place: `append` runs it under the room's lock,
 * and a rebuild (rebuild.ts) over the recorded entries. The rows of `event_states` are given back, since they need the
 * positions of their entries; what follows the current state is a fold of its own (fold-current-state.ts).
 */
import { invariant } from '../../invariant.ts';
import { type EventId } from '../../matrix/identifiers.ts';
import { type JournalEvent, isTimelineEvent } from '../../resync/entries.ts';
import { type ResyncEvent, type SnapshotId, type TimelineEvent } from '../../resync/events.ts';
import { type ResyncState } from '../../resync/state.ts';
import { type Transaction } from '../open-store.ts';
import { dropAnchors, foldAnchors, readAssumed } from './fold-anchors.ts';
import { type Change, changesOf, movesStateVersion, placeOf } from './fold-corrections.ts';
import { foldGaps } from './fold-gaps.ts';
import { foldResync } from './fold-resync.ts';
import { foldRoomServers } from './fold-room-servers.ts';
import { type EventStateRow, type TimelineFacts, foldTimeline } from './fold-timeline.ts';
import { type LockedRoom } from './rooms.ts';
import {
  type CurrentStateRow,
  type ShownEvent,
  currentStateRows,
  isPartialAfter,
  shownAfterAll,
} from './what-clients-see.ts';

/** The counters that an append moves, after it, and what the room was before it. */
interface MovedRoom {
  readonly resyncSeq: number;
  readonly timelineSeq: number;
  readonly currentStateBefore: SnapshotId | null;
  readonly wasPartial: boolean;
}

export interface Folded {
  readonly moved: MovedRoom;
  /** Of the room's epoch after the entries; `null` when none of them is a control event. */
  readonly resync: ResyncState | null;
  /** For the events that are taken in. */
  readonly rows: readonly EventStateRow[];
  /** What others rest on and is another now. */
  readonly changes: readonly Change[];
  /** Events that clients see from now on. */
  readonly shown: readonly ShownEvent[];
  /** What the room was after each entry that changed it. */
  readonly states: readonly CurrentStateRow[];
}

/** The room's state after the entries, where one of them says it. */
export function currentStateOf(timeline: readonly TimelineEvent[]): SnapshotId | undefined {
  const resolved = timeline.findLast((event) => 'currentState' in event);
  return resolved && 'currentState' in resolved ? resolved.currentState : undefined;
}

/** Folds entries, in their order, into the tables of a locked room. `facts` are those of their events before them. */
export async function foldEntries(
  tx: Transaction,
  room: LockedRoom,
  events: readonly JournalEvent[],
  facts: TimelineFacts,
): Promise<Folded> {
  const timeline = events.filter(isTimelineEvent);
  const control = events.filter((event) => !isTimelineEvent(event));
  const assumed = await readAssumed(tx, room.roomId, control);
  const known = { ...facts, assumed };
  const moves = events.filter((event) => movesStateVersion(event, known)).length;
  const moved = await moveRoom(tx, room, timeline, control, moves);
  const resync = control.length > 0 ? await foldResync(tx, room, control, moved.resyncSeq) : null;
  await foldAnchors(tx, room, control);
  await foldGaps(tx, room, control);
  await foldRoomServers(tx, room, control);
  const rows = await foldTimeline(tx, room.roomId, timeline, facts);
  await dropAnchors(
    tx,
    room.roomId,
    timeline.flatMap((event) => placeOf(event)?.eventId ?? []).filter((eventId) => facts.anchors.has(eventId)),
  );
  return {
    moved,
    resync,
    rows,
    changes: changesOf(room, events, known),
    shown: shownAfterAll(events),
    states: currentStateRows({ state: moved.currentStateBefore, partial: moved.wasPartial }, events),
  };
}

const OPENS_A_STAY: ReadonlySet<string> = new Set(['PartialStateJoined', 'FullStateJoined', 'RoomCreated']);

/** The event with which our part of the room begins: what lies before it is history. */
function openingEventOf(event: ResyncEvent | undefined): EventId | null {
  if (event === undefined) return null;
  if ('joinEventId' in event) return event.joinEventId;
  return event.type === 'RoomCreated' ? event.createEventId : null;
}

/** Applies what the entries mean for the room's row; the epoch fences off whoever locked another stay. */
async function moveRoom(
  tx: Transaction,
  room: LockedRoom,
  timeline: readonly TimelineEvent[],
  control: readonly ResyncEvent[],
  moves: number,
): Promise<MovedRoom> {
  const opened = control.findLast(({ type }) => OPENS_A_STAY.has(type));
  const settled = control.findLast((event) => isPartialAfter(event) !== undefined);
  const [moved] = await tx.query<MovedRoom>(
    `WITH before AS (SELECT current_state, partial FROM rooms WHERE room_id = $1)
     UPDATE rooms r
        SET resync_seq = resync_seq + $3, timeline_seq = timeline_seq + $4, state_version = state_version + $5,
            partial = coalesce($6, r.partial), current_state = coalesce(decode($7, 'hex'), r.current_state),
            join_event_id = coalesce($8, join_event_id), joined_via = coalesce($9, joined_via)
       FROM before
      WHERE r.room_id = $1 AND r.epoch = $2
      RETURNING r.resync_seq AS "resyncSeq", r.timeline_seq AS "timelineSeq",
                encode(before.current_state, 'hex') AS "currentStateBefore", before.partial AS "wasPartial"`,
    [
      room.roomId,
      room.epoch,
      control.length,
      timeline.length,
      moves,
      settled === undefined ? null : (isPartialAfter(settled) ?? null),
      currentStateOf(timeline) ?? null,
      openingEventOf(opened),
      opened && 'joinedVia' in opened ? opened.joinedVia : null,
    ],
  );
  invariant(moved, `${room.roomId} is locked in epoch ${room.epoch} by the transaction that appends`);
  return moved;
}
