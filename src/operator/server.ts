/**
 * The operator's HTTP server: `/health` for anybody who can reach it, everything else behind the bearer token. Every
 * failure leaves as `{errcode, error}`; nothing that a caller or a stranger wrote is logged outside JSON, and no query
 * string at all, for somebody may have put a token there.
 */
import Fastify, { type FastifyError, type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { type Clock } from '../clock.ts';
import { type Logger } from '../logging.ts';
import { type ServerName } from '../matrix/identifiers.ts';
import { RoomError } from '../rooms/error.ts';
import { traceInbound } from '../telemetry/inbound.ts';
import { requireBearer } from './auth.ts';
import { ROOM_ERROR_ANSWERS, RequestError } from './errors.ts';
import { type OperatorPorts } from './ports.ts';
import { addRoutes } from './routes.ts';

/** The largest body is a join request: an alias, a user and twenty server names. */
const BODY_BYTES_MAX = 64 * 1024;
/** A room id or alias of 255 bytes, each percent-encoded. */
const PARAMETER_CHARS_MAX = 3 * 255;
/** The whole request must have arrived by then (slow loris); answers may take as long as they wait for a room. */
const REQUEST_TIMEOUT_MS = 30_000;

export interface OperatorServerOptions {
  readonly serverName: ServerName;
  readonly token: string;
  readonly membersWaitMaxMs: number;
  readonly ports: OperatorPorts;
  readonly logger: Logger;
  readonly clock: Clock;
}

/** The server, not yet listening. */
export function createOperatorServer(options: OperatorServerOptions): FastifyInstance {
  const { logger, clock } = options;
  const app = Fastify({
    logger: false,
    bodyLimit: BODY_BYTES_MAX,
    requestTimeout: REQUEST_TIMEOUT_MS,
    routerOptions: { maxParamLength: PARAMETER_CHARS_MAX },
    frameworkErrors: (error, request, reply) => void sendError(error, request, reply, logger),
    // A waiting caller is answered by its own limit, not kept from letting us stop.
    forceCloseConnections: true,
  });
  // A form of another site can send text/plain without asking first; JSON it cannot.
  app.removeContentTypeParser('text/plain');
  const arrivedAt = new WeakMap<FastifyRequest, number>();

  app.addHook('onRequest', traceInbound({ trustCaller: true }));
  app.addHook('onRequest', (request, reply, done) => {
    arrivedAt.set(request, clock.now());
    reply.headers({
      'cache-control': 'no-store',
      'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
      'x-content-type-options': 'nosniff',
    });
    done();
  });
  app.addHook('onResponse', (request, reply, done) => {
    const { method, routeOptions, params } = request;
    const durationMs = clock.now() - (arrivedAt.get(request) ?? clock.now());
    logger.info({ method, route: routeOptions.url, params, status: reply.statusCode, durationMs }, 'operator request');
    done();
  });
  app.setErrorHandler<FastifyError>((error, request, reply) => sendError(error, request, reply, logger));
  app.setNotFoundHandler((_request, reply) =>
    reply.code(404).send({ errcode: 'M_UNRECOGNIZED', error: 'there is no such endpoint' }),
  );

  app.get('/health', () => ({ status: 'ok' }));

  const checkBearer = requireBearer(options.token);
  void app.register(
    (api, _options, done) => {
      api.addHook('onRequest', (request, _reply, next) => {
        checkBearer(request.headers.authorization, request.query);
        next();
      });
      addRoutes(api, options);
      done();
    },
    { prefix: '/_rejoinder/v1' },
  );
  return app;
}

function sendError(error: unknown, request: FastifyRequest, reply: FastifyReply, logger: Logger): FastifyReply {
  if (error instanceof RoomError) {
    const { status, errcode } = ROOM_ERROR_ANSWERS[error.kind];
    if (error.retryAfterMs === undefined) return reply.code(status).send({ errcode, error: error.message });
    reply.header('retry-after', Math.ceil(error.retryAfterMs / 1000));
    return reply.code(status).send({ errcode, error: error.message, retry_after_ms: error.retryAfterMs });
  }
  if (error instanceof RequestError) {
    if (error.status === 401) reply.header('www-authenticate', 'Bearer');
    return reply.code(error.status).send({ errcode: error.errcode, error: error.message });
  }
  const refused = refusedByFramework(error);
  if (refused !== undefined) {
    return reply.code(refused.status).send({ errcode: refused.errcode, error: refused.message });
  }
  logger.error({ err: error, route: request.routeOptions.url }, 'operator request failed');
  return reply
    .code(500)
    .send({ errcode: 'M_UNKNOWN', error: 'something failed here; the log of the server says what' });
}

/** Fastify's own refusals: a body that is too large or no JSON, a path that is badly encoded. */
function refusedByFramework(error: unknown): RequestError | undefined {
  if (!(error instanceof Error) || !('statusCode' in error) || typeof error.statusCode !== 'number') return undefined;
  const { statusCode, message } = error;
  if (statusCode < 400 || statusCode >= 500) return undefined;
  if (statusCode === 413) {
    return new RequestError(413, 'M_TOO_LARGE', `the body is larger than ${BODY_BYTES_MAX} bytes`);
  }
  const code = 'code' in error ? error.code : undefined;
  if (code === 'FST_ERR_BAD_URL') {
    return new RequestError(400, 'M_INVALID_PARAM', 'the path is not valid percent-encoding');
  }
  if (code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE') {
    return new RequestError(415, 'M_NOT_JSON', 'send the body as application/json');
  }
  return new RequestError(statusCode, 'M_NOT_JSON', `the body is not JSON: ${message}`);
}
