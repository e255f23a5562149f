/**
 * Signed JSON, signed events, and whose signatures an event needs.
 *
 * Source: https://spec.matrix.org/v1.16/appendices/#signing-json and
 * https://spec.matrix.org/v1.16/server-server-api/#validating-hashes-and-signatures-on-received-events
 */
import { decodeBase64 } from './base64.ts';
import { canonicalJsonWithout } from '../json/canonical-json.ts';
import { prepareKey, verifyWith } from './ed25519.ts';
import { contentHash, signedText } from './hashes.ts';
import { type KeyId, type ServerName, domainOf, parseKeyId, parseServerName } from '../identifiers.ts';
import { type JsonObject, type Pdu } from '../pdu.ts';
import { type Refusal, refuse } from '../refusal.ts';
import { type RoomVersionRules } from '../room-versions.ts';
import { type SigningKey, signBytes } from './signing-key.ts';
import { isJsonObject } from '../json/strict-json.ts';

const OUTSIDE_SIGNATURES: ReadonlySet<string> = new Set(['unsigned', 'signatures']);

/** One server rarely signs with more than one key; a stranger may list any number, and each costs a key look-up. */
export const SIGNATURES_PER_SERVER_MAX = 8;

/** Signs an object: `signatures[serverName][keyId]` is added to what is there. For requests and key answers. */
export function signJson(object: JsonObject, serverName: ServerName, key: SigningKey): JsonObject {
  return withSignature(object, canonicalJsonWithout(object, OUTSIDE_SIGNATURES), serverName, key);
}

/** Adds the content hash and then the server's signature, replacing the hash and keeping other signatures. */
export function signEvent(
  event: JsonObject,
  rules: RoomVersionRules,
  serverName: ServerName,
  key: SigningKey,
): JsonObject {
  const hashes = event['hashes'];
  const hashed = {
    ...event,
    hashes: { ...(isJsonObject(hashes) ? hashes : {}), sha256: contentHash(event) },
  };
  return withSignature(hashed, signedText(hashed, rules), serverName, key);
}

function withSignature(object: JsonObject, text: string, serverName: ServerName, key: SigningKey): JsonObject {
  const signatures = isJsonObject(object['signatures']) ? object['signatures'] : {};
  const own = isJsonObject(signatures[serverName]) ? signatures[serverName] : {};
  const signature = signBytes(key, Buffer.from(text));
  return { ...object, signatures: { ...signatures, [serverName]: { ...own, [key.keyId]: signature } } };
}

export type Verified = { readonly ok: true } | Refusal;

/** Verifies one signature on an object against a public key in base64. Rules: `signature.missing`, `.base64`, `.key`, `.wrong`. */
export function verifySignedJson(object: JsonObject, signer: string, keyId: string, publicKey: string): Verified {
  return verifySignature(canonicalJsonWithout(object, OUTSIDE_SIGNATURES), object, signer, keyId, publicKey);
}

/** Verifies one signature on an event, over its redacted form. */
export function verifyEventSignature(
  event: JsonObject,
  rules: RoomVersionRules,
  signer: string,
  keyId: string,
  publicKey: string,
): Verified {
  return verifySignature(signedText(event, rules), event, signer, keyId, publicKey);
}

function verifySignature(text: string, object: JsonObject, signer: string, keyId: string, publicKey: string): Verified {
  const signature = signatureOf(object, signer, keyId);
  if (signature === undefined) return refuse('signature.missing', `no signature by ${signer} with ${keyId}`);
  return verifyText(Buffer.from(text), signature, publicKey);
}

/** Verifies a signature in base64 over bytes with a public key in base64. */
export function verifyText(message: Uint8Array, signature: string, publicKey: string): Verified {
  const signatureBytes = decodeBase64(signature);
  const keyBytes = decodeBase64(publicKey);
  if (signatureBytes === undefined) return refuse('signature.base64', 'the signature is not base64');
  const key = keyBytes === undefined ? undefined : prepareKey(keyBytes);
  if (key === undefined) {
    return refuse('signature.key', 'the public key is malformed, not canonical, or of small order');
  }
  return verifyWith(key, message, signatureBytes)
    ? { ok: true }
    : refuse('signature.wrong', 'the signature does not verify');
}

function signatureOf(object: JsonObject, signer: string, keyId: string): string | undefined {
  const signatures = object['signatures'];
  if (!isJsonObject(signatures) || !Object.hasOwn(signatures, signer)) return undefined;
  const byKey = signatures[signer];
  if (!isJsonObject(byKey) || !Object.hasOwn(byKey, keyId)) return undefined;
  const signature = byKey[keyId];
  return typeof signature === 'string' ? signature : undefined;
}

export interface Signature {
  readonly keyId: KeyId;
  readonly signature: string;
}

/** The Ed25519 signatures that an object bears of a server, at most `SIGNATURES_PER_SERVER_MAX`. */
export function signaturesOf(object: JsonObject, serverName: ServerName): Signature[] {
  const signatures = object['signatures'];
  const byKey = isJsonObject(signatures) && Object.hasOwn(signatures, serverName) ? signatures[serverName] : undefined;
  if (!isJsonObject(byKey)) return [];
  const found: Signature[] = [];
  for (const name in byKey) {
    const keyId = name.startsWith('ed25519:') ? parseKeyId(name) : undefined;
    const signature = byKey[name];
    if (keyId === undefined || typeof signature !== 'string') continue;
    if (found.push({ keyId, signature }) === SIGNATURES_PER_SERVER_MAX) break;
  }
  return found;
}

/**
 * The servers whose signatures an event needs before anything else about it is believed:
 * - the sender's, but for an invite made from a third-party invite, which any server may send on the sender's behalf;
 * - in versions 1 and 2, the one that the event id names, where it is another;
 * - for a restricted join, the one that vouched for it.
 *
 * Rules: `signers.event_id`, `signers.join_authorised_via_users_server`, where a name is no server's.
 */
export function requiredSigners(
  pdu: Pdu,
  rules: RoomVersionRules,
): { readonly ok: true; readonly servers: readonly ServerName[] } | Refusal {
  const senderServer = domainOf(pdu.sender);
  const servers = isInviteViaThirdParty(pdu) ? [] : [senderServer];
  if (rules.eventIdFormat === 'given') {
    const server = parseServerName(domainOf(pdu.eventId));
    if (server === undefined) return refuse('signers.event_id', 'the event id names no server');
    if (server !== senderServer) servers.push(server);
  }
  if (rules.restrictedJoins && isAuthorisedJoin(pdu)) {
    const authoriser = pdu.content['join_authorised_via_users_server'];
    const colon = typeof authoriser === 'string' ? authoriser.indexOf(':') : -1;
    const server = colon < 0 ? undefined : parseServerName((authoriser as string).slice(colon + 1));
    if (server === undefined) {
      return refuse('signers.join_authorised_via_users_server', 'join_authorised_via_users_server names no server');
    }
    if (!servers.includes(server)) servers.push(server);
  }
  return { ok: true, servers };
}

function isInviteViaThirdParty(pdu: Pdu): boolean {
  return (
    pdu.type === 'm.room.member' &&
    pdu.content['membership'] === 'invite' &&
    Object.hasOwn(pdu.content, 'third_party_invite')
  );
}

function isAuthorisedJoin(pdu: Pdu): boolean {
  return (
    pdu.type === 'm.room.member' &&
    pdu.content['membership'] === 'join' &&
    Object.hasOwn(pdu.content, 'join_authorised_via_users_server')
  );
}
