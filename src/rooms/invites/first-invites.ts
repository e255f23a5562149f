/**
 * Invites users of other servers to a room that was just made. Whoever makes it is kept waiting for a while only; what is left then goes on, and
 * what a process leaves when it ends another goes on with. A server that refuses an invite, or is not reached, is not asked again; one that is
 * not reached by a process that ends says nothing by that.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { readStanding } from '../../store/journal/rooms.ts';
import { type FirstInvite, deleteFirstInvite, leaseFirstInvites } from '../../store/tables/first-invites.ts';
import { type Repeating, startRepeating } from '../../repeating.ts';
import { type RoomsContext } from '../context.ts';
import { RoomError } from '../error.ts';
import { readRoomContents } from '../read/room-contents.ts';
import { type OutsideActs } from './outside-acts.ts';

/** Far longer than an invite takes; so long what a killed process was at waits. */
export const FIRST_INVITES_LEASE_MS = 180_000;
/** Until whoever makes the room is told of it. */
const ANSWERED_MS_MAX = 3_000;
const POLL_MS = 15_000;
const AT_ONCE = 20;

type Context = Pick<RoomsContext, 'store' | 'logger'>;
type Invite = Pick<OutsideActs, 'invite'>;

/** Resolves when all have their answers, or it has taken long enough. The rows are leased to us. */
export async function sendFirstInvites(
  context: Context,
  outside: Invite,
  invites: readonly FirstInvite[],
  isClosing: () => boolean,
): Promise<void> {
  const sent = Promise.all(invites.map((invite) => send(context, outside, invite, isClosing)));
  await Promise.race([sent, delay(ANSWERED_MS_MAX, undefined, { ref: false })]);
}

/** Never rejects: what our own trouble keeps from being sent stays a row, and that the process ends is ours. */
async function send(
  { store, logger }: Context,
  outside: Invite,
  invite: FirstInvite,
  isClosing: () => boolean,
): Promise<void> {
  try {
    await outside.invite(invite).catch((error: unknown) => {
      if (!(error instanceof RoomError) || (error.kind === 'no-resident' && isClosing())) throw error;
      logger.warn({ err: error, ...invite }, 'a user could not be invited to a new room');
    });
    await deleteFirstInvite(store, invite);
  } catch (error) {
    logger.warn({ err: error, ...invite }, 'a user was not invited to a new room yet; it is tried again');
  }
}

/** Goes on with what nobody is at any more. */
export async function resumeFirstInvites(context: Context, outside: Invite, isClosing = () => false): Promise<void> {
  for (let isMore = true; isMore && !isClosing();) {
    const invites = await leaseFirstInvites(context.store, { limit: AT_ONCE, leaseMs: FIRST_INVITES_LEASE_MS });
    await Promise.all(
      invites.map(async (invite) => {
        if (await isSettled(context, invite)) await deleteFirstInvite(context.store, invite);
        else await send(context, outside, invite, isClosing);
      }),
    );
    isMore = invites.length === AT_ONCE;
  }
}

/** The invite is in the room, or whatever came of it. */
async function isSettled({ store }: Context, { roomId, userId }: { readonly roomId: RoomId; readonly userId: UserId }) {
  const room = await readStanding(store, roomId);
  if (room === undefined || room.currentState === null) return true;
  const places = [{ type: 'm.room.member', stateKey: userId }];
  return (await readRoomContents(store, roomId, room.currentState, { places })).ofType('m.room.member').length > 0;
}

/** Of one process; `close` ends after those that it is at. */
export function startFirstInvites(context: Context, outside: Invite): Repeating {
  return startRepeating((isClosing) => resumeFirstInvites(context, outside, isClosing), {
    everyMs: POLL_MS,
    onFailed: (error) => context.logger.warn({ err: error }, 'invites to new rooms could not be looked for'),
  });
}
