/**
 * A server's signing key, in memory and in the one-line file format that homeservers share:
 * `ed25519 a_xxxx <seed, unpadded base64>`.
 *
 * tweetnacl makes the key pair; node:crypto signs, because a server signs every request it makes and tweetnacl takes
 * milliseconds for one. Ed25519 is deterministic: the two give the same bytes, and a test holds them to it.
 */
import { type KeyObject, createPrivateKey, sign } from 'node:crypto';
import nacl from 'tweetnacl';
import { decodeBase64, encodeBase64 } from './base64.ts';
import { type KeyId, parseKeyId } from '../identifiers.ts';

const SEED_BYTES = 32;

/** The fixed head of a PKCS #8 structure that holds an Ed25519 seed. */
const PKCS8_HEAD = Buffer.from('302e020100300506032b657004220420', 'hex');

export interface SigningKey {
  /** `ed25519:a_xxxx`. */
  readonly keyId: KeyId;
  /** 32 bytes, unpadded base64. */
  readonly publicKey: string;
  readonly seed: Uint8Array;
  readonly privateKey: KeyObject;
}

/** Makes a key out of random bytes (`crypto.randomBytes`); its version is `a_` and four random letters, as Synapse's are. */
export function generateSigningKey(random: (bytes: number) => Uint8Array): SigningKey {
  const letters = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ';
  const version = Array.from(random(4), (byte) => letters[byte % letters.length]).join('');
  return signingKeyFromSeed(`ed25519:a_${version}` as KeyId, random(SEED_BYTES));
}

/** The key of a known seed of 32 bytes. Throws on any other length. */
export function signingKeyFromSeed(keyId: KeyId, seed: Uint8Array): SigningKey {
  const pair = nacl.sign.keyPair.fromSeed(Uint8Array.from(seed));
  const privateKey = createPrivateKey({ key: Buffer.concat([PKCS8_HEAD, seed]), format: 'der', type: 'pkcs8' });
  return { keyId, publicKey: encodeBase64(pair.publicKey), seed: Uint8Array.from(seed), privateKey };
}

/** Reads the line of a key file; `undefined` when it is not `ed25519 <version> <seed>`. */
export function parseSigningKey(text: string): SigningKey | undefined {
  const [algorithm, version, seedText, ...rest] = text.trim().split(/\s+/);
  if (algorithm !== 'ed25519' || seedText === undefined || rest.length > 0) return undefined;
  const keyId = parseKeyId(`ed25519:${version}`);
  const seed = decodeBase64(seedText);
  return keyId === undefined || seed?.length !== SEED_BYTES ? undefined : signingKeyFromSeed(keyId, seed);
}

/** The line of a key file, with a newline at its end. Secret: mode 0600, never logged. */
export function formatSigningKey(key: SigningKey): string {
  return `ed25519 ${key.keyId.slice('ed25519:'.length)} ${encodeBase64(key.seed)}\n`;
}

/** Signs bytes: 64 bytes, unpadded base64. */
export function signBytes(key: SigningKey, message: Uint8Array): string {
  return encodeBase64(sign(null, message, key.privateKey));
}
