/**
 * What is signed of a request between servers, and whether signatures on it are good.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#request-authentication
 */
import { canonicalJson } from '../json/canonical-json.ts';
import { type KeyId, type ServerName } from '../identifiers.ts';
import { type JsonObject } from '../pdu.ts';
import { type Verified, verifyText } from './signatures.ts';
import { refuse } from '../refusal.ts';

export interface SignedRequest {
  readonly method: string;
  /** Path and query, exactly as in the request line. */
  readonly uri: string;
  readonly origin: ServerName;
  readonly destination: ServerName;
  /** The body; absent for requests without one. */
  readonly content?: JsonObject;
}

/** What is signed: the request as one JSON object. */
export function signedObject({ method, uri, origin, destination, content }: SignedRequest): JsonObject {
  return { method, uri, origin, destination, ...(content === undefined ? {} : { content }) };
}

/** A request and the signatures of its origin on it, each with the key that it is said to be made with. */
export interface RequestClaim extends Omit<SignedRequest, 'content'> {
  readonly signatures: readonly { readonly keyId: KeyId; readonly signature: string; readonly publicKey: string }[];
}

/** Verifies every signature of a claim. `content`: the body, with the spelling of its numbers. Rules: as `verifyText`. */
export function verifyRequest({ signatures, ...request }: RequestClaim, content?: JsonObject): Verified {
  const text = Buffer.from(canonicalJson(signedObject(content === undefined ? request : { ...request, content })));
  for (const { keyId, signature, publicKey } of signatures) {
    const verified = verifyText(text, signature, publicKey);
    if (!verified.ok) {
      return refuse(
        verified.rule,
        `the signature of ${request.origin} with ${keyId} does not verify: ${verified.reason}`,
      );
    }
  }
  return { ok: true };
}
