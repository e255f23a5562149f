/**
 * What of a room a user of ours may read: the current state as long as he is joined, or anybody may read it; else the state as he left.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv3roomsroomidstate
 */
import { historyVisibility } from '../../matrix/client/history-visibility.ts';
import { type EventId, type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { parseJsonObject } from '../../matrix/json/strict-json.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type StoredEventState, readEventStates } from '../../store/events/event-states.ts';
import { type WantsToRead, readRoomViews } from '../../store/journal/views.ts';
import { type Sql } from '../../store/open-store.ts';
import { streamPduBodies } from '../../store/events/pdu-bodies.ts';
import { type StateEntry, readSnapshot } from '../../store/snapshots/snapshots.ts';
import { RoomError } from '../error.ts';
import { inBatches } from '../in-batches.ts';

export type Reader =
  /** Joined, or where anybody may read: what the room is now. */
  | { readonly may: 'now'; readonly isJoined: boolean; readonly currentState: SnapshotId }
  /** Was joined until this event, which took him out. */
  | { readonly may: 'then'; readonly left: StoredEventState };

/** From a leave back to the event that ended a membership: bans and pardons that may lie between. */
const STEPS_BACK_MAX = 20;
const VISIBILITY = { type: 'm.room.history_visibility', stateKey: '' } as const;

export interface Readers {
  /** What a user may read of a room. Throws `forbidden`, the same of a room that is not here. */
  of(roomId: RoomId, userId: UserId): Promise<Reader>;
  /** The same; `undefined`: nothing. */
  find(roomId: RoomId, userId: UserId): Promise<Reader | undefined>;
}

/** Thousands who wait for one room ask in the moment in which it is whole: they share their looks. */
export function createReaders(sql: Sql): Readers {
  const viewOf = inBatches(
    (asked: readonly WantsToRead[]) => readRoomViews(sql, asked),
    ({ roomId, userId }) => `${roomId} ${userId}`,
  );
  const isOpen = inBatches(
    (asked: readonly { readonly roomId: RoomId; readonly state: SnapshotId }[]) =>
      Promise.all(asked.map(({ roomId, state }) => isWorldReadable(sql, roomId, state))),
    ({ roomId, state }) => `${roomId} ${state}`,
  );
  const find: Readers['find'] = async (roomId, userId) => {
    const view = await viewOf({ roomId, userId });
    if (view === undefined || view.epoch === 0 || view.currentState === null) return undefined;
    const { currentState, membership, membershipEventId, leftBy, isAnybodyIn } = view;
    if (membership === 'join') return { may: 'now', isJoined: true, currentState };
    // What nobody of us is in any more may be closed by now.
    if (isAnybodyIn && (await isOpen({ roomId, state: currentState }))) {
      return { may: 'now', isJoined: false, currentState };
    }
    // The state may have a membership that came while none of us was there, or none.
    for (const newest of [membershipEventId, leftBy]) {
      const left = newest === null ? undefined : await endOfMembership(sql, roomId, userId, newest);
      if (left !== undefined) return { may: 'then', left };
    }
    return undefined;
  };
  return {
    find,
    of: async (roomId, userId) => {
      const reader = await find(roomId, userId);
      if (reader !== undefined) return reader;
      throw new RoomError('forbidden', `${userId} is not in ${roomId}, and was not when it could be read`);
    },
  };
}

async function isWorldReadable(sql: Sql, roomId: RoomId, state: SnapshotId): Promise<boolean> {
  const entries = await readSnapshot(sql, roomId, state, { keys: [VISIBILITY] });
  return (await visibilityIn(sql, entries)) === 'world_readable';
}

/** What the entries of a state say of who may see history. */
export async function visibilityIn(
  sql: Sql,
  entries: readonly StateEntry[],
): Promise<ReturnType<typeof historyVisibility>> {
  const entry = entries.find(({ type, stateKey }) => type === VISIBILITY.type && stateKey === VISIBILITY.stateKey);
  if (entry === undefined) return historyVisibility(undefined);
  return historyVisibility((await contentOf(sql, entry.eventId))?.['history_visibility']);
}

async function contentOf(sql: Sql, eventId: EventId): Promise<JsonObject | undefined> {
  for await (const [body] of streamPduBodies(sql, [eventId], 1)) {
    const parsed = parseJsonObject(body?.json ?? '');
    return parsed.ok ? (parsed.value['content'] as JsonObject | undefined) : undefined;
  }
  return undefined;
}

/** The event before which the user was joined, and after which no more; `undefined`: as far as is known he never was. */
async function endOfMembership(
  sql: Sql,
  roomId: RoomId,
  userId: UserId,
  newest: EventId,
): Promise<StoredEventState | undefined> {
  let eventId: EventId | undefined = newest;
  for (let step = 0; step < STEPS_BACK_MAX && eventId !== undefined; step += 1) {
    const event: StoredEventState | undefined = (await readEventStates(sql, roomId, [eventId])).get(eventId);
    if (event === undefined) return undefined;
    const [before] = await readSnapshot(sql, roomId, event.stateBefore, { userIds: [userId] });
    if (before?.membership === 'join') return event;
    eventId = before?.eventId;
  }
  return undefined;
}
