/** Leaving, and what users of this server do to the memberships of others. All of it is local: nobody is asked, and nothing waits. */
import { type Draft } from '../../matrix/compose.ts';
import { type EventId, type RoomId, type UserId, domainOf, parseUserId } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type LockedRoom, isAnybodyIn, readLocalMember } from '../../store/journal/rooms.ts';
import { type Sql, type Transaction } from '../../store/open-store.ts';
import { readSnapshot } from '../../store/snapshots/snapshots.ts';
import { type MembershipChange } from '../client-contract.ts';
import { RoomError } from '../error.ts';
import { type SendContext, sendEvent } from './send-event.ts';

const MEMBERSHIP_AFTER = { leave: 'leave', kick: 'leave', unban: 'leave', ban: 'ban', invite: 'invite' } as const;

/** Whom a kick may reach. */
const REACHABLE: ReadonlySet<string> = new Set(['join', 'invite', 'knock']);

/** @throws RoomError `forbidden`, where the rules do not let it pass or there is nothing to change; as `sendEvent` does */
export async function changeMembership(context: SendContext, change: MembershipChange): Promise<void> {
  const { roomId, sender, act, reason, isDirect } = change;
  const userId = act === 'leave' ? sender : change.userId;
  if (act === 'invite') requireOurs(context, userId);
  const content: JsonObject = {
    membership: MEMBERSHIP_AFTER[act],
    ...(reason === undefined ? {} : { reason }),
    ...(isDirect === true ? { is_direct: true } : {}),
  };
  if (act === 'leave' && (await hasLeft(context.store, roomId, userId))) return;
  await sendEvent(
    context,
    roomId,
    { sender, type: 'm.room.member', stateKey: userId, content },
    { isSaid: (tx, room) => isChanged(tx, room, act, userId) },
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
  const isJoin = membership === 'join';
  return sendEvent(context, roomId, draft, isJoin ? { isSaid: (tx) => requireJoined(tx, roomId, sender) } : {});
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

/** Of a room in which nobody of us is any more: who has left it has nothing to do. */
async function hasLeft(sql: Sql, roomId: RoomId, userId: UserId): Promise<boolean> {
  return (await readLocalMember(sql, roomId, userId)) === 'leave' && !(await isAnybodyIn(sql, roomId));
}

/** What the auth rules let pass and the client-server API does not, and what is so already. */
async function isChanged(
  tx: Transaction,
  { roomId, currentState, partial }: LockedRoom,
  act: MembershipChange['act'],
  userId: UserId,
): Promise<EventId | undefined> {
  const [member] = currentState === null ? [] : await readSnapshot(tx, roomId, currentState, { userIds: [userId] });
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
