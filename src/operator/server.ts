/**
 * The operator's HTTP server: `/health` for anybody who can reach it, everything else behind the bearer token. Every
 * failure leaves as `{errcode, error}`; nothing that a caller or a stranger wrote is logged outside JSON, and no query
 * string at all, for somebody may have put a token there.
 */
import { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { type Clock } from '../clock.ts';
import { createAnswerError } from '../http/answer-error.ts';
import { createApp } from '../http/create-app.ts';
import { type Endpoint, type OpenRequest, addEndpoints, openRequest, refuseOtherMethods } from '../http/endpoint.ts';
import { goneSignal } from '../http/gone-signal.ts';
import { type Logger } from '../logging.ts';
import { requireBearer } from './auth.ts';
import { type OperatorContext, type OperatorRequest, ROOM_ENDPOINTS } from './endpoints.ts';
import { COMMAND_ENDPOINTS } from './endpoints-commands.ts';
import { JOURNAL_ENDPOINTS } from './endpoints-journal.ts';
import { withDescription } from './openapi.ts';
import { PURGE_ENDPOINTS } from './endpoints-purges.ts';
import { SERVICE_ENDPOINTS } from './endpoints-services.ts';
import { USER_ENDPOINTS } from './endpoints-users.ts';
import { translateError } from './errors.ts';

/** The largest body is a join request: an alias, a user and twenty server names. */
const BODY_BYTES_MAX = 64 * 1024;
/** The whole request must have arrived by then (slow loris); answers may take as long as they wait for a room. */
const REQUEST_TIMEOUT_MS = 30_000;
/** Idle connections of the command line and of bots. */
const KEEP_ALIVE_MS = 60_000;
/** More than all the bots of one server. */
const CONNECTIONS_MAX = 1_000;

export interface OperatorServerOptions extends OperatorContext {
  readonly token: string;
  readonly logger: Logger;
  readonly clock: Clock;
}

const HEALTH_ENDPOINTS: readonly Endpoint<OpenRequest, null>[] = [
  { method: 'GET', path: '/health', answer: () => ({ status: 'ok' }) },
];

/** In the order in which they are described. */
export const OPERATOR_ENDPOINTS = withDescription([
  ...ROOM_ENDPOINTS,
  ...COMMAND_ENDPOINTS,
  ...PURGE_ENDPOINTS,
  ...JOURNAL_ENDPOINTS,
  ...USER_ENDPOINTS,
  ...SERVICE_ENDPOINTS,
]);

/** The server, not yet listening. */
export function createOperatorServer(options: OperatorServerOptions): FastifyInstance {
  const { logger, clock } = options;
  const app = createApp({
    bodyBytesMax: BODY_BYTES_MAX,
    headersMs: REQUEST_TIMEOUT_MS,
    requestMs: REQUEST_TIMEOUT_MS,
    keepAliveMs: KEEP_ALIVE_MS,
    connectionsMax: CONNECTIONS_MAX,
    trustCaller: true,
    answerError: createAnswerError(logger, translateError),
  });
  // A form of another site can send text/plain without asking first; JSON it cannot.
  app.removeContentTypeParser('text/plain');
  const arrivedAt = new WeakMap<FastifyRequest, number>();

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

  addEndpoints(app, HEALTH_ENDPOINTS, openRequest, null);
  const checkBearer = requireBearer(options.token);
  void app.register((api, _options, done) => {
    api.addHook('onRequest', (request, _reply, next) => {
      checkBearer(request.headers.authorization, request.query);
      next();
    });
    addEndpoints(api, OPERATOR_ENDPOINTS, operatorRequest, options);
    done();
  });
  refuseOtherMethods(app, [...HEALTH_ENDPOINTS, ...OPERATOR_ENDPOINTS]);
  return app;
}

function operatorRequest(request: FastifyRequest, reply: FastifyReply): OperatorRequest {
  const { query, body, headers } = request;
  return { ...openRequest(request), query, body, headers, signal: goneSignal(reply) };
}
