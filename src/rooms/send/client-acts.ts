/** What users of this server do in rooms, put together for the edge that they come through. */
import { type Draft, redaction } from '../../matrix/compose.ts';
import { atLeast } from '../../matrix/auth/power-levels.ts';
import {
  type EventId,
  type RoomAlias,
  type RoomId,
  type UserId,
  domainOf,
  parseEventId,
  parseRoomId,
} from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { readPdus } from '../../store/events/pdus.ts';
import { readLocalMember, readStanding } from '../../store/journal/rooms.ts';
import { insertFirstInvites } from '../../store/tables/first-invites.ts';
import { readAlias } from '../../store/tables/room-aliases.ts';
import {
  type ClientActs,
  type ClientJoin,
  type ClientRoomWish,
  type ClientSender,
  type MembershipChange,
} from '../client-contract.ts';
import { type JoinRequest, type JoinedRoom } from '../contract.ts';
import { RoomError } from '../error.ts';
import { FIRST_INVITES_LEASE_MS, sendFirstInvites } from '../invites/first-invites.ts';
import { type OutsideActs } from '../invites/outside-acts.ts';
import { joinLocally } from '../join/join-locally.ts';
import { rulesOfJoined } from '../judge/load-pdus.ts';
import { markRead } from '../read/mark-read.ts';
import { readRoomPowers } from '../read/room-powers.ts';
import { changeMembership, sendState } from './change-membership.ts';
import { createRoom } from './create-room.ts';
import { followUpgrade } from './follow-upgrade.ts';
import { forget } from './forget.ts';
import { comeBack } from './leave-silently.ts';
import { type SendContext, notThere, sendEvent } from './send-event.ts';
import { upgradeRoom } from './upgrade-room.ts';

export interface ActsOptions {
  readonly join: (request: JoinRequest) => Promise<JoinedRoom>;
  readonly outside: OutsideActs;
  /** Gives a room what a user keeps of the one whose place it takes. */
  readonly followRoom?: (userId: UserId, from: RoomId, to: RoomId) => Promise<void>;
  /** Says that a profile has changed, of which rooms are to be told (tell-profile.ts). */
  readonly profileChanged: () => void;
  /** The process ends: who is not reached by now is asked again by another. */
  readonly isClosing?: () => boolean;
}

/** `join`: as it is counted and let in by turns. */
export function clientActs(
  context: SendContext,
  { join, outside, followRoom, profileChanged, isClosing = () => false }: ActsOptions,
): ClientActs {
  /** He is in, whatever comes of this. */
  const follow = async (userId: UserId, roomId: RoomId, known?: RoomId): Promise<void> => {
    try {
      const from = known ?? (await followUpgrade(context, userId, roomId));
      if (from !== undefined) await followRoom?.(userId, from, roomId);
    } catch (error) {
      context.logger.warn(
        { err: error, roomId, userId },
        'a user could not be followed into the room that replaces his',
      );
    }
  };
  const change = async (wanted: MembershipChange): Promise<void> => {
    const { act, roomId, userId, sender } = wanted;
    if (act === 'invite' && domainOf(userId) !== context.serverName) return outside.invite(wanted);
    if (act === 'leave' && (await outside.decline(roomId, sender))) return;
    return changeMembership(context, wanted);
  };
  return {
    sendMessage: async ({ userId, deviceId, txnId, originServerTs }, roomId, type, content) => {
      await requireMaySay(context, roomId, userId, { type, content });
      const transaction = { userId, deviceId, roomId, txnId };
      return sendEvent(context, roomId, { sender: userId, type, content, originServerTs }, { transaction });
    },
    sendState: async (sender, roomId, { type, stateKey, originServerTs }, content) => {
      await requireMaySay(context, roomId, sender, { type, content });
      return sendState(context, roomId, { sender, type, stateKey, content, originServerTs });
    },
    redact: (from, roomId, redacts, content) => redact(context, from, roomId, redacts, content),
    createRoom: (wish) => createAndInvite(context, { outside, isClosing }, wish),
    upgradeRoom: async (wish) => {
      const successor = await upgradeRoom(context, wish);
      await follow(wish.userId, successor, wish.roomId);
      return successor;
    },
    join: async (request) => {
      const roomId = await joinHereOrThere(context, request, join);
      await follow(request.userId, roomId);
      return roomId;
    },
    changeMembership: change,
    inviteByIdentifier: async (invite) => {
      const { roomId, sender, reason } = invite;
      const userId = await outside.inviteByIdentifier(invite);
      if (userId !== undefined) await change({ roomId, sender, act: 'invite', userId, reason });
    },
    forget: (userId, roomId) => forget(context, userId, roomId),
    knock: (request) => outside.knock(request),
    markRead: (...read) => markRead(context, ...read),
    profileChanged,
  };
}

/** Invites that a new room begins with of users of other servers. */
const INVITED_ELSEWHERE_MAX = 50;

/** Users of other servers are invited when the room is there; it stays, whether their servers take the invites or not. */
async function createAndInvite(
  context: SendContext,
  { outside, isClosing }: Required<Pick<ActsOptions, 'outside' | 'isClosing'>>,
  wish: ClientRoomWish,
): Promise<RoomId> {
  const ours = wish.invite.filter((userId) => domainOf(userId) === context.serverName);
  const others = [...new Set(wish.invite.filter((userId) => domainOf(userId) !== context.serverName))];
  if (others.length > INVITED_ELSEWHERE_MAX) {
    throw new RoomError(
      'invalid',
      `a room begins with ${INVITED_ELSEWHERE_MAX} invites of other servers' users at the most`,
    );
  }
  const { creator: sender, isDirect } = wish;
  const roomId = await createRoom(context, { ...wish, invite: ours }, (tx, room) =>
    insertFirstInvites(tx, { roomId: room, sender, isDirect }, others, FIRST_INVITES_LEASE_MS),
  );
  await sendFirstInvites(
    context,
    outside,
    others.map((userId) => ({ roomId, userId, sender, isDirect })),
    isClosing,
  );
  return roomId;
}

/** A room that is whole here lets its next user of ours in without a resident. */
async function joinHereOrThere(context: SendContext, request: ClientJoin, join: ActsOptions['join']): Promise<RoomId> {
  const { room, userId, profile } = request;
  const roomId = parseRoomId(room) ?? (await readAlias(context.store, room as RoomAlias));
  if (roomId === undefined) return (await join(request)).roomId;
  await comeBack(context, roomId, userId);
  if ((await readLocalMember(context.store, roomId, userId)) !== 'join') {
    if ((await joinLocally(context, roomId, userId, profile)) === undefined) await join({ ...request, room: roomId });
  }
  return roomId;
}

async function redact(
  context: SendContext,
  { userId, deviceId, txnId }: ClientSender,
  roomId: RoomId,
  redacts: EventId,
  content: JsonObject,
): Promise<EventId> {
  const room = await readStanding(context.store, roomId);
  if (room === undefined) throw notThere(roomId);
  const rules = rulesOfJoined(room.roomVersion);
  await requireMayRedact(context, room, userId, redacts);
  const transaction = { userId, deviceId, roomId, txnId };
  return sendEvent(context, roomId, redaction({ sender: userId, content }, redacts, rules), { transaction });
}

/** What is said as any other event, and takes back what somebody said, is held to what taking back asks. */
async function requireMaySay(
  context: SendContext,
  roomId: RoomId,
  userId: UserId,
  { type, content }: Pick<Draft, 'type' | 'content'>,
): Promise<void> {
  const redacts = type === 'm.room.redaction' ? parseEventId(content['redacts']) : undefined;
  const room = redacts === undefined ? undefined : await readStanding(context.store, roomId);
  if (redacts !== undefined && room !== undefined) await requireMayRedact(context, room, userId, redacts);
}

/**
 * Redactions are no matter of the auth rules from version 3 on: one that its sender may not make takes nothing back. Whose event it
 * is that we do not hold is for those to say who do.
 */
async function requireMayRedact(
  { store }: SendContext,
  { roomId, roomVersion, currentState }: NonNullable<Awaited<ReturnType<typeof readStanding>>>,
  userId: UserId,
  redacts: EventId,
): Promise<void> {
  const [target] = await readPdus(store, roomId, [redacts]);
  if (target === undefined || target.sender === userId || currentState === null) return;
  const levels = await readRoomPowers(store, roomId, currentState, roomVersion);
  if (levels === undefined) return;
  if (atLeast(levels.ofUser(userId), levels.toDo('redact'))) return;
  throw new RoomError('forbidden', `${userId} may redact nobody else's events there`);
}
