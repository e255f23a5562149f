/**
 * Invites whoever has a third-party identifier, such as an address of electronic mail: the identity server that the client names is asked
 * whose it is. Where nobody has bound it, that server keeps the invite and tells who has the address, and the room is told of it, by an
 * event that becomes an invite once the identifier is bound.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#third-party-invites and https://spec.matrix.org/v1.16/identity-service-api/
 */
import { createHash } from 'node:crypto';
import { FederationError } from '../../federation/error.ts';
import { authoriseAgainstState } from '../../matrix/auth/auth-rules.ts';
import { type Draft } from '../../matrix/compose.ts';
import { ownString } from '../../matrix/content.ts';
import { type UserId, parseUserId } from '../../matrix/identifiers.ts';
import { isJsonObject } from '../../matrix/json/strict-json.ts';
import { type Json, type JsonObject } from '../../matrix/pdu.ts';
import { readStanding } from '../../store/journal/rooms.ts';
import { type IdentifierInvite } from '../client-contract.ts';
import { type RoomsContext } from '../context.ts';
import { RoomError } from '../error.ts';
import { authStateOf } from '../judge/auth-state.ts';
import { rulesOfJoined } from '../judge/load-pdus.ts';
import { composeOwn, placeInRoom } from '../send/compose-own.ts';
import { notThere, sendEvent } from '../send/send-event.ts';

/** Of all that is asked of the identity server. */
const ASKING_MS_MAX = 30_000;
/** Of what it answers and we put into an event. */
const TEXT_CHARS_MAX = 500;
const KEYS_MAX = 10;

/**
 * The user who has bound the identifier: he is to be invited. `undefined`: nobody has, and the room is told that it was invited.
 *
 * @throws RoomError `forbidden` where the sender may not invite, `no-resident` and `unusable-answer` of the identity server
 */
export async function inviteByIdentifier(context: RoomsContext, invite: IdentifierInvite): Promise<UserId | undefined> {
  const { roomId, sender } = invite;
  // Nobody is written to in the name of who may not invite.
  await requireMayInvite(context, invite);
  const signal = AbortSignal.any([invite.signal, AbortSignal.timeout(ASKING_MS_MAX)]);
  const ask = asking(context, invite, signal);
  const bound = await lookUp(invite, ask);
  if (bound !== undefined) return bound;
  const { medium, address } = invite;
  const kept = await ask('POST', '/store-invite', { medium, address, room_id: roomId, sender });
  const { token, content } = readKept(kept, invite.idServer);
  await sendEvent(context, roomId, { sender, type: 'm.room.third_party_invite', stateKey: token, content });
  return undefined;
}

async function requireMayInvite(context: RoomsContext, { roomId, sender }: IdentifierInvite): Promise<void> {
  const { store } = context;
  const room = await readStanding(store, roomId);
  if (room?.isAnybodyIn !== true || room.currentState === null) throw notThere(roomId);
  const rules = rulesOfJoined(room.roomVersion);
  const draft: Draft = { sender, type: 'm.room.third_party_invite', stateKey: '', content: {} };
  const pdu = composeOwn(context, draft, await placeInRoom(store, room, rules, draft));
  const verdict = authoriseAgainstState(pdu, await authStateOf(store, roomId, rules, room.currentState, pdu), rules);
  if (!verdict.ok) throw new RoomError('forbidden', `${verdict.reason} (${verdict.rule})`);
}

type Asking = (method: 'GET' | 'POST', path: string, content?: JsonObject) => Promise<JsonObject>;

function asking(
  { federation }: RoomsContext,
  { idServer, idAccessToken, signal }: IdentifierInvite,
  late: AbortSignal,
): Asking {
  return async (method, path, content) => {
    const url = `https://${idServer}/_matrix/identity/v2${path}`;
    const asked = { method, url, token: idAccessToken, ...(content === undefined ? {} : { content }) };
    try {
      return await federation.askIdentityServer(asked, { signal: late });
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof FederationError) && !late.aborted) throw error;
      const kind = error instanceof FederationError && error.kind === 'forbidden' ? 'forbidden' : 'no-resident';
      const why = error instanceof Error ? error.message : 'it took too long';
      throw new RoomError(kind, `the identity server does not answer: ${why}`, { cause: error });
    }
  };
}

/** By hashes, where the identity server takes them. Source: https://spec.matrix.org/v1.16/identity-service-api/#association-lookup */
async function lookUp({ medium, address }: IdentifierInvite, ask: Asking): Promise<UserId | undefined> {
  const { lookup_pepper: pepper, algorithms } = await ask('GET', '/hash_details');
  if (typeof pepper !== 'string' || !Array.isArray(algorithms)) throw unusable('it does not say how it is to be asked');
  const algorithm = ['sha256', 'none'].find((one) => (algorithms as readonly Json[]).includes(one));
  if (algorithm === undefined) throw unusable('it is asked in no way that is known here');
  const plain = `${address} ${medium}`;
  const asked = algorithm === 'none' ? plain : createHash('sha256').update(`${plain} ${pepper}`).digest('base64url');
  const { mappings } = await ask('POST', '/lookup', { addresses: [asked], algorithm, pepper });
  if (!isJsonObject(mappings)) throw unusable('mappings is no object');
  const found = ownString(mappings, asked);
  const userId = parseUserId(found);
  if (found !== undefined && userId === undefined) throw unusable('it names somebody who is no user');
  return userId;
}

/** What the room is told. Source: https://spec.matrix.org/v1.16/client-server-api/#mroomthird_party_invite */
function readKept(kept: JsonObject, idServer: string): { readonly token: string; readonly content: JsonObject } {
  const { token, display_name: displayName, public_keys: listed } = kept;
  if (!isText(token) || !isText(displayName)) throw unusable('token or display_name is no text');
  const keys = (Array.isArray(listed) ? (listed as readonly Json[]) : []).slice(0, KEYS_MAX).map((key) => {
    const { public_key: publicKey, key_validity_url: url } = isJsonObject(key) ? key : {};
    if (!isText(publicKey)) throw unusable('public_keys holds what is no key');
    return { public_key: publicKey, key_validity_url: isText(url) ? url : validityUrl(idServer) };
  });
  const [first] = keys;
  if (first === undefined) throw unusable('it names no key');
  return { token, content: { display_name: displayName, ...first, public_keys: keys } };
}

function validityUrl(idServer: string): string {
  return `https://${idServer}/_matrix/identity/v2/pubkey/isvalid`;
}

function isText(value: Json | undefined): value is string {
  return typeof value === 'string' && value !== '' && value.length <= TEXT_CHARS_MAX;
}

function unusable(why: string): RoomError {
  return new RoomError('unusable-answer', `the identity server cannot be used: ${why}`);
}
