/** Leaving, and what users of this server do to the memberships of others. All of it is local: nobody is asked, and nothing waits. */
import { type Draft } from '../../matrix/compose.ts';
import { type EventId, type RoomId, type UserId, domainOf, parseUserId } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type LockedRoom, readLocalMember, readLocalMembers } from '../../store/journal/rooms.ts';
import { readSilentLeaves } from '../../store/journal/silent-leaves.ts';
import { type Transaction } from '../../store/open-store.ts';
import { type StateEntry, readSnapshot } from '../../store/snapshots/snapshots.ts';
import { type MembershipChange } from '../client-contract.ts';
import { RoomError } from '../error.ts';
import { leavePolicyOf } from '../leave-policy.ts';
import { leaveSilently } from './leave-silently.ts';
import { type SendContext, sendEvent } from './send-event.ts';

const MEMBERSHIP_AFTER = { leave: 'leave', kick: 'leave', unban: 'leave', ban: 'ban', invite: 'invite' } as const;

/** Whom a kick may reach. */
const REACHABLE: ReadonlySet<string> = new Set(['join', 'invite', 'knock']);

/** @throws RoomError `forbidden`, where the rules do not let it pass or there is nothing to change; as `sendEvent` does */
export async function changeMembership(context: SendContext, change: MembershipChange): Promise<void> {
  const { roomId, sender, act, reason, isDirect, isForced, isDue } = change;
  const userId = act === 'leave' ? sender : change.userId;
  if (act === 'invite') requireOurs(context, userId);
  const content: JsonObject = {
    membership: MEMBERSHIP_AFTER[act],
    ...(reason === undefined ? {} : { reason }),
    ...(isDirect === true ? { is_direct: true } : {}),
  };
  if (act === 'leave' && isDue !== true) {
    if ((await readLocalMember(context.store, roomId, userId)) === 'leave') return;
    const { during } = await leavePolicyOf(context.store, roomId, context.policy);
    if (during === 'silent' && isForced !== true && (await leaveSilently(context, roomId, userId))) return;
  }
  await sendEvent(
    context,
    roomId,
    { sender, type: 'm.room.member', stateKey: userId, content },
    {
      isOwnLeave: act === 'leave',
      isSaid: async (tx, room) => {
        const said = await isChanged(tx, room, act, userId);
        if (act !== 'leave' || said !== undefined) return said;
        if (isForced === true) return undefined;
        if (isDue !== true) {
          await requireMayLeave(context, tx, room, userId);
        }
        // Who has come back meanwhile stays.
        else if ((await readSilentLeaves(tx, roomId, [userId])).length === 0) {
          return (await memberOf(tx, room, userId))?.eventId;
        }
        return undefined;
      },
    },
  );
}

/**
 * Sends state that a user names himself. Memberships are state, too: what a join or an invitation asks besides the auth rules is not gone
 * round by it. A join is what keeps one in; in, one comes by `join`, which knows whom a restricted room lets in, and asks a resident where
 * the room is partial.
 *
 * @throws RoomError as `sendEvent` and `changeMembership` do
 */
export async function sendState(
  context: SendContext,
  roomId: RoomId,
  draft: Draft & { readonly stateKey: string },
): Promise<EventId> {
  const { type, stateKey, sender, content } = draft;
  const membership = type === 'm.room.member' ? content['membership'] : undefined;
  if (membership === 'invite') requireOurs(context, stateKey);
  return sendEvent(context, roomId, draft, {
    isSaid: async (tx, room) => {
      if (membership === 'join') await requireJoined(tx, roomId, sender);
      if (membership === 'leave' && stateKey === sender) await requireMayLeave(context, tx, room, sender);
      return undefined;
    },
  });
}

/** @throws RoomError `last-leave` for the last of our users in a partial room, where the policy keeps him there */
async function requireMayLeave(
  { policy }: SendContext,
  tx: Transaction,
  { roomId, partial }: LockedRoom,
  userId: UserId,
): Promise<void> {
  if (!partial || (await leavePolicyOf(tx, roomId, policy)).during !== 'forbid_last_leave') return;
  const joined = (await readLocalMembers(tx, roomId)).filter(({ membership }) => membership === 'join');
  if (joined.length !== 1 || joined[0]?.userId !== userId) return;
  throw new RoomError(
    'last-leave',
    `${roomId} is not whole yet, and can only become so while somebody of this server is in it: you are the last; insist, or leave when it is whole`,
  );
}

/** Who is in a room says there what he is; under the room's lock. */
export async function requireJoined(tx: Transaction, roomId: RoomId, userId: UserId): Promise<undefined> {
  if ((await readLocalMember(tx, roomId, userId)) !== 'join') {
    throw new RoomError('forbidden', `${userId} is not in ${roomId}`);
  }
}

function requireOurs({ serverName }: SendContext, userId: string): void {
  const parsed = parseUserId(userId);
  if (parsed !== undefined && domainOf(parsed) === serverName) return;
  throw new RoomError('invalid', 'users of other servers cannot be invited from here yet');
}

/** What the auth rules let pass and the client-server API does not, and what is so already. */
async function isChanged(
  tx: Transaction,
  { roomId, currentState, partial }: LockedRoom,
  act: MembershipChange['act'],
  userId: UserId,
): Promise<EventId | undefined> {
  const member = await memberOf(tx, { roomId, currentState }, userId);
  const membership = member?.membership ?? undefined;
  if (act === 'leave' && membership === 'leave') return member?.eventId;
  // Nothing is known of a user of another server while the room is partial: it is said on the word of who says it.
  if (membership === undefined && partial && domainOf(userId) !== tx.serverName) return undefined;
  if (act === 'kick' && !REACHABLE.has(membership ?? '')) {
    throw new RoomError('forbidden', `${userId} is not in the room`);
  }
  if (act === 'unban' && membership !== 'ban') throw new RoomError('forbidden', `${userId} is not banned`);
  return undefined;
}

async function memberOf(
  tx: Transaction,
  { roomId, currentState }: Pick<LockedRoom, 'roomId' | 'currentState'>,
  userId: UserId,
): Promise<StateEntry | undefined> {
  const [member] = currentState === null ? [] : await readSnapshot(tx, roomId, currentState, { userIds: [userId] });
  return member;
}
