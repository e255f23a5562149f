/** The fold of control events that make anchors and give them their full state (src/store/events/anchors.ts). */
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { type ResyncEvent, type SnapshotId } from '../../resync/events.ts';
import { type Transaction } from '../open-store.ts';
import { booleanArray, textArray } from '../sql-values.ts';
import { type LockedRoom } from './rooms.ts';

interface AnchorRow {
  readonly eventId: EventId;
  readonly stateAfter: SnapshotId;
  readonly partial: boolean;
  /** Nobody has told the state. */
  readonly assumed?: boolean;
}

/** The anchors that a control event makes or settles. */
function anchorsOf(event: ResyncEvent): AnchorRow[] {
  switch (event.type) {
    case 'PartialStateJoined':
    case 'ResidentsLearned':
      return event.fetchAt.map((eventId) => ({ eventId, stateAfter: event.stateBefore, partial: true }));
    case 'FullStateJoined':
    case 'ParentsLearned':
      return event.anchors.map((eventId) => ({
        ...{ eventId, stateAfter: event.stateBefore, partial: false },
        assumed: event.isGuess === true,
      }));
    case 'StateFetched':
      return [{ eventId: event.atEventId, stateAfter: event.snapshotId, partial: false }];
    case 'GapClosed':
      return [{ eventId: event.eventId, stateAfter: event.snapshotId, partial: false }];
    case 'GapOpened': {
      const { eventIds, assumedState } = event;
      return assumedState === null
        ? []
        : eventIds.map((eventId) => ({ eventId, stateAfter: assumedState, partial: true }));
    }
    case 'GapsAssumed':
    case 'RoomOrphaned':
      return event.eventIds.map((eventId) => ({
        eventId,
        stateAfter: event.assumedState,
        partial: false,
        assumed: true,
      }));
    // Its row is there.
    case 'AnchorCorrected':
    case 'JoinRejected':
    case 'JoinRestored':
    case 'EverybodyLeft':
    case 'StayEnded':
    case 'RoomPurged':
    case 'LeftSilently':
    case 'SilentLeaveSettled':
    case 'RoomCreated':
    case 'GapFilled':
    case 'GapGivenUp':
    case 'SpeakersLearned':
    case 'ResidentPinned':
    case 'PinLifted':
    case 'ResidentBanned':
    case 'BanLifted':
    case 'RoomPolicySet':
    case 'CommandRefused':
    case 'MissingSought':
    case 'EventsCorrected':
    case 'StateFetchStarted':
    case 'StateFetchFailed':
    case 'StateFetchHindered':
    case 'ResidentBack':
    case 'RoundFailed':
    case 'ResyncParked':
    case 'ResyncResumed':
    case 'EventsWalked':
    case 'Check6Replayed':
    case 'ResyncCompleted':
      return [];
  }
}

/** Those of the anchors that entries settle whose state nobody has told so far: what builds on them was judged by a guess. */
export async function readAssumed(
  tx: Transaction,
  roomId: RoomId,
  events: readonly ResyncEvent[],
): Promise<ReadonlySet<EventId>> {
  const settled = events.flatMap((event) =>
    event.type === 'GapClosed' || event.type === 'GapFilled' ? [event.eventId] : [],
  );
  if (settled.length === 0) return new Set();
  const rows = await tx.query<{ eventId: EventId }>(
    `SELECT event_id AS "eventId" FROM anchors WHERE room_id = $1 AND event_id = ANY ($2::text[]) AND assumed`,
    [roomId, settled],
  );
  return new Set(rows.map(({ eventId }) => eventId));
}

/**
 * An anchor that has its full state, and not a guess, keeps it until it is corrected; one whose event has come is none any more.
 * Edges end at an anchor, whether its body is held or not: the state after it says what lies before.
 */
export async function foldAnchors(
  tx: Transaction,
  { roomId, epoch }: LockedRoom,
  events: readonly ResyncEvent[],
): Promise<void> {
  const rows = [...new Map(events.flatMap(anchorsOf).map((row) => [row.eventId, row])).values()];
  if (rows.length > 0) {
    await tx.query(
      `INSERT INTO anchors AS a (room_id, event_id, epoch, state_after, partial, assumed)
       SELECT $1, event_id, $2, decode(state_after, 'hex'), partial, assumed
         FROM unnest($3::text[], $4::text[], $5::boolean[], $6::boolean[]) AS i(event_id, state_after, partial, assumed)
       ON CONFLICT (room_id, event_id) DO UPDATE
          SET (epoch, state_after, partial, assumed) =
              (excluded.epoch, excluded.state_after, excluded.partial, excluded.assumed)
        WHERE a.partial OR a.assumed AND NOT excluded.partial`,
      [
        roomId,
        epoch,
        rows.map(({ eventId }) => eventId),
        rows.map(({ stateAfter }) => stateAfter),
        rows.map(({ partial }) => partial),
        rows.map(({ assumed }) => assumed === true),
      ],
    );
  }
  const corrected = events.filter((event) => event.type === 'AnchorCorrected');
  if (corrected.length > 0) await correctAnchors(tx, roomId, corrected);
  const filled = events.flatMap((event) => (event.type === 'GapFilled' ? [event.eventId] : []));
  if (filled.length === 0) return;
  await tx.query(`DELETE FROM anchors WHERE room_id = $1 AND event_id = ANY ($2::text[]) AND (partial OR assumed)`, [
    roomId,
    filled,
  ]);
}

/** States that were corrected: what was put in is left out no longer, and what was taken out may come back. The last entry counts. */
async function correctAnchors(
  tx: Transaction,
  roomId: RoomId,
  corrected: readonly Extract<ResyncEvent, { type: 'AnchorCorrected' }>[],
): Promise<void> {
  const states = new Map(corrected.map(({ eventId, snapshotId }) => [eventId, snapshotId]));
  const places = new Map<string, { readonly anchorId: EventId; readonly eventId: EventId; readonly isOut: boolean }>();
  for (const { eventId: anchorId, putIn, takenOut } of corrected) {
    for (const eventId of putIn) places.set(`${anchorId} ${eventId}`, { anchorId, eventId, isOut: false });
    for (const eventId of takenOut) places.set(`${anchorId} ${eventId}`, { anchorId, eventId, isOut: true });
  }
  const moved = [...places.values()];
  await tx.query(
    `WITH corrected AS (
       UPDATE anchors a SET state_after = decode(i.state_after, 'hex')
         FROM unnest($2::text[], $3::text[]) AS i(event_id, state_after)
        WHERE a.room_id = $1 AND a.event_id = i.event_id
     ), moved AS (
       SELECT * FROM unnest($4::text[], $5::text[], $6::boolean[]) AS i(anchor_id, event_id, is_out)
     ), put_in AS (
       DELETE FROM left_out l USING moved m
        WHERE l.room_id = $1 AND l.anchor_id = m.anchor_id AND l.event_id = m.event_id AND NOT m.is_out
     )
     INSERT INTO left_out (room_id, event_id, anchor_id) SELECT $1, event_id, anchor_id FROM moved WHERE is_out
     ON CONFLICT DO NOTHING`,
    [
      ...[roomId, textArray([...states.keys()]), textArray([...states.values()])],
      textArray(moved.map(({ anchorId }) => anchorId)),
      textArray(moved.map(({ eventId }) => eventId)),
      booleanArray(moved.map(({ isOut }) => isOut)),
    ],
  );
}

/** Their events have their own place in the timeline, and the state after them that follows from it. */
export async function dropAnchors(tx: Transaction, roomId: RoomId, eventIds: readonly EventId[]): Promise<void> {
  if (eventIds.length === 0) return;
  await tx.query(
    `WITH dropped AS (DELETE FROM anchors WHERE room_id = $1 AND event_id = ANY ($2::text[]))
     DELETE FROM left_out WHERE room_id = $1 AND anchor_id = ANY ($2::text[])`,
    [roomId, eventIds],
  );
}
