/** The part of the server that only answers to other homeservers: every request is signed, or refused with 401. */
import { type FastifyInstance, type FastifyRequest } from 'fastify';
import { type ServerName } from '../matrix/identifiers.ts';
import { type Refusal } from '../matrix/refusal.ts';
import { verifyRequest } from '../matrix/signing/signed-request.ts';
import { type BodyReader, type SignedBody } from '../verification/contract.ts';
import { type RequestAuthenticator, authenticate, parseAuthHeader } from '../federation/request-auth.ts';
import { type OpenRequest, openRequest } from '../http/endpoint.ts';
import { MatrixError } from '../http/matrix-error.ts';

export interface AuthenticatedRequest extends OpenRequest {
  /** Who signed it. */
  readonly origin: ServerName;
  /** The body as received; empty where there is none. */
  readonly raw: Uint8Array;
  /** What was read of that body; `undefined` where there is none. */
  readonly body: SignedBody | undefined;
}

/** Adds the check to an instance. `of` gives what was checked, in its handlers. */
export function requireSignature(
  app: FastifyInstance,
  authenticator: RequestAuthenticator,
  bodies: BodyReader,
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
    const ended = AbortSignal.any([signal]);
    let body: SignedBody | undefined;
    const auth = await authenticate(
      {
        method: request.method,
        uri: request.raw.url ?? request.url,
        authorization: authorizationHeaders(request),
        verify: async (claim) => {
          if (raw.length === 0) return verifyRequest(claim);
          const read = await bodies.readBody(claim, raw, ended);
          if (read.ok) body = read;
          else if (!read.rule.startsWith('signature.')) throw refusalOfBody(read);
          return read;
        },
      },
      authenticator,
      ended,
    );
    if (!auth.ok) throw unauthorized(auth.reason);
    checked.set(request, { ...openRequest(request), origin: auth.origin, raw, body });
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

/** The answer to a body that cannot be read, or holds too much. */
export function refusalOfBody({ rule, reason }: Refusal): MatrixError {
  if (rule === 'body.size') return new MatrixError(413, 'M_TOO_LARGE', reason);
  if (rule.startsWith('body.')) return new MatrixError(400, 'M_BAD_JSON', reason);
  return new MatrixError(400, rule === 'json.object' ? 'M_BAD_JSON' : 'M_NOT_JSON', `the body is ${reason}`);
}
