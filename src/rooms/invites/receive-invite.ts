/**
 * An invite of a user of ours by another server's: checked, signed by us, too, and kept where we are not in the room. Where we are, it
 * comes as every event of the room does.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#inviting-to-a-room
 */
import { canonicalJson } from '../../matrix/json/canonical-json.ts';
import { domainOf, parseUserId } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { roomVersionRules } from '../../matrix/room-versions.ts';
import { signEvent } from '../../matrix/signing/signatures.ts';
import { isAnybodyIn } from '../../store/journal/rooms.ts';
import { countInvites, upsertOutside } from '../../store/tables/outside-memberships.ts';
import { readUser } from '../../store/tables/users.ts';
import { type RoomsContext } from '../context.ts';
import { ResidentError } from '../resident-error.ts';
import { checkHanded } from '../resident/checked-event.ts';
import { type HandedInvite } from './contract.ts';
import { toldOfRoom } from './told-of-room.ts';

/** Of a user, from all servers. */
const INVITES_MAX = 1_000;

/** @throws ResidentError */
export async function receiveInvite(context: RoomsContext, invite: HandedInvite): Promise<JsonObject> {
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
  const user = userId === undefined || domainOf(userId) !== serverName ? undefined : await readUser(store, userId);
  if (user === undefined || user.deactivatedAt !== null) {
    throw new ResidentError('forbidden', 'the invited is no user of this server');
  }
  const signed = signEvent(event, rules, serverName, signingKey);
  if (!(await isAnybodyIn(store, roomId))) {
    if ((await countInvites(store, user.userId)) >= INVITES_MAX) {
      throw new ResidentError('forbidden', `${user.userId} has more invites than can be kept`);
    }
    const row = {
      roomId,
      userId: user.userId,
      membership: 'invite',
      eventId,
      roomVersion,
      sender: pdu.sender,
      server,
    } as const;
    const told = JSON.stringify(toldOfRoom(invite.told));
    await upsertOutside(store, row, canonicalJson(signed), told);
  }
  return signed;
}
