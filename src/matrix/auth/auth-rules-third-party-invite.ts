/**
 * Rule 4.4.1 of the auth rules: an invite that answers an earlier m.room.third_party_invite: an identity server has signed
 * that the invited user is the person that invite named.
 *
 * Source: https://spec.matrix.org/v1.16/rooms/v11/#authorization-rules
 */
import { ALLOWED, type AuthState, type AuthVerdict } from './auth-verdict.ts';
import { refuse } from '../refusal.ts';
import { canonicalJsonWithout } from '../json/canonical-json.ts';
import { ownString, ownValue } from '../content.ts';
import { PUBLIC_KEY_BYTES, prepareKey, verifyWith } from '../signing/ed25519.ts';
import { type Json, type JsonObject, type Pdu } from '../pdu.ts';
import { isJsonObject } from '../json/strict-json.ts';

/** The parts of a signed object that its signatures don't cover. */
const UNSIGNED_KEYS: ReadonlySet<string> = new Set(['signatures', 'unsigned']);

/** Judges an invite whose content has `third_party_invite`. That the target is not banned (4.4.1.1) is checked before. */
export function authoriseThirdPartyInvite(event: Pdu, target: string, state: AuthState): AuthVerdict {
  const invite = ownValue(event.content, 'third_party_invite');
  const signed = isJsonObject(invite) ? ownValue(invite, 'signed') : undefined;
  // 4.4.1.2. No `signed`.
  if (!isJsonObject(signed)) return refuse('invite-third-party-malformed', 'third_party_invite has no signed block.');
  // 4.4.1.3. `signed` has no mxid or no token.
  const mxid = ownString(signed, 'mxid');
  const token = ownString(signed, 'token');
  const signatures = ownValue(signed, 'signatures');
  if (mxid === undefined || token === undefined || !isJsonObject(signatures)) {
    return refuse('invite-third-party-malformed', 'The signed block lacks mxid, token or signatures.');
  }
  // 4.4.1.4. The mxid is not the one invited.
  if (mxid !== target) return refuse('invite-third-party-token', `The signed block is for ${mxid}, not ${target}.`);
  // 4.4.1.5. No m.room.third_party_invite in the state has the token as its state key.
  const announced = state('m.room.third_party_invite', token);
  if (announced === undefined) return refuse('invite-third-party-token', 'No third-party invite has this token.');
  // 4.4.1.6. It was sent by somebody else.
  if (announced.sender !== event.sender) {
    return refuse('invite-third-party-sender', `${event.sender} did not send the third-party invite.`);
  }
  // 4.4.1.7. A signature matches a public key of that event: allow. 4.4.1.8. Otherwise, reject.
  return signerOf(announced, signed) !== undefined
    ? ALLOWED
    : refuse('invite-third-party-signature', 'No key of the third-party invite verifies the signed block.');
}

/** A key that an m.room.third_party_invite names. */
interface AnnouncedKey {
  /** As it is written there. */
  readonly publicKey: string;
  /** Where its identity server says whether it is good still: whatever the sender of that event wrote. */
  readonly validityUrl: Json | undefined;
}

interface PreparedKey extends AnnouncedKey {
  readonly bytes: Buffer;
}

/** One of them that has signed a block. */
export interface Signer extends AnnouncedKey {
  /** The block as far as it is signed, with that signature alone: all else in it may be of anybody who had it in hand. */
  readonly signed: JsonObject;
}

/** `public_key`, then those of `public_keys`; `undefined` in the place of one that is not a key. */
function publicKeysOf({ content }: Pick<Pdu, 'content'>): (PreparedKey | undefined)[] {
  const keys: (JsonObject | undefined)[] = Object.hasOwn(content, 'public_key') ? [content] : [];
  const listed = Object.hasOwn(content, 'public_keys') ? ownValue(content, 'public_keys') : [];
  if (Array.isArray(listed)) {
    for (const entry of listed as readonly Json[]) keys.push(isJsonObject(entry) ? entry : undefined);
  } else if (typeof listed !== 'string' && !isJsonObject(listed)) {
    // Strings and objects Synapse walks, and finds no key in them; on the rest it fails before it looks at any key.
    return [];
  }
  return keys.map((named) => {
    const publicKey = named === undefined ? undefined : ownValue(named, 'public_key');
    if (named === undefined || typeof publicKey !== 'string') return undefined;
    const bytes = Buffer.from(publicKey, 'base64');
    if (bytes.length !== PUBLIC_KEY_BYTES) return undefined;
    return { publicKey, validityUrl: ownValue(named, 'key_validity_url'), bytes };
  });
}

/**
 * The key of an m.room.third_party_invite by which a block is signed; `undefined`: by none. Synapse tries, for each key, only the first
 * ed25519 signature (servers and key ids in canonical order), and fails on the first key that is not one; the spec would try them all. We
 * agree with Synapse: an invite it refuses is not in its rooms.
 */
export function signerOf(announced: Pick<Pdu, 'content'>, signed: JsonObject): Signer | undefined {
  const signatures = ownValue(signed, 'signatures');
  const first = isJsonObject(signatures) ? firstEd25519Signature(signatures) : undefined;
  if (first === undefined) return undefined;
  const message = Buffer.from(canonicalJsonWithout(signed, UNSIGNED_KEYS), 'utf8');
  for (const key of publicKeysOf(announced)) {
    if (key === undefined) return undefined;
    const prepared = prepareKey(key.bytes);
    const { server, keyId, signature } = first;
    if (prepared === undefined || typeof signature !== 'string') continue;
    if (!verifyWith(prepared, message, Buffer.from(signature, 'base64'))) continue;
    const covered = Object.fromEntries(Object.entries(signed).filter(([name]) => !UNSIGNED_KEYS.has(name)));
    return { ...key, signed: { ...covered, signatures: { [server]: { [keyId]: signature } } } };
  }
  return undefined;
}

interface NamedSignature {
  readonly server: string;
  readonly keyId: string;
  readonly signature: Json;
}

function firstEd25519Signature(signatures: JsonObject): NamedSignature | undefined {
  for (const server of Object.keys(signatures).sort()) {
    const block = ownValue(signatures, server);
    if (!isJsonObject(block)) return undefined;
    const keyId = Object.keys(block)
      .sort()
      .find((id) => id.startsWith('ed25519:'));
    const signature = keyId === undefined ? undefined : ownValue(block, keyId);
    if (keyId !== undefined && signature !== undefined) return { server, keyId, signature };
  }
  return undefined;
}
