/** Tokens and names that nobody guesses, and how tokens are kept. */
import { createHash, randomBytes, randomInt } from 'node:crypto';

const TOKEN_BYTES = 32;
const DEVICE_ID_CHARS = 10;
const LOCALPART_CHARS = 16;

/** A new token, 43 characters; `kind` is for people who find one. */
export function makeToken(kind: 'access' | 'refresh' | 'login'): string {
  return `rj_${kind}_${randomBytes(TOKEN_BYTES).toString('base64url')}`;
}

/** What is stored of a token. It has 256 random bits, so nothing slower than SHA-256 is needed. */
export function hashToken(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}

/** Ten capital letters, which people can compare. */
export function makeDeviceId(): string {
  return letters(DEVICE_ID_CHARS).toUpperCase();
}

/** For whoever registers without a name. */
export function makeLocalpart(): string {
  return letters(LOCALPART_CHARS);
}

function letters(count: number): string {
  return Array.from({ length: count }, () => String.fromCharCode(97 + randomInt(26))).join('');
}
