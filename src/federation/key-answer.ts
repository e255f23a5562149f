/**
 * Reading a server's signed key object, from the server itself or from a notary, and making our own.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#publishing-keys
 */
import { decodeBase64, encodeBase64 } from '../matrix/signing/base64.ts';
import { type KeyId, type ServerName, parseKeyId, parseServerName } from '../matrix/identifiers.ts';
import { type Json, type JsonObject } from '../matrix/pdu.ts';
import { signJson, signaturesOf, verifySignedJson } from '../matrix/signing/signatures.ts';
import { type SigningKey } from '../matrix/signing/signing-key.ts';
import { isJsonObject } from '../matrix/json/strict-json.ts';
import { type KnownKey } from '../verification/contract.ts';
import { VALIDITY_MS_MAX } from './known-keys.ts';

/** A server has one or two keys, and a few old ones; what is over this is left out. */
const KEYS_OF_A_SERVER_MAX = 100;
const PUBLIC_KEY_BYTES = 32;

export type KeyAnswerReading =
  | {
      readonly ok: true;
      readonly serverName: ServerName;
      /** How long its current keys are valid: of two objects the later one is the newer. */
      readonly validUntilTs: number;
      readonly keys: readonly KnownKey[];
    }
  | { readonly ok: false; readonly reason: string };

/**
 * The keys that a key object publishes. Refused unless it bears a signature by one of its own current keys, and none
 * of those signatures is wrong. `now`: milliseconds, the time of the answer.
 */
export function readKeyAnswer(answer: JsonObject, now: number): KeyAnswerReading {
  const serverName = parseServerName(answer['server_name']);
  if (serverName === undefined) return { ok: false, reason: 'server_name is not a server name' };
  const validUntil = readTime(answer['valid_until_ts']);
  if (validUntil === undefined) return { ok: false, reason: 'valid_until_ts is not a time' };
  const validUntilTs = Math.min(validUntil, now + VALIDITY_MS_MAX);
  const current = readKeys(answer['verify_keys'], () => validUntilTs);
  const old = readKeys(answer['old_verify_keys'], (key) => readTime(key['expired_ts']));
  const own = current.filter(({ keyId }) => Object.hasOwn(signaturesBy(answer, serverName), keyId));
  if (own.length === 0) return { ok: false, reason: 'the answer is not signed by any of its own keys' };
  for (const { keyId, publicKey } of own) {
    const verified = verifySignedJson(answer, serverName, keyId, publicKey);
    if (!verified.ok) return { ok: false, reason: `the answer's own signature with ${keyId}: ${verified.reason}` };
  }
  const isCurrent = new Set(current.map(({ keyId }) => keyId));
  const known = (expired: boolean) => (key: PublishedKey) => ({ ...key, serverName, expired, fetchedAt: now });
  return {
    ok: true,
    serverName,
    validUntilTs,
    keys: [...current.map(known(false)), ...old.filter(({ keyId }) => !isCurrent.has(keyId)).map(known(true))],
  };
}

/** Whether a notary vouches for an answer: it bears a good signature by one of the notary's keys. */
export function isVouchedFor(answer: JsonObject, notary: ServerName, keys: ReadonlyMap<KeyId, string>): boolean {
  return signaturesOf(answer, notary).some(({ keyId }) => {
    const publicKey = keys.get(keyId);
    return publicKey !== undefined && verifySignedJson(answer, notary, keyId, publicKey).ok;
  });
}

/** A key that signed for us once. */
export interface OldSigningKey {
  readonly keyId: KeyId;
  /** 32 bytes, unpadded base64. */
  readonly publicKey: string;
  /** When it signed for the last time, milliseconds since the Unix epoch. */
  readonly expiredTs: number;
}

/** Our own key object, signed. `validUntilTs`: milliseconds since the Unix epoch. */
export function makeKeyAnswer(
  serverName: ServerName,
  key: SigningKey,
  validUntilTs: number,
  oldKeys: readonly OldSigningKey[] = [],
): JsonObject {
  const old = oldKeys.map(({ keyId, publicKey, expiredTs }) => [keyId, { key: publicKey, expired_ts: expiredTs }]);
  const answer = {
    server_name: serverName,
    valid_until_ts: validUntilTs,
    verify_keys: { [key.keyId]: { key: key.publicKey } },
    old_verify_keys: Object.fromEntries(old) as JsonObject,
  };
  return signJson(answer, serverName, key);
}

type PublishedKey = Pick<KnownKey, 'keyId' | 'publicKey' | 'validUntilTs'>;

function readKeys(value: Json | undefined, validUntil: (key: JsonObject) => number | undefined): PublishedKey[] {
  if (!isJsonObject(value)) return [];
  const keys: PublishedKey[] = [];
  for (const [name, key] of Object.entries(value).slice(0, KEYS_OF_A_SERVER_MAX)) {
    const keyId = name.startsWith('ed25519:') ? parseKeyId(name) : undefined;
    if (keyId === undefined || !isJsonObject(key)) continue;
    const bytes = typeof key['key'] === 'string' ? decodeBase64(key['key']) : undefined;
    const validUntilTs = validUntil(key);
    if (bytes?.length !== PUBLIC_KEY_BYTES || validUntilTs === undefined) continue;
    keys.push({ keyId, publicKey: encodeBase64(bytes), validUntilTs });
  }
  return keys;
}

function readTime(value: Json | undefined): number | undefined {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? value : undefined;
}

function signaturesBy(answer: JsonObject, serverName: ServerName): JsonObject {
  const signatures = answer['signatures'];
  const byKey = isJsonObject(signatures) && Object.hasOwn(signatures, serverName) ? signatures[serverName] : undefined;
  return isJsonObject(byKey) ? byKey : {};
}
