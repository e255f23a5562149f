/**
 * Tells rooms what their users call themselves, in the background: one room after the other, a few users at a time, and each by one process.
 * What a process leaves when it ends another goes on with; rooms that say it already are left as they are. Who changes his name meanwhile is
 * told of by the newest, and once more where the pass has been already; who has left a room meanwhile stays out of it.
 */
import { type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { memberContent } from '../../matrix/member-content.ts';
import { readJoinedRooms } from '../../store/journal/rooms.ts';
import {
  type UntoldProfile,
  leaseUntoldProfiles,
  prolongUntoldProfile,
  settleUntoldProfile,
} from '../../store/tables/untold-profiles.ts';
import { readUser } from '../../store/tables/users.ts';
import { requireJoined } from './change-membership.ts';
import { type SendContext, sendEvent } from './send-event.ts';

/** Users told of at a time. */
const USERS_AT_ONCE = 4;
/** How long a change waits at the most that this process was not told of. */
const POLL_MS = 5_000;
/** Far longer than one room takes; so long what a killed process was at waits. */
const LEASE_MS = 60_000;
const PROLONG_EVERY_MS = LEASE_MS / 4;

export interface ProfileTeller {
  /** Says that a profile has changed. */
  poke(): void;
  /** Ends after the rooms that it is at. */
  close(): Promise<void>;
}

/** Starts at once. */
export function startTellingProfiles(context: SendContext): ProfileTeller {
  const { store, logger } = context;
  const closing = new AbortController();
  const running = new Map<UserId, Promise<void>>();
  let looking: Promise<void> | undefined;

  const look = async (): Promise<void> => {
    const limit = USERS_AT_ONCE - running.size;
    if (limit <= 0) return;
    for (const profile of await leaseUntoldProfiles(store, { limit, leaseMs: LEASE_MS })) {
      const { userId } = profile;
      const run = tellRooms(context, profile, closing.signal)
        .catch((error: unknown) => {
          logger.warn({ err: error, userId }, 'rooms could not be told of a profile; they are told later');
        })
        .finally(() => {
          running.delete(userId);
          poke();
        });
      running.set(userId, run);
    }
  };
  const poke = (): void => {
    if (closing.signal.aborted) return;
    looking = (looking ?? Promise.resolve())
      .then(look)
      .catch((error: unknown) => logger.warn({ err: error }, 'untold profiles could not be looked for'));
  };
  poke();
  const timer = setInterval(poke, POLL_MS);
  return {
    poke,
    close: async () => {
      closing.abort();
      clearInterval(timer);
      await looking;
      await Promise.all(running.values());
    },
  };
}

async function tellRooms(context: SendContext, profile: UntoldProfile, closing: AbortSignal): Promise<void> {
  const { store } = context;
  const isTold = await tellEach(context, profile.userId, closing);
  // Told of the newest, or left to who comes next: to us, where it has changed meanwhile.
  if (!isTold || !(await settleUntoldProfile(store, profile))) await prolongUntoldProfile(store, profile.userId, 0);
}

/** Whether all rooms were told before we are closing. Where the user may not say anything now, he is called there what he was. */
async function tellEach(context: SendContext, userId: UserId, closing: AbortSignal): Promise<boolean> {
  const { store, logger, clock } = context;
  const tell = async (roomId: RoomId): Promise<void> => {
    const user = await readUser(store, userId);
    if (user === undefined || user.deactivatedAt !== null) return;
    const content = { ...memberContent(user), membership: 'join' };
    await sendEvent(
      context,
      roomId,
      { sender: userId, type: 'm.room.member', stateKey: userId, content },
      { isSaid: (tx) => requireJoined(tx, roomId, userId) },
    );
  };
  let prolongedAt = clock.now();
  for (const roomId of await readJoinedRooms(store, userId)) {
    if (closing.aborted) return false;
    if (clock.now() - prolongedAt >= PROLONG_EVERY_MS) {
      await prolongUntoldProfile(store, userId, LEASE_MS);
      prolongedAt = clock.now();
    }
    await tell(roomId).catch((error: unknown) => {
      logger.warn({ err: error, roomId, userId }, 'a room was not told of a new profile');
    });
  }
  return true;
}
