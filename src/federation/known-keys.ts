/**
 * What is known of a key, and what a further answer may change about it. The key store decides alike, in SQL
 * (`src/store/tables/keys.ts`).
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#retrieving-server-keys
 */
import { type KeyRequest, type KnownKey, type VerifyKey } from '../verification/contract.ts';

/** "Servers MUST use the lesser of this field and 7 days into the future when determining if a key is valid." */
export const VALIDITY_MS_MAX = 7 * 86_400_000;

/** A key as events are verified with it. `now`: an answer of this moment could extend its validity to seven days on. */
export function verifyKeyOf({ serverName, keyId, publicKey, validUntilTs, expired }: KnownKey, now: number): VerifyKey {
  const renewableUntilTs = expired ? validUntilTs : Math.max(validUntilTs, now + VALIDITY_MS_MAX);
  return { serverName, keyId, publicKey, validUntilTs, renewableUntilTs };
}

/**
 * Whether asking gives nothing better: the key is valid at the time wanted, or known to have ended. A time that no answer of
 * today can reach is not waited for; it only wants the key to be fresh, as other events in its batch may.
 */
export function isEnough(key: KnownKey, { validAtTs }: Pick<KeyRequest, 'validAtTs'>, now: number): boolean {
  const wantedTs = validAtTs > now + VALIDITY_MS_MAX ? now : validAtTs;
  return key.expired || key.validUntilTs >= wantedTs;
}

/**
 * Of what was known of a key and what a later answer says: of another key under the same id (its server lost its disk) the
 * later, of one key an expiry, else the later end of its validity.
 */
export function better(known: KnownKey | undefined, later: KnownKey | undefined): KnownKey | undefined {
  if (known === undefined || later === undefined) return known ?? later;
  if (known.fetchedAt > later.fetchedAt) return better(later, known);
  if (known.publicKey !== later.publicKey || later.expired) return later;
  return known.expired || known.validUntilTs > later.validUntilTs ? { ...known, fetchedAt: later.fetchedAt } : later;
}
