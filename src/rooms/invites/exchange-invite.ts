/**
 * Makes the invite of a user who has bound the third-party identifier that a user of ours had invited: what an identity server has signed is
 * checked against the m.room.third_party_invite in the room's state, and whether its key is good still is asked where that event says.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#third-party-invites
 */
import { FederationError } from '../../federation/error.ts';
import { signerOf } from '../../matrix/auth/auth-rules-third-party-invite.ts';
import { ownString } from '../../matrix/content.ts';
import { type RoomId, type UserId, domainOf } from '../../matrix/identifiers.ts';
import { isJsonObject, parseJsonObject } from '../../matrix/json/strict-json.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { readPdus } from '../../store/events/pdus.ts';
import { readStanding } from '../../store/journal/rooms.ts';
import { type Sql } from '../../store/open-store.ts';
import { readSnapshot } from '../../store/snapshots/snapshots.ts';
import { UnderWay } from '../../under-way.ts';
import { type RoomsContext } from '../context.ts';
import { asRedacted } from '../read/as-redacted.ts';
import { ResidentError } from '../resident-error.ts';
import { sendEvent } from '../send/send-event.ts';
import { type ThirdPartyInvite } from './contract.ts';
import { sendInvite } from './send-invite.ts';

const ANNOUNCED = 'm.room.third_party_invite';
/** Whoever asks waits for it. */
const KEY_MS_MAX = 15_000;
const URL_CHARS_MAX = 1_000;
/** Of one server at a time: for each an identity server is asked, and the server of who is invited. */
const UNDER_WAY_PER_SERVER_MAX = 8;

/** What other servers ask of us, for users of theirs. Of one process. */
export function createExchanges(context: RoomsContext): (invite: ThirdPartyInvite) => Promise<void> {
  const underWay = new UnderWay(UNDER_WAY_PER_SERVER_MAX);
  return (invite) =>
    underWay.run(
      domainOf(invite.userId),
      () => exchangeInvite(context, invite),
      () => new ResidentError('busy', 'too many invites of that server at a time'),
    );
}

/** @throws ResidentError, RoomError */
export async function exchangeInvite(context: RoomsContext, invite: ThirdPartyInvite): Promise<void> {
  const { store, serverName } = context;
  const { roomId, sender, userId, signed, signal } = invite;
  if (domainOf(sender) !== serverName) throw forbidden(`${sender} is no user of this server`);
  const token = ownString(signed, 'token');
  if (token === undefined || ownString(signed, 'mxid') !== userId) {
    throw forbidden('the signed block is not for that user');
  }
  const room = await readStanding(store, roomId);
  if (room?.isAnybodyIn !== true || room.currentState === null) {
    throw new ResidentError('unknown-room', 'nobody of this server is in that room');
  }
  if (await isThere(store, roomId, room.currentState, userId)) return;
  const announced = await readAnnounced(store, roomId, room.currentState, token);
  if (announced === undefined) throw forbidden('no third-party invite has this token');
  const key = signerOf(announced, signed);
  if (key === undefined) throw forbidden('no key of the third-party invite verifies the signed block');
  await requireValid(context, key, signal);
  // What the invited is called is what the one who invited said, and nobody else; and of the block no more than the identity server said.
  const displayName = ownString(announced.content, 'display_name') ?? '';
  const thirdPartyInvite = { display_name: displayName, signed: key.signed };
  const content = { membership: 'invite', third_party_invite: thirdPartyInvite };
  if (domainOf(userId) === serverName) {
    await sendEvent(context, roomId, { sender, type: 'm.room.member', stateKey: userId, content });
  } else {
    await sendInvite(context, { roomId, sender, userId, thirdPartyInvite });
  }
}

/** Who is in, or invited, needs no invite: the same is asked for again where an answer was lost. */
async function isThere(sql: Sql, roomId: RoomId, state: SnapshotId, userId: UserId): Promise<boolean> {
  const [member] = await readSnapshot(sql, roomId, state, { userIds: [userId] });
  return member?.membership === 'join' || member?.membership === 'invite';
}

async function readAnnounced(
  sql: Sql,
  roomId: RoomId,
  state: SnapshotId,
  token: string,
): Promise<{ readonly content: JsonObject } | undefined> {
  const [entry] = await readSnapshot(sql, roomId, state, { keys: [{ type: ANNOUNCED, stateKey: token }] });
  if (entry === undefined) return undefined;
  const [given] = await asRedacted(sql, roomId, await readPdus(sql, roomId, [entry.eventId]));
  const read = given === undefined ? undefined : parseJsonObject(given.json);
  const content = read?.ok === true ? read.value['content'] : undefined;
  return isJsonObject(content) ? { content } : undefined;
}

/**
 * Asked last, when all else is as it should be: the URL is whatever the sender of that event wrote. An event that names none has nobody
 * who could take the key back.
 *
 * @throws ResidentError
 */
async function requireValid(
  { federation }: RoomsContext,
  { publicKey, validityUrl }: NonNullable<ReturnType<typeof signerOf>>,
  signal: AbortSignal,
): Promise<void> {
  if (validityUrl === undefined) return;
  if (typeof validityUrl !== 'string' || validityUrl.length > URL_CHARS_MAX || !URL.canParse(validityUrl)) {
    throw forbidden('key_validity_url is no URL');
  }
  const url = new URL(validityUrl);
  url.searchParams.set('public_key', publicKey);
  const late = AbortSignal.any([signal, AbortSignal.timeout(KEY_MS_MAX)]);
  let answer: JsonObject;
  try {
    answer = await federation.askIdentityServer({ method: 'GET', url: url.href }, { signal: late });
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof FederationError) && !late.aborted) throw error;
    throw new ResidentError('busy', 'the identity server does not say whether its key is good still');
  }
  if (answer['valid'] !== true) throw forbidden('the identity server says that its key is good no more');
}

function forbidden(message: string): ResidentError {
  return new ResidentError('forbidden', message);
}
