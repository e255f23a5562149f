/**
 * What of a room a user of ours may read: the current state as long as he is joined, or anybody may read it; else the state as he left.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv3roomsroomidstate
 */
import { historyVisibility } from '../../matrix/client/history-visibility.ts';
import { type EventId, type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { isJsonObject, parseJsonObject } from '../../matrix/json/strict-json.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type StoredEventState } from '../../store/events/event-states.ts';
import { RoomError } from '../error.ts';
import { type SharedLooks } from './shared-looks.ts';

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
export function createReaders(looks: SharedLooks): Readers {
  const find: Readers['find'] = async (roomId, userId) => {
    const view = await looks.view({ roomId, userId });
    if (view === undefined || view.epoch === 0 || view.currentState === null) return undefined;
    const { currentState, membership, membershipEventId, leftBy, isAnybodyIn, isForgotten } = view;
    if (membership === 'join') return { may: 'now', isJoined: true, currentState };
    // What nobody of us is in any more may be closed by now.
    if (isAnybodyIn && (await visibilityAt(looks, roomId, currentState)) === 'world_readable') {
      return { may: 'now', isJoined: false, currentState };
    }
    if (isForgotten) return undefined;
    // The state may have a membership that came while none of us was there, or none.
    for (const newest of [membershipEventId, leftBy]) {
      const left = newest === null ? undefined : await endOfMembership(looks, roomId, userId, newest);
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

/** What a state says of who may see history. */
export async function visibilityAt(
  looks: SharedLooks,
  roomId: RoomId,
  state: SnapshotId,
): Promise<ReturnType<typeof historyVisibility>> {
  const [entry] = await looks.entriesAt({ roomId, state, places: [VISIBILITY] });
  const body = entry && (await looks.body(entry.nid));
  if (body === undefined) return historyVisibility(undefined);
  const parsed = parseJsonObject(body.json);
  const content = parsed.ok ? parsed.value['content'] : undefined;
  return historyVisibility(isJsonObject(content) ? content['history_visibility'] : undefined);
}

/** The event before which the user was joined, and after which no more; `undefined`: as far as is known he never was. */
async function endOfMembership(
  looks: SharedLooks,
  roomId: RoomId,
  userId: UserId,
  newest: EventId,
): Promise<StoredEventState | undefined> {
  let eventId: EventId | undefined = newest;
  for (let step = 0; step < STEPS_BACK_MAX && eventId !== undefined; step += 1) {
    const event: StoredEventState | undefined = await looks.eventState({ roomId, eventId });
    if (event === undefined) return undefined;
    const places = [{ type: 'm.room.member', stateKey: userId }];
    const [before] = await looks.entriesAt({ roomId, state: event.stateBefore, places });
    if (before?.membership === 'join') return event;
    eventId = before?.eventId;
  }
  return undefined;
}
