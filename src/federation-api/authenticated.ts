/** The part of the server that only answers to other homeservers: every request is signed, or refused with 401. */
import { type FastifyInstance, type FastifyRequest } from 'fastify';
import { type ServerName } from '../matrix/identifiers.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { parseWholeObject } from '../matrix/json/strict-json.ts';
import { type RequestAuthenticator, authenticate, parseAuthHeader } from '../federation/request-auth.ts';
import { type OpenRequest, openRequest } from '../http/endpoint.ts';
import { MatrixError } from '../http/matrix-error.ts';

export interface AuthenticatedRequest extends OpenRequest {
  /** Who signed it. */
  readonly origin: ServerName;
  /** The body as received; empty where there is none. */
  readonly raw: Uint8Array;
  /** That body; it may nest so deep that only its own parts, cut out of `raw`, can be read on. */
  readonly content: JsonObject | undefined;
}

/** Adds the check to an instance. `of` gives what was checked, in its handlers. */
export function requireSignature(
  app: FastifyInstance,
  authenticator: RequestAuthenticator,
  signal: AbortSignal,
): { readonly of: (request: FastifyRequest) => AuthenticatedRequest } {
  const checked = new WeakMap<FastifyRequest, AuthenticatedRequest>();

  // Before the body is read: whoever has no header at all sends us nothing.
  app.addHook('onRequest', (request, _reply, done) => {
    const headers = authorizationHeaders(request);
    if (headers.length === 0) throw unauthorized('the request is not signed');
    if (headers.some((header) => parseAuthHeader(header) === undefined)) {
      throw unauthorized('the Authorization header is not of the X-Matrix scheme');
    }
    done();
  });

  app.addHook('preHandler', async (request) => {
    const raw = request.body instanceof Uint8Array ? request.body : new Uint8Array();
    let content: JsonObject | undefined;
    const auth = await authenticate(
      {
        method: request.method,
        uri: request.raw.url ?? request.url,
        authorization: authorizationHeaders(request),
        ...(raw.length === 0 ? {} : { readContent: () => (content = readContent(raw)) }),
      },
      authenticator,
      signal,
    );
    if (!auth.ok) throw unauthorized(auth.reason);
    checked.set(request, { ...openRequest(request), origin: auth.origin, raw, content });
  });

  return {
    of(request) {
      const found = checked.get(request);
      if (found === undefined) throw new Error('a handler ran before its request was checked');
      return found;
    },
  };
}

function unauthorized(reason: string): MatrixError {
  return new MatrixError(401, 'M_UNAUTHORIZED', reason);
}

/** Node joins or drops repeated headers in `headers`; here each counts. */
function authorizationHeaders(request: FastifyRequest): readonly string[] {
  return request.raw.headersDistinct['authorization'] ?? [];
}

function readContent(raw: Uint8Array): JsonObject {
  const parsed = parseWholeObject(raw);
  if (parsed.ok) return parsed.value;
  throw new MatrixError(
    400,
    parsed.rule === 'json.object' ? 'M_BAD_JSON' : 'M_NOT_JSON',
    `the body is ${parsed.reason}`,
  );
}
