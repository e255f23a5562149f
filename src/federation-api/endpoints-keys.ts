/**
 * Our keys and our version, for anybody.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#publishing-keys and #server-implementation
 */
import { type Clock } from '../clock.ts';
import { type OldSigningKey, makeKeyAnswer } from '../federation/key-answer.ts';
import { type Endpoint, type OpenRequest } from '../http/endpoint.ts';
import { type ServerName } from '../matrix/identifiers.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { type SigningKey } from '../matrix/signing/signing-key.ts';

/** Servers keep our keys for a day; the answer is signed anew every hour. */
const KEYS_VALID_MS = 24 * 3_600_000;
const KEYS_SIGNED_EVERY_MS = 3_600_000;

export interface KeysContext {
  /** Our key object, signed. */
  readonly keys: () => JsonObject;
  /** Of Rejoinder. */
  readonly version: string;
}

export const KEY_ENDPOINTS: readonly Endpoint<OpenRequest, KeysContext>[] = [
  { method: 'GET', path: '/_matrix/key/v2/server', answer: (_request, { keys }) => keys() },
  { method: 'GET', path: '/_matrix/key/v2/server/:keyId', answer: (_request, { keys }) => keys() },
  {
    method: 'GET',
    path: '/_matrix/federation/v1/version',
    answer: (_request, { version }) => ({ server: { name: 'Rejoinder', version } }),
  },
];

/** Our key object, signed at most once in an hour. */
export function createKeyAnswers(
  serverName: ServerName,
  key: SigningKey,
  oldKeys: readonly OldSigningKey[],
  clock: Clock,
): () => JsonObject {
  let answer: JsonObject | undefined;
  let signedAt = 0;
  return () => {
    const now = clock.now();
    if (answer === undefined || Math.abs(now - signedAt) >= KEYS_SIGNED_EVERY_MS) {
      answer = makeKeyAnswer(serverName, key, now + KEYS_VALID_MS, oldKeys);
      signedAt = now;
    }
    return answer;
  };
}
