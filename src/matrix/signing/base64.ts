/**
 * Unpadded base64, as hashes, keys and signatures are written.
 *
 * Source: https://spec.matrix.org/v1.16/appendices/#unpadded-base64
 */

const BASE64 = /^[A-Za-z0-9+/_-]*={0,2}$/;

/** Decodes standard or URL-safe base64, with or without padding; `undefined` for other characters or an impossible length. */
export function decodeBase64(text: string): Buffer | undefined {
  if (!BASE64.test(text)) return undefined;
  const unpadded = text.indexOf('=') < 0 ? text.length : text.indexOf('=');
  return unpadded % 4 === 1 ? undefined : Buffer.from(text, 'base64');
}

/** Encodes bytes in the standard alphabet, without padding. */
export function encodeBase64(bytes: Uint8Array): string {
  const padded = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
  return padded.replace(/=+$/, '');
}
