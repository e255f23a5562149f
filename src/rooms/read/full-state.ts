/** Waiting until a room, or an event, has full state: bounded, visible, and ended with the caller (MSC3902). */
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { isoTime } from '../../resync/explain.ts';
import { type ResyncState } from '../../resync/state.ts';
import { readStatesOfEvents } from '../../store/events/event-states.ts';
import { type RoomRow, readRoom } from '../../store/journal/rooms.ts';
import { type InRoom } from '../../store/journal/views.ts';
import { type RoomsContext } from '../context.ts';
import { type NotReady, type WaitOptions } from '../contract.ts';
import { RoomError } from '../error.ts';
import { inBatches } from '../in-batches.ts';
import { createWantedRooms } from './wanted-rooms.ts';

/** While notifications cannot be heard, a waiter hears of a change this late. */
const POLL_MS = 1_000;
/** Asked of callers when nothing better is known. */
const RETRY_AFTER_MS = 5_000;

export type WaitContext = Pick<RoomsContext, 'store' | 'notifier' | 'clock'>;

export interface FullStateWaits {
  /** The current state once the room is whole, or that of when we left it; `undefined` after the wait. Throws when our stay ended without. */
  room(roomId: RoomId, options: WaitOptions): Promise<SnapshotId | undefined>;
  /** An event once the state at it is full; `undefined` after the wait. Throws when the stay ended without. */
  event(roomId: RoomId, eventId: EventId, options: WaitOptions): Promise<EventWithState | undefined>;
}

export interface EventWithState {
  readonly stateBefore: SnapshotId;
  readonly stateAfter: SnapshotId;
}

/** Whoever waits for the same shares its looks, so all waits of a process are to come from one of these. */
export function fullStateWaits(context: WaitContext): FullStateWaits {
  const { notifier } = context;
  const wanted = createWantedRooms(context);
  const lookAtRoom = (roomId: RoomId): Promise<SnapshotId | undefined> => lookForFullState(context, roomId);
  const lookForEvent = inBatches(
    (asked: readonly InRoom[]) => lookForFullEvents(context, asked),
    ({ roomId, eventId }) => `${eventId} ${roomId}`,
  );
  const lookAtEvent = sharedByEvent(async (roomId, eventId) => {
    const found = await lookForEvent({ roomId, eventId });
    if (found instanceof RoomError) throw found;
    return found;
  });
  return {
    room: (roomId, { signal, waitMs }) =>
      wanted.during(roomId, () => notifier.waitFor(roomId, lookAtRoom, { signal, timeoutMs: waitMs, pollMs: POLL_MS })),
    event: (roomId, eventId, { signal, waitMs }) =>
      wanted.during(roomId, () =>
        lookAtEvent(eventId, (look) => notifier.waitFor(roomId, look, { signal, timeoutMs: waitMs, pollMs: POLL_MS })),
      ),
  };
}

type EventLook = (roomId: RoomId) => Promise<EventWithState | undefined>;

/** One function for all who wait for an event, as long as anybody does: the notifier tells waits apart by their functions. */
function sharedByEvent(look: (roomId: RoomId, eventId: EventId) => Promise<EventWithState | undefined>) {
  const looks = new Map<EventId, { readonly look: EventLook; waiters: number }>();
  return async <Result>(eventId: EventId, wait: (look: EventLook) => Promise<Result>): Promise<Result> => {
    const shared = looks.get(eventId) ?? { look: (room: RoomId) => look(room, eventId), waiters: 0 };
    looks.set(eventId, shared);
    shared.waiters += 1;
    try {
      return await wait(shared.look);
    } finally {
      shared.waiters -= 1;
      if (shared.waiters === 0) looks.delete(eventId);
    }
  };
}

async function lookForFullState({ store }: WaitContext, roomId: RoomId): Promise<SnapshotId | undefined> {
  const { partial, currentState, resync } = await requireRoom({ store }, roomId);
  // A room that we left whole is known as we left it.
  if (resync.phase === 'ended' && (partial || resync.refusedJoin !== null)) {
    const why = resync.refusedJoin === null ? '' : `: its full state does not let in ${resync.refusedJoin}`;
    throw new RoomError('forbidden', `nobody of this server is in ${roomId}${why}`);
  }
  if (partial && resync.phase === 'parked') throw parked(roomId, resync);
  return partial || currentState === null ? undefined : currentState;
}

/** Nobody has to wait for what is not looked for. */
function parked(roomId: RoomId, { parked: why }: ResyncState): RoomError {
  const since = why === null ? '' : ` since ${isoTime(why.at)}: ${why.reason}`;
  return new RoomError('parked', `the state of ${roomId} is not looked for${since}`);
}

/** Of each whether it has full state, a failure as a value; one look for the events and one for each of their rooms. */
async function lookForFullEvents(
  { store }: WaitContext,
  asked: readonly InRoom[],
): Promise<(EventWithState | RoomError | undefined)[]> {
  const events = await readStatesOfEvents(store, asked);
  const partial = asked.filter((_, i) => events[i]?.partial === true);
  const rooms = new Map<RoomId, RoomRow>();
  for (const roomId of new Set(partial.map((one) => one.roomId))) {
    rooms.set(roomId, await requireRoom({ store }, roomId));
  }
  return asked.map(({ roomId, eventId }, i) => {
    const event = events[i];
    if (event === undefined) {
      return new RoomError('unknown-room', `${eventId} is not in the timeline of ${roomId} here`);
    }
    if (!event.partial) return event;
    const resync = rooms.get(roomId)?.resync;
    if (resync?.phase === 'parked') return parked(roomId, resync);
    if (resync?.phase !== 'ended') return undefined;
    return new RoomError('unknown-room', `our stay in ${roomId} ended before its state at ${eventId} was known`);
  });
}

/** A room that we are or were in. Throws `unknown-room`. */
export async function requireRoom({ store }: Pick<WaitContext, 'store'>, roomId: RoomId): Promise<RoomRow> {
  const room = await readRoom(store, roomId);
  if (room === undefined || room.epoch === 0) {
    throw new RoomError('unknown-room', `${roomId} is not a room of this server`);
  }
  return room;
}

/** How far a room is, for who does not wait longer. */
export async function notReady(context: Pick<WaitContext, 'store' | 'clock'>, roomId: RoomId): Promise<NotReady> {
  const { resync } = await requireRoom(context, roomId);
  const untilNext =
    resync.phase === 'waiting' && resync.nextWakeAt !== null ? resync.nextWakeAt - context.clock.now() : 0;
  return { ready: false, reason: reasonOf(resync), retryAfterMs: Math.max(RETRY_AFTER_MS, untilNext), resync };
}

function reasonOf(resync: ResyncState): string {
  switch (resync.phase) {
    case 'waiting':
      return `every resident failed, the last with: ${resync.lastFailure?.reason ?? 'no reason'}; waiting for round ${resync.round}`;
    case 'fetching':
      return resync.attempt === null
        ? 'choosing a resident to fetch the state from'
        : `fetching the state from ${resync.attempt.resident}`;
    case 'parked':
      return `the state is not looked for: ${resync.parked?.reason ?? 'no reason'}`;
    case 'walking':
      return 'judging the events since the join with full state';
    case 'absent':
    case 'complete':
    case 'ended':
      return 'the room has no full state yet';
  }
}
