/**
 * What users of this server have published of their devices and of themselves, put together as others get it.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#post_matrixclientv3keysquery
 */
import { type UserId } from '../matrix/identifiers.ts';
import { isJsonObject } from '../matrix/json/strict-json.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { type Sql } from '../store/open-store.ts';
import { type KeySignature, readCrossSigningKeys, readKeySignatures } from '../store/tables/cross-signing.ts';
import { readPublishedDevices } from '../store/tables/device-keys.ts';
import { type PublishedKeys } from './contract.ts';

/**
 * Of each of the users what there is; who has published nothing has no devices. `viewer`: who sees his own signatures on others' keys, and
 * the key that he makes these with; `null`: another server.
 */
export async function readPublishedKeys(
  sql: Sql,
  userIds: readonly UserId[],
  viewer: UserId | null,
): Promise<ReadonlyMap<UserId, PublishedKeys>> {
  const devices = await readPublishedDevices(sql, userIds);
  const crossSigning = await readCrossSigningKeys(sql, userIds);
  const signatures = signaturesByTarget(await readKeySignatures(sql, userIds, viewer));
  const published = new Map(
    userIds.map((userId) => [userId, { devices: new Map<string, JsonObject>(), crossSigning: new Map() }]),
  );
  for (const { userId, deviceId, keys, displayName } of devices) {
    const isNamed = viewer !== null && displayName !== null;
    published.get(userId)?.devices.set(deviceId, {
      ...withSignatures(keys, signatures.get(placeOf(userId, deviceId)) ?? []),
      ...(isNamed ? { unsigned: { device_display_name: displayName } } : {}),
    });
  }
  for (const { userId, usage, keys } of crossSigning) {
    if (usage === 'user_signing' && userId !== viewer) continue;
    const publicKey = publicKeyOf(keys) ?? '';
    published
      .get(userId)
      ?.crossSigning.set(usage, withSignatures(keys, signatures.get(placeOf(userId, publicKey)) ?? []));
  }
  return published;
}

/** What another server says of its users, with the signatures that `viewer` has made on their keys here. */
export async function withSignaturesOf(
  sql: Sql,
  viewer: UserId,
  users: ReadonlyMap<UserId, PublishedKeys>,
): Promise<ReadonlyMap<UserId, PublishedKeys>> {
  const made = await readKeySignatures(sql, [...users.keys()], viewer);
  if (made.length === 0) return users;
  const signatures = signaturesByTarget(made);
  return new Map(
    [...users].map(([userId, { devices, crossSigning }]) => [
      userId,
      {
        devices,
        crossSigning: new Map(
          [...crossSigning].map(([usage, keys]) => [
            usage,
            withSignatures(keys, signatures.get(placeOf(userId, publicKeyOf(keys) ?? '')) ?? []),
          ]),
        ),
      },
    ]),
  );
}

/** The one public key of a cross-signing key; `undefined`: it has none, or several. */
export function publicKeyOf(key: JsonObject): string | undefined {
  const { keys } = key;
  const [first, ...others] = isJsonObject(keys) ? Object.entries(keys) : [];
  if (first === undefined || others.length > 0 || typeof first[1] !== 'string') return undefined;
  return first[0] === `ed25519:${first[1]}` ? first[1] : undefined;
}

function placeOf(userId: UserId, key: string): string {
  return `${userId} ${key}`;
}

function signaturesByTarget(signatures: readonly KeySignature[]): ReadonlyMap<string, readonly KeySignature[]> {
  const byTarget = new Map<string, KeySignature[]>();
  for (const signature of signatures) {
    const place = placeOf(signature.targetUserId, signature.targetKey);
    const ofPlace = byTarget.get(place);
    if (ofPlace === undefined) byTarget.set(place, [signature]);
    else ofPlace.push(signature);
  }
  return byTarget;
}

function withSignatures(key: JsonObject, added: readonly KeySignature[]): JsonObject {
  if (added.length === 0) return key;
  const given = isJsonObject(key['signatures']) ? key['signatures'] : {};
  const signatures: Record<string, JsonObject> = Object.fromEntries(
    Object.entries(given).flatMap(([name, of]) => (isJsonObject(of) ? [[name, of]] : [])),
  );
  for (const { signerId, signerKey, signature } of added) {
    signatures[signerId] = { ...signatures[signerId], [signerKey]: signature };
  }
  return { ...key, signatures };
}
