/**
 * Who sent a request: signing ours and verifying those of others, with the X-Matrix scheme.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#request-authentication
 */
import { type Clock } from '../clock.ts';
import { type KeyId, type ServerName, parseKeyId, parseServerName } from '../matrix/identifiers.ts';
import { type RequestClaim, type SignedRequest, signedObject } from '../matrix/signing/signed-request.ts';
import { type Verified, signJson } from '../matrix/signing/signatures.ts';
import { type SigningKey } from '../matrix/signing/signing-key.ts';
import { type KeyResolver } from '../verification/contract.ts';
import { createDeadline } from './deadline.ts';

/** A header holds four short values; identifiers end at 255 bytes each and a signature at 88. */
const HEADER_CHARS_MAX = 2048;
/** A server with several keys may sign with each; more headers than this are noise. */
const HEADERS_MAX = 4;
/** For the keys of a sender; as long as a notary and then the server itself may take. */
const KEYS_MS_MAX = 30_000;

/** The Authorization header of a request of ours. */
export function authorizationOf(request: SignedRequest, key: SigningKey): string {
  const { signatures } = signJson(signedObject(request), request.origin, key) as {
    signatures: Record<string, Record<string, string>>;
  };
  const signature = signatures[request.origin]?.[key.keyId] ?? '';
  return `X-Matrix origin="${request.origin}",destination="${request.destination}",key="${key.keyId}",sig="${signature}"`;
}

export interface AuthHeader {
  readonly origin: ServerName;
  /** Absent in requests of servers older than version 1.3 of the spec; the signature covers it all the same. */
  readonly destination: ServerName | undefined;
  readonly keyId: KeyId;
  readonly signature: string;
}

// RFC 9110 auth-param: a token or a quoted string; older servers also leave values with colons unquoted.
const PARAM = /[\s,]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]*))\s*(?=,|$)/y;

/** Reads one X-Matrix header; `undefined` when it is anything else or lacks what is needed. */
export function parseAuthHeader(header: string): AuthHeader | undefined {
  if (header.length > HEADER_CHARS_MAX) return undefined;
  const scheme = /^X-Matrix\s+/i.exec(header);
  if (scheme === null) return undefined;
  const params = new Map<string, string>();
  PARAM.lastIndex = scheme[0].length;
  while (PARAM.lastIndex < header.length) {
    const at = PARAM.lastIndex;
    const match = PARAM.exec(header);
    if (match === null) {
      if (/^[\s,]*$/.test(header.slice(at))) break;
      return undefined;
    }
    const name = (match[1] ?? '').toLowerCase();
    if (params.has(name)) return undefined;
    params.set(name, match[2]?.replace(/\\(.)/g, '$1') ?? match[3] ?? '');
  }
  const origin = parseServerName(params.get('origin'));
  const keyId = parseKeyId(params.get('key'));
  const signature = params.get('sig');
  const destination = params.has('destination') ? parseServerName(params.get('destination')) : undefined;
  if (origin === undefined || keyId === undefined || signature === undefined || signature === '') return undefined;
  if (params.has('destination') && destination === undefined) return undefined;
  return { origin, destination, keyId, signature };
}

export interface ReceivedRequest {
  readonly method: string;
  /** Path and query, exactly as in the request line. */
  readonly uri: string;
  /** Every Authorization header, each apart. */
  readonly authorization: readonly string[];
  /** Verifies the signatures over the request and its body. It is called once the keys are there. */
  readonly verify: (claim: RequestClaim) => Verified | Promise<Verified>;
}

export type RequestAuthRule =
  | 'header-missing'
  | 'header-malformed'
  | 'origins-differ'
  | 'origin-is-us'
  | 'wrong-destination'
  | 'key-unavailable'
  | 'signature-wrong';

interface RefusedAuth {
  readonly ok: false;
  readonly rule: RequestAuthRule;
  readonly reason: string;
}

export type RequestAuth = { readonly ok: true; readonly origin: ServerName } | RefusedAuth;

/** Whom a request claims to come from, with the keys by which that can be verified. */
export interface Signer extends Pick<RequestClaim, 'origin' | 'destination' | 'signatures'> {
  readonly ok: true;
}

export interface RequestAuthenticator {
  readonly ourselves: ServerName;
  readonly resolveKeys: KeyResolver;
  readonly clock: Clock;
}

/**
 * Says which server sent a request. Of several headers each must be good, and all of the same server. What `verify` throws is thrown
 * on.
 */
export async function authenticate(
  { method, uri, authorization, verify }: ReceivedRequest,
  authenticator: RequestAuthenticator,
  signal: AbortSignal,
): Promise<RequestAuth> {
  const signer = await findSigner(authorization, authenticator, signal);
  if (!signer.ok) return signer;
  const { origin, destination, signatures } = signer;
  const verified = await verify({ method, uri, origin, destination, signatures });
  return verified.ok ? { ok: true, origin } : { ok: false, rule: 'signature-wrong', reason: verified.reason };
}

/**
 * The first half of that: all that can be known before a body is read. Reading a big one takes memory, and seconds where somebody
 * means it to; whoever has no key at all gets none of them.
 */
export async function findSigner(
  authorization: readonly string[],
  { ourselves, resolveKeys, clock }: RequestAuthenticator,
  signal: AbortSignal,
): Promise<Signer | RefusedAuth> {
  const no = (rule: RequestAuthRule, reason: string): RefusedAuth => ({ ok: false, rule, reason });
  if (authorization.length === 0) return no('header-missing', 'the request is not signed');
  if (authorization.length > HEADERS_MAX) return no('header-malformed', `over ${HEADERS_MAX} headers`);
  const headers: AuthHeader[] = [];
  for (const text of authorization) {
    const header = parseAuthHeader(text);
    if (header === undefined) return no('header-malformed', 'the Authorization header is not of the X-Matrix scheme');
    if (header.destination !== undefined && header.destination !== ourselves) {
      return no('wrong-destination', 'the request is signed for another server');
    }
    headers.push(header);
  }
  const origin = (headers[0] as AuthHeader).origin;
  if (headers.some((header) => header.origin !== origin)) {
    return no('origins-differ', 'the headers name several servers');
  }
  // Nobody but ourselves holds our key, and we never send requests to ourselves.
  if (origin === ourselves) return no('origin-is-us', 'the request claims to come from this server');

  const validAtTs = clock.now();
  const wanted = headers.map(({ keyId }) => ({ serverName: origin, keyId, validAtTs }));
  const keys = await untilLate(signal, (untilThen) => resolveKeys(wanted, untilThen, 'request'));
  const isOfKey = (keyId: KeyId) => (key: (typeof keys)[number]) => key.serverName === origin && key.keyId === keyId;
  const usable = headers.flatMap(({ keyId, signature }) => {
    const key = keys.find(isOfKey(keyId));
    return key === undefined || key.validUntilTs < validAtTs ? [] : [{ keyId, signature, publicKey: key.publicKey }];
  });
  const lacking = headers.find(({ keyId }) => !usable.some((found) => found.keyId === keyId));
  if (lacking !== undefined) return no('key-unavailable', `the key ${lacking.keyId} of ${origin} cannot be had`);
  return { ok: true, origin, destination: ourselves, signatures: usable };
}

/** The keys that are had in time. */
async function untilLate(
  signal: AbortSignal,
  resolve: (signal: AbortSignal) => ReturnType<KeyResolver>,
): ReturnType<KeyResolver> {
  const deadline = createDeadline(signal, KEYS_MS_MAX);
  try {
    return await resolve(deadline.signal);
  } catch (error) {
    if (deadline.signal.aborted && !signal.aborted) return [];
    throw error;
  } finally {
    deadline.dispose();
  }
}
