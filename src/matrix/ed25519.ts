/**
 * Ed25519 verification that agrees with libsodium's, which most servers use: the signature's scalar is reduced, neither
 * key nor commitment lies in the small subgroup, and the key is written canonically. node:crypto does the mathematics
 * (about 84 times as fast as tweetnacl here) and leaves the last three to us; a server that accepted more than the
 * others would split rooms.
 *
 * Source: RFC 8032, section 5.1.7; https://spec.matrix.org/v1.16/appendices/#signing-json
 */
import { createPublicKey, verify, type KeyObject } from 'node:crypto';
import { LRUCache } from 'lru-cache';

export const PUBLIC_KEY_BYTES = 32;
const SIGNATURE_BYTES = 64;

/** Keys ready for use. A room of 13,000 members has about 1,300 servers; a key object is well under a kilobyte. */
const CACHED_KEYS_MAX = 20_000;

/** The y coordinates (little-endian, sign bit cleared) of the eight points of small order, in every spelling. */
const SMALL_ORDER_Y: ReadonlySet<string> = new Set([
  '00'.repeat(32),
  `01${'00'.repeat(31)}`,
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
  `ec${'ff'.repeat(30)}7f`,
  `ed${'ff'.repeat(30)}7f`,
  `ee${'ff'.repeat(30)}7f`,
]);
const SMALL_ORDER_FIRST_BYTES: ReadonlySet<number> = new Set([0x00, 0x01, 0x26, 0xc7, 0xec, 0xed, 0xee]);

/** The order of the group, 2²⁵² + 27742317777372353535851937790883648493, little-endian. */
const GROUP_ORDER = Buffer.from('edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010', 'hex');

/** The fixed head of a SubjectPublicKeyInfo that holds an Ed25519 key. */
const SPKI_HEAD = Buffer.from('302a300506032b6570032100', 'hex');

/** A public key that passed the checks on keys. */
export interface PreparedKey {
  readonly keyObject: KeyObject;
}

const prepared = new LRUCache<string, PreparedKey>({ max: CACHED_KEYS_MAX });

/** Prepares a public key of 32 bytes; `undefined` when it is malformed, not canonical, or of small order. */
export function prepareKey(publicKey: Uint8Array): PreparedKey | undefined {
  if (publicKey.length !== PUBLIC_KEY_BYTES || !isCanonicalY(publicKey) || hasSmallOrder(publicKey)) return undefined;
  const bytes = Buffer.from(publicKey.buffer, publicKey.byteOffset, PUBLIC_KEY_BYTES);
  const cacheKey = bytes.toString('latin1');
  const cached = prepared.get(cacheKey);
  if (cached !== undefined) return cached;
  const keyObject = createPublicKey({ key: Buffer.concat([SPKI_HEAD, bytes]), format: 'der', type: 'spki' });
  const key = { keyObject };
  prepared.set(cacheKey, key);
  return key;
}

/** Whether `signature` (64 bytes) is the key's over `message`. */
export function verifyWith(key: PreparedKey, message: Uint8Array, signature: Uint8Array): boolean {
  if (signature.length !== SIGNATURE_BYTES || !isReducedScalar(signature) || hasSmallOrder(signature)) return false;
  return verify(null, message, key.keyObject, signature);
}

/** Looks at the first 32 bytes: a public key, or the commitment R at the head of a signature. */
function hasSmallOrder(point: Uint8Array): boolean {
  if (!SMALL_ORDER_FIRST_BYTES.has(point[0] as number)) return false;
  const y = Buffer.from(point.subarray(0, PUBLIC_KEY_BYTES));
  y[31] = (y[31] as number) & 0x7f;
  return SMALL_ORDER_Y.has(y.toString('hex'));
}

/** y < p = 2²⁵⁵ − 19. Those at and above p are a second spelling of 0 to 18. */
function isCanonicalY(point: Uint8Array): boolean {
  if (((point[31] as number) & 0x7f) !== 0x7f) return true;
  for (let i = 30; i > 0; i--) if (point[i] !== 0xff) return true;
  return (point[0] as number) < 0xed;
}

/** S < L: every other S is a second spelling of the same signature, which anyone can make. */
function isReducedScalar(signature: Uint8Array): boolean {
  for (let i = 31; i >= 0; i--) {
    const difference = (signature[32 + i] as number) - (GROUP_ORDER[i] as number);
    if (difference !== 0) return difference < 0;
  }
  return false;
}
