/**
 * An invite of a user of ours by another server's: checked, signed by us, too, and kept where we are not in the room. Where we are, it
 * comes as every event of the room does.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#inviting-to-a-room
 */
import { canonicalJson } from '../../matrix/json/canonical-json.ts';
import { type UserId, domainOf, parseUserId } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { roomVersionRules } from '../../matrix/room-versions.ts';
import { signEvent } from '../../matrix/signing/signatures.ts';
import { isAnybodyIn } from '../../store/journal/rooms.ts';
import {
  type OutsideMembership,
  countInvites,
  readOutside,
  upsertOutside,
} from '../../store/tables/outside-memberships.ts';
import { type UserRow, readUser } from '../../store/tables/users.ts';
import { type CheckedPdu } from '../../verification/contract.ts';
import { type RoomsContext } from '../context.ts';
import { ResidentError } from '../resident-error.ts';
import { checkHanded } from '../resident/checked-event.ts';
import { type HandedInvite } from './contract.ts';
import { checkToldOfRoom } from './told-of-room.ts';

/** Of a user, from all servers; and from one, so that none fills the place of all others. */
const INVITES_MAX = 1_000;
const INVITES_OF_SERVER_MAX = 100;

export interface InviteContext extends RoomsContext {
  /** Asks whoever could make a user of ours; whether anybody says that he has. */
  readonly provideUser?: (userId: UserId) => Promise<boolean>;
}

/** @throws ResidentError */
export async function receiveInvite(context: InviteContext, invite: HandedInvite): Promise<JsonObject> {
  const { store, serverName, signingKey } = context;
  const { roomId, eventId, server, roomVersion } = invite;
  const rules = roomVersionRules(roomVersion);
  if (rules === undefined) {
    const details = { room_version: roomVersion };
    throw new ResidentError('incompatible-version', `this server does not speak room version ${roomVersion}`, details);
  }
  const event = Object.fromEntries(Object.entries(invite.event).filter(([name]) => name !== 'unsigned'));
  const raw = Buffer.from(canonicalJson(event));
  const pdu = await checkHanded(context, rules, { ...invite, raw }, ({ type, membership }) =>
    type === 'm.room.member' && membership === 'invite' ? undefined : 'that is no invite',
  );
  const userId = parseUserId(pdu.stateKey);
  const user = userId === undefined || domainOf(userId) !== serverName ? undefined : await invitedUser(context, userId);
  if (user === undefined || user.deactivatedAt !== null) {
    throw new ResidentError('forbidden', 'the invited is no user of this server');
  }
  const told = await checkToldOfRoom(context, rules, invite);
  if (told.lacks !== undefined) throw new ResidentError('missing', `invite_room_state lacks ${told.lacks}`);
  const signed = signEvent(event, rules, serverName, signingKey);
  if (!(await isAnybodyIn(store, roomId))) {
    const row = {
      roomId,
      userId: user.userId,
      membership: 'invite',
      eventId,
      roomVersion,
      sender: pdu.sender,
      server,
    } as const;
    await keep(context, row, pdu, { event: canonicalJson(signed), told: JSON.stringify(told.kept) });
  }
  return signed;
}

/** Who is not there may be made by somebody who has his name. */
async function invitedUser({ store, provideUser }: InviteContext, userId: UserId): Promise<UserRow | undefined> {
  const user = await readUser(store, userId);
  if (user !== undefined || provideUser === undefined || !(await provideUser(userId))) return user;
  return readUser(store, userId);
}

/** @throws ResidentError where there is no room for it, or what stands is not for its sender to replace */
async function keep(
  { store }: Pick<RoomsContext, 'store'>,
  row: OutsideMembership,
  { authEvents }: CheckedPdu,
  { event, told }: { readonly event: string; readonly told: string },
): Promise<void> {
  const { roomId, userId, eventId, sender, server } = row;
  const held = await readOutside(store, roomId, userId);
  // It is sent again: what is over stays over.
  if (held?.eventId === eventId) return;
  // Nobody here can judge who of several may invite. Whoever answers a knock cites it.
  const mayReplace =
    held === undefined ||
    held.membership === 'leave' ||
    (held.membership === 'invite' && held.sender === sender) ||
    (held.membership === 'knock' && authEvents.includes(held.eventId));
  if (!mayReplace) {
    throw new ResidentError('forbidden', `what ${userId} is in that room is not for ${sender} to change`);
  }
  const { inAll, ofServer } = await countInvites(store, userId, server);
  if (held?.membership !== 'invite' && (inAll >= INVITES_MAX || ofServer >= INVITES_OF_SERVER_MAX)) {
    throw new ResidentError('forbidden', `${userId} has more invites than can be kept`);
  }
  await upsertOutside(store, row, event, told, held?.eventId ?? eventId);
}
