/**
 * make_join, make_leave and make_knock: the event by which another server's user changes his membership, as it stands in the room at
 * this moment, for his server to complete and sign. What the room's rules would refuse is refused here.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#joining-rooms
 */
import { authoriseAgainstState } from '../../matrix/auth/auth-rules.ts';
import { type Draft, depthAfter, referenceTo, unsignedEvent } from '../../matrix/compose.ts';
import { parsePdu } from '../../matrix/event-format.ts';
import { type EventId, domainOf } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type RoomStanding, readStanding } from '../../store/journal/rooms.ts';
import { type RoomsContext } from '../context.ts';
import { authStateOf } from '../judge/auth-state.ts';
import { rulesOfJoined } from '../judge/load-pdus.ts';
import { type MembershipTemplate, type TemplateRequest } from '../resident-contract.ts';
import { placeInRoom } from '../send/compose-own.ts';
import { authoriseJoin } from './authorise-join.ts';
import { ResidentError } from '../resident-error.ts';

/** Judged as one that has no id yet. */
const TEMPLATE_ID = '$template' as EventId;
/** Of a server that does not say what it speaks: https://spec.matrix.org/v1.16/server-server-api/#get_matrixfederationv1make_joinroomiduserid */
const UNSAID_VERSIONS = ['1'];

/** @throws ResidentError */
export async function membershipTemplate(
  { store, clock }: Pick<RoomsContext, 'store' | 'clock'>,
  { change, roomId, userId, server, versions }: TemplateRequest,
): Promise<MembershipTemplate> {
  if (domainOf(userId) !== server) throw new ResidentError('forbidden', `${userId} is no user of ${server}`);
  const room = requireWhole(await readStanding(store, roomId));
  const { roomVersion, currentState } = room;
  // Who leaves has been told of the room's version, and says nothing of those that he speaks.
  if (change !== 'leave' && !(versions ?? UNSAID_VERSIONS).includes(roomVersion)) {
    const details = { room_version: roomVersion };
    throw new ResidentError('incompatible-version', `the room is of version ${roomVersion}`, details);
  }
  const rules = rulesOfJoined(roomVersion);
  const content: JsonObject = {
    membership: change,
    ...(change === 'join' ? await vouching({ store }, room, rules, userId) : {}),
  };
  const draft: Draft = { sender: userId, type: 'm.room.member', stateKey: userId, content };
  const { parents, authEvents } = await placeInRoom(store, room, rules, draft);
  const cite = ({ eventId, event }: (typeof authEvents)[number]) => referenceTo(eventId, event, rules);
  const event = unsignedEvent(draft, {
    roomId,
    prevEvents: parents.map(cite),
    authEvents: authEvents.map(cite),
    depth: depthAfter(parents, rules),
    originServerTs: clock.now(),
  });
  const parsed = parsePdu(event, rules, { knownId: TEMPLATE_ID, mayLackHashes: true });
  if (!parsed.ok) throw new ResidentError('forbidden', parsed.reason);
  const state = await authStateOf(store, roomId, rules, currentState, parsed.pdu);
  const verdict = authoriseAgainstState(parsed.pdu, state, rules);
  if (!verdict.ok) throw new ResidentError('forbidden', verdict.reason);
  return { roomVersion, event };
}

/** A room of which we know enough to let anybody in or out. */
export type WholeRoom = RoomStanding & { readonly currentState: SnapshotId };

/** @throws ResidentError `unknown-room`: MSC3902 has servers ask another resident then */
export function requireWhole(room: RoomStanding | undefined): WholeRoom {
  if (room === undefined || room.partial || !room.isAnybodyIn || room.currentState === null) {
    throw new ResidentError('unknown-room', 'this server cannot help with that room');
  }
  return { ...room, currentState: room.currentState };
}

/** What a join of a restricted room says besides. @throws ResidentError where we do not vouch for the user */
export async function vouching(
  { store }: Pick<RoomsContext, 'store'>,
  { roomId, currentState }: WholeRoom,
  rules: RoomVersionRules,
  userId: TemplateRequest['userId'],
): Promise<JsonObject> {
  const authorised = await authoriseJoin(store, roomId, currentState, rules, userId);
  switch (authorised.outcome) {
    case 'unasked':
      return {};
    case 'vouched':
      return { join_authorised_via_users_server: authorised.by };
    case 'outside':
      throw new ResidentError('forbidden', `${userId} is in none of the rooms whose members may join`);
    case 'unknown':
      throw new ResidentError(
        'unable-to-authorise',
        'the members of the rooms whose members may join are not known here',
      );
    case 'powerless':
      throw new ResidentError('unable-to-grant', 'nobody of this server may let anybody in');
  }
}
