/**
 * What takes an event in under a room's lock resolves states there only if that is brief. Where it is not, all is undone and the lock let
 * go, the states are resolved outside, and it is tried again, with the outcome at hand.
 */
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { readStanding } from '../../store/journal/rooms.ts';
import { type Store } from '../../store/open-store.ts';
import { RoomError } from '../error.ts';
import { type Admission } from './admission.ts';
import { prepareAdmission } from './prepare-admission.ts';
import { ResolutionTakesLong } from './resolve-in-time.ts';
import { type Resolve } from './resolve.ts';

/** For which states may be resolved under a room's lock, milliseconds: everybody else in the room waits for that. */
export const RESOLVED_UNDER_LOCK_MS_MAX = 1_000;
/** How often the lock is taken: others may add to the ends of the room each time that it is let go. */
const LOCKED_MAX = 4;

/**
 * @param locked a transaction
 * @param resolve does outside of any what took long in it
 * @throws RoomError `busy` where there was something more to resolve each time
 */
export async function resolvingOutside<Result>(
  locked: () => Promise<Result>,
  resolve: () => Promise<void>,
): Promise<Result> {
  for (let i = 1; ; i += 1) {
    try {
      return await locked();
    } catch (error) {
      if (!(error instanceof ResolutionTakesLong)) throw error;
      if (i === LOCKED_MAX) throw new RoomError('busy', `the room cannot take the event now: ${error.message}`);
    }
    await resolve();
  }
}

/** @throws ResolutionTakesLong where an event under a room's lock was not judged for that */
export function requireResolved(admission: Admission | undefined): void {
  if (admission?.outcome === 'unresolved') throw new ResolutionTakesLong(admission.reason);
}

/** Judges a stored event by where the room stands, for the states that are at hand then; nothing else comes of it. */
export async function judgeAhead(store: Store, roomId: RoomId, eventId: EventId, resolve: Resolve): Promise<void> {
  const room = await readStanding(store, roomId);
  if (room?.isAnybodyIn === true) await prepareAdmission(store, room, [eventId], { resolve });
}
