/**
 * One signed federation request: discovery, connection, headers. Tries the targets of a server in turn while none has
 * been connected to; once the request may have been sent, it is never sent again from here.
 */
import { type Readable } from 'node:stream';
import { type Dispatcher } from 'undici';
import { type Clock } from '../clock.ts';
import { canonicalJson } from '../matrix/json/canonical-json.ts';
import { type ServerName } from '../matrix/identifiers.ts';
import { type Json, type JsonObject } from '../matrix/pdu.ts';
import { type SigningKey } from '../matrix/signing/signing-key.ts';
import { isJsonObject, parseJson } from '../matrix/json/strict-json.ts';
import { AddressRefusedError } from './connect.ts';
import { createDeadline } from './deadline.ts';
import { type Destination, type Discovery } from './discovery.ts';
import { FederationError, errorOfAnswer, kindOfNetworkError } from './error.ts';
import { SplitError } from '../matrix/json/event-splitter.ts';
import { BodyTooLargeError, discardBody, readBody } from './read-body.ts';
import { authorizationOf } from './request-auth.ts';

/** Of an answer other than 200 only errcode and error are read. */
const ERROR_BYTES_MAX = 65_536;

/** Failures before anything was sent: another target may do. */
const NOT_CONNECTED: ReadonlySet<unknown> = new Set([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EADDRNOTAVAIL',
  'UND_ERR_CONNECT_TIMEOUT',
]);

export interface FederationRequest {
  readonly destination: ServerName;
  readonly method: 'GET' | 'POST' | 'PUT';
  /** Path and query, percent-encoded. */
  readonly uri: string;
  readonly content?: JsonObject;
  /** Requests for keys and versions go unsigned, as the spec has them. */
  readonly isSigned: boolean;
  /** Until the whole body is read, milliseconds. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  /** As in `RequestOptions`. */
  readonly onReceived: (bytes: number) => void;
}

/** A 200 answer whose body is still to be read. */
export interface OpenAnswer {
  readonly body: Readable;
  /** The caller's. */
  readonly signal: AbortSignal;
  /** To be told the bytes of each part of the body that is read. */
  readonly onReceived: (bytes: number) => void;
  /** The error that anything thrown while reading stands for. */
  readonly translate: (error: unknown) => Error;
  /** Must be called when the body is done with. */
  readonly onEnd: () => void;
}

export interface Transport {
  send(request: FederationRequest): Promise<OpenAnswer>;
}

export interface TransportDependencies {
  readonly serverName: ServerName;
  readonly signingKey: SigningKey;
  readonly agent: Dispatcher;
  readonly discovery: Discovery;
  readonly clock: Clock;
  readonly userAgent: string;
  /** Without a byte for so long, the answer is given up, milliseconds. */
  readonly idleMs: number;
  readonly onAnswered: (request: FederationRequest, status: number, tookMs: number) => void;
}

/** Sends signed requests to discovered addresses over connections that are kept for a while. */
export function createTransport(dependencies: TransportDependencies): Transport {
  const { serverName, clock } = dependencies;
  return {
    async send(request) {
      const { destination } = request;
      const what = `${request.method} ${pathOf(request.uri)}`;
      if (destination === serverName) {
        throw new FederationError(destination, 'refused-by-policy', `${what}: we do not ask ourselves`);
      }
      request.signal.throwIfAborted();
      const startedAt = clock.now();
      const deadline = createDeadline(request.signal, request.timeoutMs);
      let hasAnswered = false;
      const translate = (error: unknown): Error => {
        if (request.signal.aborted) return request.signal.reason as Error;
        const cause: unknown = deadline.signal.aborted ? deadline.signal.reason : error;
        return toFederationError(destination, what, cause, hasAnswered);
      };
      try {
        const found = await dependencies.discovery.resolve(destination, deadline.signal);
        const answer = await tryTargets(dependencies, request, found, deadline.signal);
        hasAnswered = true;
        request.onReceived(0);
        dependencies.onAnswered(request, answer.statusCode, clock.now() - startedAt);
        if (answer.statusCode !== 200) throw await readError(request, what, answer, clock.now());
        const encoding = answer.headers['content-encoding'];
        if (encoding !== undefined && encoding !== 'identity') {
          // Nothing else was asked for: a bomb is never unpacked.
          discardBody(answer.body);
          throw new FederationError(destination, 'malformed', `${what} came in an encoding that was not asked for`);
        }
        const { signal, onReceived } = request;
        return { body: answer.body, signal, onReceived, translate, onEnd: () => deadline.dispose() };
      } catch (error) {
        deadline.dispose();
        throw translate(error);
      }
    },
  };
}

/** Reads a small answer whole. Throws a `FederationError` when it is too large or not JSON as servers may write it. */
export async function readJson(
  serverName: ServerName,
  answer: OpenAnswer,
  bytesMax: number,
  isPair = false,
): Promise<JsonObject> {
  try {
    const bytes = await readBody(answer.body, bytesMax, answer.onReceived);
    const parsed = parseJson(bytes);
    if (!parsed.ok) throw new FederationError(serverName, 'malformed', `the answer is ${parsed.reason}`);
    const value = isPair && Array.isArray(parsed.value) ? (parsed.value as readonly Json[])[1] : parsed.value;
    if (!isJsonObject(value)) throw new FederationError(serverName, 'malformed', 'the answer is not a JSON object');
    return value;
  } catch (error) {
    throw answer.translate(error);
  } finally {
    answer.onEnd();
  }
}

async function tryTargets(
  dependencies: TransportDependencies,
  request: FederationRequest,
  found: Destination,
  signal: AbortSignal,
): Promise<Dispatcher.ResponseData> {
  const { serverName, signingKey, agent, idleMs } = dependencies;
  const signed = { ...request, origin: serverName };
  const headers = {
    host: found.host,
    'user-agent': dependencies.userAgent,
    accept: 'application/json',
    'accept-encoding': 'identity',
    ...(request.content === undefined ? {} : { 'content-type': 'application/json' }),
    ...(request.isSigned ? { authorization: authorizationOf(signed, signingKey) } : {}),
  };
  if (found.targets.length === 0) throw new Error('its DNS records say that it does not offer the service');
  let failure: unknown;
  for (const { hostname, port } of found.targets) {
    try {
      return await agent.request({
        origin: `https://${hostname}:${port}`,
        path: request.uri,
        method: request.method,
        headers,
        ...(request.content === undefined ? {} : { body: canonicalJson(request.content) }),
        signal,
        headersTimeout: request.timeoutMs,
        bodyTimeout: idleMs,
      });
    } catch (error) {
      const isNotConnected =
        error instanceof AddressRefusedError || NOT_CONNECTED.has((error as { code?: unknown }).code);
      if (!isNotConnected || signal.aborted) throw error;
      failure ??= error;
    }
  }
  throw failure;
}

async function readError(
  { destination, onReceived }: FederationRequest,
  what: string,
  answer: Dispatcher.ResponseData,
  now: number,
): Promise<FederationError> {
  let body: unknown;
  try {
    const parsed = parseJson(await readBody(answer.body, ERROR_BYTES_MAX, onReceived));
    body = parsed.ok ? parsed.value : undefined;
  } catch {
    // The status says enough.
  }
  const retryAfter = answer.headers['retry-after'];
  return errorOfAnswer(destination, what, answer.statusCode, body, [retryAfter ?? []].flat()[0], now);
}

/** The error that anything thrown while asking a server stands for. */
export function toFederationError(
  serverName: ServerName,
  what: string,
  error: unknown,
  hasAnswered: boolean,
): FederationError {
  if (error instanceof FederationError) return error;
  const reason = `${what}: ${describe(error)}`;
  if (error instanceof AddressRefusedError) {
    return new FederationError(serverName, 'refused-by-policy', reason, { cause: error });
  }
  if (error instanceof BodyTooLargeError) return new FederationError(serverName, 'too-large', reason);
  if (error instanceof SplitError) return new FederationError(serverName, error.kind, reason);
  const kind = kindOfNetworkError(error);
  return new FederationError(serverName, kind, reason, { cause: error, isSilence: kind === 'timeout' && !hasAnswered });
}

/** The words of a network error; several addresses that all failed come as an AggregateError without any. */
function describe(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return describe(error.errors[0]);
  if (!(error instanceof Error)) return String(error);
  const { code } = error as NodeJS.ErrnoException;
  if (error.message === '') return code ?? error.name;
  return code === undefined || error.message.includes(code) ? error.message : `${error.message} (${code})`;
}

/** The endpoint without room, event and query, for messages. */
function pathOf(uri: string): string {
  return uri.split('?', 1)[0]?.split('/').slice(0, 6).join('/') ?? uri;
}
