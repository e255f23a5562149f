/**
 * The signing keys of simulated servers: each a function of a seed and the server's name, so that a room has the same
 * event ids in every run, and made when it is first asked for.
 */
import { createPrivateKey, createPublicKey, hash } from 'node:crypto';
import { encodeBase64 } from '../matrix/base64.ts';
import { type KeyId, type ServerName } from '../matrix/identifiers.ts';
import { type SigningKey } from '../matrix/signing-key.ts';

/** The keys of a federation, one for each server. */
export interface ServerKeys {
  /** The key of a server; the same object each time. Any name has one. */
  of(serverName: ServerName): SigningKey;
}

/** The fixed head of a PKCS #8 structure that holds an Ed25519 seed. */
const PKCS8_HEAD = Buffer.from('302e020100300506032b657004220420', 'hex');
/** What precedes the 32 bytes of the key in a SubjectPublicKeyInfo. */
const SPKI_HEAD_BYTES = 12;

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

/**
 * node:crypto derives the public key, because tweetnacl takes milliseconds for each of thousands of servers. A test holds
 * the result to `signingKeyFromSeed`, which asks tweetnacl.
 */
function deriveKey(seed: number, serverName: ServerName): SigningKey {
  const secret = hash('sha256', `rejoinder simulator key ${String(seed)} ${serverName}`, 'buffer');
  const privateKey = createPrivateKey({ key: Buffer.concat([PKCS8_HEAD, secret]), format: 'der', type: 'pkcs8' });
  const publicKey = createPublicKey(privateKey).export({ format: 'der', type: 'spki' }).subarray(SPKI_HEAD_BYTES);
  const version = hash('sha256', secret, 'hex').slice(0, 6);
  return {
    keyId: `ed25519:a_${version}` as KeyId,
    publicKey: encodeBase64(publicKey),
    seed: Uint8Array.from(secret),
    privateKey,
  };
}
