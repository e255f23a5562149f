/**
 * The signing keys of simulated servers: each a function of a seed and the server's name, so that a room has the same
 * event ids in every run, and made when it is first asked for.
 */
import { type KeyObject, createPrivateKey, createPublicKey, hash } from 'node:crypto';
import { invariant } from '../invariant.ts';
import { encodeBase64 } from '../matrix/signing/base64.ts';
import { type KeyId, type ServerName } from '../matrix/identifiers.ts';
import { type SigningKey } from '../matrix/signing/signing-key.ts';

/** The keys of a federation, one for each server. */
export interface ServerKeys {
  /** The key of a server; the same object each time. Any name has one. */
  of(serverName: ServerName): SigningKey;
}

/** The fixed head of a PKCS #8 structure that holds an Ed25519 seed. */
const PKCS8_HEAD = Buffer.from('302e020100300506032b657004220420', 'hex');
const UNREAD_PUBLIC_HALF = Buffer.alloc(32).toString('base64url');

/** The keys that belong to a seed. */
export function serverKeysFromSeed(seed: number): ServerKeys {
  const keys = new Map<ServerName, SigningKey>();
  return {
    of(serverName) {
      let key = keys.get(serverName);
      if (key === undefined) {
        key = deriveKey(seed, serverName);
        keys.set(serverName, key);
      }
      return key;
    },
  };
}

/** node:crypto works out the public key. A test holds the result to `signingKeyFromSeed`, which asks tweetnacl. */
function deriveKey(seed: number, serverName: ServerName): SigningKey {
  const secret = hash('sha256', `rejoinder simulator key ${String(seed)} ${serverName}`, 'buffer');
  const privateKey = privateKeyOf(secret);
  const { x } = createPublicKey(privateKey).export({ format: 'jwk' });
  invariant(x !== undefined, 'an Ed25519 key has a public half');
  return {
    keyId: `ed25519:a_${hash('sha256', secret, 'hex').slice(0, 6)}` as KeyId,
    publicKey: encodeBase64(Buffer.from(x, 'base64url')),
    seed: Uint8Array.from(secret),
    privateKey,
  };
}

/**
 * A JWK is read in 45 µs, PKCS #8 in 400 µs, which is seconds for the servers of a big room. Node wants the public half
 * (`x`) to be there and does not look at it; should a later version compare it, PKCS #8 it is.
 */
function privateKeyOf(secret: Buffer): KeyObject {
  const d = secret.toString('base64url');
  try {
    return createPrivateKey({ key: { kty: 'OKP', crv: 'Ed25519', d, x: UNREAD_PUBLIC_HALF }, format: 'jwk' });
  } catch {
    return createPrivateKey({ key: Buffer.concat([PKCS8_HEAD, secret]), format: 'der', type: 'pkcs8' });
  }
}
