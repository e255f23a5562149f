/**
 * Invites users of other servers: the event is made and judged as it stands, signed by the invited user's server, too, and only then taken
 * into the room. So nobody is invited whose server does not know of it; and nothing is held while that is asked.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#inviting-to-a-room
 */
import { FederationError } from '../../federation/error.ts';
import { authoriseAgainstState } from '../../matrix/auth/auth-rules.ts';
import { type Draft } from '../../matrix/compose.ts';
import { parsePdu } from '../../matrix/event-format.ts';
import { type ServerName, type UserId, domainOf } from '../../matrix/identifiers.ts';
import { type JsonObject, type Pdu } from '../../matrix/pdu.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { type Signature, signaturesOf, verifyEventSignature } from '../../matrix/signing/signatures.ts';
import { eventIdOf } from '../../matrix/signing/hashes.ts';
import { type FailureClass } from '../../resync/events.ts';
import { insertPdus } from '../../store/events/pdus.ts';
import { type RoomStanding, lockRoom, readStanding } from '../../store/journal/rooms.ts';
import { readSilentLeaves } from '../../store/journal/silent-leaves.ts';
import { type Sql, withTransaction } from '../../store/open-store.ts';
import { type VerifyKey } from '../../verification/contract.ts';
import { type MembershipChange } from '../client-contract.ts';
import { type RoomsContext } from '../context.ts';
import { RoomError, type RoomErrorKind } from '../error.ts';
import { appendTakenIn } from '../judge/append-taken-in.ts';
import { authStateOf } from '../judge/auth-state.ts';
import { rulesOfJoined } from '../judge/load-pdus.ts';
import { judgeAhead, resolvingOutside } from '../judge/outside-the-lock.ts';
import { resolveTogether } from '../judge/resolve.ts';
import { readStateForServer } from '../read/stripped-state.ts';
import { ringRoom } from '../ring.ts';
import { checkedOwn, composeOwn, placeInRoom } from '../send/compose-own.ts';
import { notThere, prepareGround, takeInPdu } from '../send/send-event.ts';

/** Of the whole of it: the invited user's server is waited for. */
const INVITE_MS_MAX = 60_000;

const KINDS: Readonly<Partial<Record<FailureClass, RoomErrorKind>>> = {
  forbidden: 'forbidden',
  'incompatible-version': 'unsupported-version',
  malformed: 'unusable-answer',
  'too-large': 'unusable-answer',
};

export interface Invitation extends Pick<MembershipChange, 'roomId' | 'sender' | 'userId' | 'reason' | 'isDirect'> {
  /** By which the room's rules see that he has bound the identifier that was invited. */
  readonly thirdPartyInvite?: JsonObject;
}

/** @throws RoomError `forbidden` where the room's rules or the invited user's server refuse it, `no-resident` where that is not reached */
export async function sendInvite(context: RoomsContext, invitation: Invitation): Promise<void> {
  const { store } = context;
  const { roomId, sender, userId, reason, isDirect, thirdPartyInvite } = invitation;
  const content: JsonObject = {
    membership: 'invite',
    ...(reason === undefined ? {} : { reason }),
    ...(isDirect === true ? { is_direct: true } : {}),
    ...(thirdPartyInvite === undefined ? {} : { third_party_invite: thirdPartyInvite }),
  };
  const draft: Draft = { sender, type: 'm.room.member', stateKey: userId, content };
  const room = await readStanding(store, roomId);
  if (room?.isAnybodyIn !== true || room.currentState === null) throw notThere(roomId);
  await requireThere(store, room, sender);
  const rules = rulesOfJoined(room.roomVersion);
  await prepareGround(context, roomId, draft);
  const pdu = composeOwn(context, draft, await placeInRoom(store, room, rules, draft));
  const state = await authStateOf(store, roomId, rules, room.currentState, pdu);
  const verdict = authoriseAgainstState(pdu, state, rules);
  if (!verdict.ok) throw new RoomError('forbidden', `${verdict.reason} (${verdict.rule})`);
  const signed = await countersigned(context, room, rules, pdu, domainOf(userId));
  const takeIn = (): Promise<string | undefined> =>
    withTransaction(store, async (tx) => {
      const locked = await lockRoom(tx, roomId);
      if (locked?.isAnybodyIn !== true) throw notThere(roomId);
      await requireThere(tx, locked, sender);
      return appendTakenIn(tx, locked, await takeInPdu(tx, locked, signed), context);
    });
  const ringsFor = await resolvingOutside(takeIn, async () => {
    await insertPdus(store, [checkedOwn(signed)]);
    await judgeAhead(store, roomId, signed.eventId, resolveTogether);
  });
  if (ringsFor !== undefined) await ringRoom(context, roomId, ringsFor);
}

/** Who has left silently is in the room for others only. @throws RoomError */
async function requireThere(sql: Sql, { roomId, isLeftSilently }: RoomStanding, sender: UserId): Promise<void> {
  if (isLeftSilently && (await readSilentLeaves(sql, roomId, [sender])).length > 0) throw notThere(roomId);
}

/** The invite with the signature of the invited user's server, which may add nothing else to it. */
async function countersigned(
  { store, federation, keyRing }: RoomsContext,
  { roomId, roomVersion, currentState }: RoomStanding,
  rules: RoomVersionRules,
  { eventId, originServerTs: validAtTs, json: event }: Pdu,
  server: ServerName,
): Promise<Pdu> {
  const inviteRoomState =
    currentState === null ? [] : await readStateForServer(store, { roomId, roomVersion }, currentState);
  const signal = AbortSignal.timeout(INVITE_MS_MAX);
  let answered: JsonObject;
  let theirs: Signature[];
  let keys: readonly VerifyKey[];
  try {
    answered = await federation.sendInvite(
      server,
      roomId,
      eventId,
      { roomVersion, event, inviteRoomState },
      { signal },
    );
    theirs = signaturesOf(answered, server);
    const named = theirs.map(({ keyId }) => ({ serverName: server, keyId, validAtTs }));
    keys = await keyRing.resolve(named, signal, roomId);
  } catch (error) {
    if (!(error instanceof FederationError) && !signal.aborted) throw error;
    const kind = (error instanceof FederationError ? KINDS[error.kind] : undefined) ?? 'no-resident';
    const why = error instanceof Error ? error.message : 'it took too long';
    throw new RoomError(kind, `${server} did not take the invite: ${why}`, { cause: error });
  }
  const isSame = rules.eventIdFormat === 'given' ? answered['event_id'] === eventId : idOf(answered, rules) === eventId;
  const ofServer = Object.fromEntries(theirs.map(({ keyId, signature }) => [keyId, signature]));
  const signatures = { ...(event['signatures'] as JsonObject), [server]: ofServer };
  // By all of them: a bad one beside a good one would make others refuse the event.
  const isSigned = ({ keyId }: Signature): boolean => {
    const key = keys.find((one) => one.serverName === server && one.keyId === keyId);
    if (key === undefined || (rules.enforceKeyValidity && key.validUntilTs < validAtTs)) return false;
    return verifyEventSignature({ ...event, signatures }, rules, server, keyId, key.publicKey).ok;
  };
  if (theirs.length === 0 || !isSame || !theirs.every(isSigned)) {
    throw new RoomError('unusable-answer', `${server} did not sign the invite that it was sent`);
  }
  const parsed = parsePdu({ ...event, signatures }, rules);
  if (!parsed.ok) {
    throw new RoomError('unusable-answer', `${server} made no valid event of the invite: ${parsed.reason}`);
  }
  return parsed.pdu;
}

/** `undefined`: it is none that could have an id. */
function idOf(event: JsonObject, rules: RoomVersionRules): string | undefined {
  const parsed = parsePdu(event, rules);
  return parsed.ok ? eventIdOf(event, rules) : undefined;
}
