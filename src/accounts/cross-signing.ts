/**
 * Keys by which users vouch for their devices and for one another, and the signatures that they make.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#cross-signing
 */
import { type UserId, domainOf, parseUserId } from '../matrix/identifiers.ts';
import { canonicalJson, canonicalJsonWithout } from '../matrix/json/canonical-json.ts';
import { isJsonObject } from '../matrix/json/strict-json.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { verifySignedJson } from '../matrix/signing/signatures.ts';
import {
  type CrossSigningKey,
  type KeySignature,
  type KeyUsage,
  countKeySignatures,
  readCrossSigningKeys,
  upsertCrossSigningKeys,
  upsertKeySignatures,
} from '../store/tables/cross-signing.ts';
import { type Sql } from '../store/open-store.ts';
import { CROSS_SIGNING, noteOwnDeviceChanges } from '../store/tables/device-changes.ts';
import { readPublishedDevices } from '../store/tables/device-keys.ts';
import { readDevices } from '../store/tables/devices.ts';
import { lockUser } from '../store/tables/users.ts';
import { type AccountsContext } from './context.ts';
import { type CrossSigningUpload, type RefusedSignature } from './contract.ts';
import { areSignatures } from './device-keys.ts';
import { AccountError } from './error.ts';
import { publicKeyOf } from './published-keys.ts';

const USAGES: readonly KeyUsage[] = ['master', 'self_signing', 'user_signing'];
const UNSIGNED: ReadonlySet<string> = new Set(['signatures', 'unsigned']);
/** More than a client makes at a time: one for each device and each person that it knows. */
const SIGNATURES_AT_ONCE_MAX = 1_000;
const SIGNATURES_OF_USER_MAX = 20_000;

/** Whether an upload takes the place of keys that are there, so that the user is to be asked once more. */
export async function replacesCrossSigningKeys(
  { store }: AccountsContext,
  userId: UserId,
  upload: CrossSigningUpload,
): Promise<boolean> {
  const known = await readCrossSigningKeys(store, [userId]);
  if (!known.some(({ usage }) => usage === 'master')) return false;
  return USAGES.some((usage) => {
    const given = upload[usage];
    const before = known.find((key) => key.usage === usage)?.keys;
    return given !== undefined && (before === undefined || canonicalJson(given) !== canonicalJson(before));
  });
}

/**
 * Keeps the keys, all or none. Throws `invalid`, `missing` without a master key, `invalid-signature` where it has not signed the others, and
 * `forbidden` where one is named like a device of the user.
 */
export async function uploadCrossSigningKeys(
  { store }: AccountsContext,
  userId: UserId,
  upload: CrossSigningUpload,
): Promise<void> {
  const given = USAGES.flatMap((usage) => {
    const keys = upload[usage];
    return keys === undefined ? [] : [{ usage, keys, publicKey: requireForm(keys, usage, userId) }];
  });
  if (given.length === 0) return;
  await store.inTransaction(async (tx) => {
    if ((await lockUser(tx, userId, 'all')) === undefined) throw new AccountError('not-found', 'no such account');
    const before = (await readCrossSigningKeys(tx, [userId])).find(({ usage }) => usage === 'master');
    const master = given.find(({ usage }) => usage === 'master')?.publicKey ?? (before && publicKeyOf(before.keys));
    if (master === undefined) throw new AccountError('missing', 'there is no master key yet');
    // Both are key ids of the user: a signature would be of either.
    const devices = new Set((await readDevices(tx, userId)).map(({ deviceId }) => deviceId));
    if (given.some(({ publicKey }) => devices.has(publicKey))) throw new AccountError('forbidden', 'Key ID in use');
    for (const { usage, keys } of given) {
      if (usage === 'master') continue;
      const verified = verifySignedJson(keys, userId, `ed25519:${master}`, master);
      if (!verified.ok) throw new AccountError('invalid-signature', `${usage}_key: ${verified.reason}`);
    }
    const isOtherMaster = before !== undefined && publicKeyOf(before.keys) !== master;
    const rows = given.map(({ usage, keys }) => ({ usage, json: canonicalJson(keys) }));
    await upsertCrossSigningKeys(tx, userId, rows, isOtherMaster);
    await noteOwnDeviceChanges(tx, userId, [CROSS_SIGNING]);
  });
}

function requireForm(key: JsonObject, name: KeyUsage, userId: UserId): string {
  const { usage, user_id: owner, signatures } = key;
  const publicKey = publicKeyOf(key);
  if (owner !== userId) throw new AccountError('invalid', `${name}_key: not of this user`);
  if (!Array.isArray(usage) || !usage.includes(name)) {
    throw new AccountError('invalid', `${name}_key.usage: expected ["${name}"]`);
  }
  if (publicKey === undefined || publicKey.includes('\0')) {
    throw new AccountError('invalid', `${name}_key.keys: expected one key by "ed25519:key"`);
  }
  if (signatures !== undefined && !areSignatures(signatures)) {
    throw new AccountError('invalid', `${name}_key.signatures: not of that form`);
  }
  return publicKey;
}

/** What signatures are made on and with. */
interface Known {
  /** What is signed, by user and then by device id or public key. */
  readonly targets: ReadonlyMap<string, JsonObject>;
  /** Public keys of the signer, by `algorithm:key id`. */
  readonly signers: ReadonlyMap<string, string>;
  /** The signer's own. */
  readonly devices: ReadonlySet<string>;
}

/**
 * Keeps signatures of a user on keys, as his client gives them: signed objects by user, and then by device id or public key. Gives the
 * objects of which anything is refused; all other signatures are kept.
 */
export async function uploadSignatures(
  { store }: AccountsContext,
  signerId: UserId,
  signed: JsonObject,
): Promise<readonly RefusedSignature[]> {
  const given = Object.entries(signed).flatMap(([user, byKey]) =>
    Object.entries(isJsonObject(byKey) ? byKey : {}).map(([key, object]) => ({ user, key, object })),
  );
  if (given.length > SIGNATURES_AT_ONCE_MAX) {
    throw new AccountError('invalid', `at most ${SIGNATURES_AT_ONCE_MAX} signed objects at a time`);
  }
  const refused: RefusedSignature[] = [];
  await store.inTransaction(async (tx) => {
    if ((await lockUser(tx, signerId, 'all')) === undefined) throw new AccountError('not-found', 'no such account');
    const known = await readKnown(tx, signerId, [...new Set(given.map(({ user }) => user))]);
    const made: KeySignature[] = [];
    for (const { user, key, object } of given) {
      const { kept, refusal } = signaturesIn(object, { signerId, user, key, serverName: tx.serverName }, known);
      for (const signature of kept) made.push(signature);
      if (refusal !== undefined) refused.push({ userId: user, key, reason: refusal });
    }
    if (made.length === 0) return;
    if ((await countKeySignatures(tx, signerId, SIGNATURES_OF_USER_MAX)) >= SIGNATURES_OF_USER_MAX) {
      throw new AccountError('too-many', `a user makes at most ${SIGNATURES_OF_USER_MAX} signatures`);
    }
    await upsertKeySignatures(tx, made);
    // What a user says of others is for his own devices, and says nothing new of his keys.
    const own = made.filter(({ targetUserId }) => targetUserId === signerId);
    const changed = own.map(({ targetKey }) => (known.devices.has(targetKey) ? targetKey : CROSS_SIGNING));
    await noteOwnDeviceChanges(tx, signerId, [...new Set(changed)]);
  });
  return refused;
}

async function readKnown(sql: Sql, signerId: UserId, users: readonly string[]): Promise<Known> {
  const local = users.flatMap((user) => {
    const userId = parseUserId(user);
    return userId !== undefined && !userId.includes('\0') && domainOf(userId) === sql.serverName ? [userId] : [];
  });
  const all = [...new Set([...local, signerId])];
  const devices = await readPublishedDevices(sql, all);
  const crossSigning = await readCrossSigningKeys(sql, all);
  const targets = new Map<string, JsonObject>();
  const signers = new Map<string, string>();
  const own = new Set(devices.flatMap(({ userId, deviceId }) => (userId === signerId ? [deviceId] : [])));
  for (const { userId, deviceId, keys } of devices) {
    targets.set(`${userId} ${deviceId}`, keys);
    const publicKey = isJsonObject(keys['keys']) ? keys['keys'][`ed25519:${deviceId}`] : undefined;
    if (userId === signerId && typeof publicKey === 'string') signers.set(`ed25519:${deviceId}`, publicKey);
  }
  for (const { userId, keys } of crossSigning satisfies readonly CrossSigningKey[]) {
    const publicKey = publicKeyOf(keys);
    if (publicKey === undefined) continue;
    targets.set(`${userId} ${publicKey}`, keys);
    if (userId === signerId) signers.set(`ed25519:${publicKey}`, publicKey);
  }
  return { targets, signers, devices: own };
}

interface Signing {
  readonly signerId: UserId;
  readonly user: string;
  readonly key: string;
  readonly serverName: string;
}

interface FoundSignatures {
  readonly kept: readonly KeySignature[];
  /** Why another is not; `undefined`: all are. */
  readonly refusal?: string;
}

/** The signatures that an object holds of the signer, and that are not published with the key. */
function signaturesIn(
  object: unknown,
  { signerId, user, key, serverName }: Signing,
  { targets, signers }: Known,
): FoundSignatures {
  const targetUserId = parseUserId(user);
  if (targetUserId === undefined || `${user}${key}`.includes('\0')) return none('that is not a user, or not a key');
  if (!isJsonObject(object as JsonObject)) return none('expected a signed object');
  const signed = object as JsonObject;
  const target = targets.get(`${user} ${key}`);
  if (domainOf(targetUserId) === serverName) {
    if (target === undefined) return none('there is no such key');
    const isSame = canonicalJsonWithout(signed, UNSIGNED) === canonicalJsonWithout(target, UNSIGNED);
    if (!isSame) return none('that is not the key that is published');
  } else if (signed['user_id'] !== user) {
    return none('that is not a key of that user');
  }
  const { signatures } = signed;
  const own = isJsonObject(signatures) && Object.hasOwn(signatures, signerId) ? signatures[signerId] : undefined;
  const kept: KeySignature[] = [];
  let refusal: string | undefined;
  for (const [signerKey, signature] of Object.entries(isJsonObject(own) ? own : {})) {
    const publicKey = signers.get(signerKey);
    // The signatures that it was published with come along.
    if (publicKey === undefined || typeof signature !== 'string' || hasSignature(target, signerId, signerKey)) continue;
    const verified = verifySignedJson(signed, signerId, signerKey, publicKey);
    if (verified.ok) kept.push({ signerId, signerKey, targetUserId, targetKey: key, signature });
    else refusal ??= verified.reason;
  }
  if (refusal !== undefined) return { kept, refusal };
  return kept.length > 0 ? { kept } : none('no signature by a known key of yours is on it');
}

function none(refusal: string): FoundSignatures {
  return { kept: [], refusal };
}

function hasSignature(target: JsonObject | undefined, signerId: UserId, signerKey: string): boolean {
  const signatures = target?.['signatures'];
  const own = isJsonObject(signatures) ? signatures[signerId] : undefined;
  return isJsonObject(own) && own[signerKey] !== undefined;
}
