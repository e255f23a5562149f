/** The part of the server that only answers to other homeservers: every request is signed, or refused with 401. */
import { type FastifyInstance, type FastifyRequest } from 'fastify';
import { type ServerName } from '../matrix/identifiers.ts';
import { type Refusal } from '../matrix/refusal.ts';
import { verifyRequest } from '../matrix/signing/signed-request.ts';
import { type BodyReader, type SignedBody } from '../verification/contract.ts';
import { type RequestAuthenticator, type Signer, findSigner } from '../federation/request-auth.ts';
import { type OpenRequest, openRequest } from '../http/endpoint.ts';
import { goneSignal } from '../http/gone-signal.ts';
import { MatrixError } from '../http/matrix-error.ts';
import { takeBodies } from '../http/take-bodies.ts';

export interface AuthenticatedRequest extends OpenRequest {
  /** As Fastify reads it: a parameter that is given twice is a list. */
  readonly query: Readonly<Record<string, unknown>>;
  /** Who signed it. */
  readonly origin: ServerName;
  /** The body as received; empty where there is none. */
  readonly raw: Uint8Array;
  /** What was read of that body; `undefined` where there is none. */
  readonly body: SignedBody | undefined;
  /** Aborted when the caller has gone, or the server closes. */
  readonly ended: AbortSignal;
}

export interface SignatureOptions {
  readonly authenticator: RequestAuthenticator;
  readonly bodies: BodyReader;
  /** Of one body. */
  readonly bodyBytesMax: number;
  /** Aborted when the server closes. */
  readonly closing: AbortSignal;
}

/** Held at a time by all bodies: some twenty of the largest, or thousands of usual ones. */
const BYTES_OF_ALL_MAX = 256 * 1024 * 1024;
/** The largest bodies that one server may have here: it sends one after the other, and the next where it gave up on one. */
const BODIES_OF_ORIGIN_MAX = 2.5;

/**
 * Adds the check to an instance. Keys come before the body: it stays in the connection until they are had, and where they
 * cannot be had it is never read. `of` gives what was checked, in its handlers.
 */
export function requireSignature(
  app: FastifyInstance,
  { authenticator, bodies, bodyBytesMax, closing }: SignatureOptions,
): { readonly of: (request: FastifyRequest) => AuthenticatedRequest } {
  const signers = new WeakMap<FastifyRequest, { readonly signer: Signer; readonly ended: AbortSignal }>();
  const checked = new WeakMap<FastifyRequest, AuthenticatedRequest>();

  const signerOf = (request: FastifyRequest): { readonly signer: Signer; readonly ended: AbortSignal } => {
    const found = signers.get(request);
    if (found === undefined) throw new Error('a body was read before its sender was looked for');
    return found;
  };

  app.addHook('onRequest', async (request, reply) => {
    const ended = AbortSignal.any([closing, goneSignal(reply)]);
    const signer = await findSigner(authorizationHeaders(request), authenticator, ended);
    if (!signer.ok) throw unauthorized(signer.reason);
    signers.set(request, { signer, ended });
  });

  const bytesOfSenderMax = BODIES_OF_ORIGIN_MAX * bodyBytesMax;
  const limits = { bytesMax: bodyBytesMax, bytesOfAllMax: BYTES_OF_ALL_MAX, bytesOfSenderMax };
  takeBodies(app, limits, (request) => signerOf(request).signer.origin);

  app.addHook('preHandler', async (request) => {
    const { signer, ended } = signerOf(request);
    const { origin, destination, signatures } = signer;
    const raw = request.body instanceof Uint8Array ? request.body : new Uint8Array();
    const claim = { method: request.method, uri: request.raw.url ?? request.url, origin, destination, signatures };
    const body = raw.length === 0 ? undefined : await bodies.readBody(claim, raw, ended);
    const read = body ?? verifyRequest(claim);
    if (!read.ok) throw read.rule.startsWith('signature.') ? unauthorized(read.reason) : refusalOfBody(read);
    checked.set(request, {
      ...openRequest(request),
      query: request.query as AuthenticatedRequest['query'],
      ...{ origin, raw, ended },
      body: body?.ok === true ? body : undefined,
    });
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
  if (rule === 'body.size' || rule === 'json.values') return new MatrixError(413, 'M_TOO_LARGE', reason);
  if (rule.startsWith('body.')) return new MatrixError(400, 'M_BAD_JSON', reason);
  return new MatrixError(400, rule === 'json.object' ? 'M_BAD_JSON' : 'M_NOT_JSON', `the body is ${reason}`);
}
