/**
 * The listener for Matrix clients. Web pages of any origin may ask it, as the specification demands; every failure leaves as
 * `{errcode, error}`, and what is not there is `M_UNRECOGNIZED`. No query string is logged: an access token may stand there.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/
 */
import { type FastifyInstance } from 'fastify';
import { createAnswerError } from '../http/answer-error.ts';
import { createApp } from '../http/create-app.ts';
import { addEndpoints, refuseOtherMethods } from '../http/endpoint.ts';
import { takeBodies } from '../http/take-bodies.ts';
import { type Logger } from '../logging.ts';
import { ClientRequest } from './client-request.ts';
import { type ClientContext } from './context.ts';
import { ADMIN_LIST_ENDPOINTS } from './endpoints/admin-lists.ts';
import { ADMIN_ROOM_ENDPOINTS } from './endpoints/admin-rooms.ts';
import { ACCOUNT_DATA_ENDPOINTS } from './endpoints/account-data.ts';
import { ACCOUNT_ENDPOINTS } from './endpoints/account.ts';
import { APP_SERVICE_ENDPOINTS } from './endpoints/app-service.ts';
import { CREATE_ROOM_ENDPOINTS, UPGRADE_ENDPOINTS } from './endpoints/create-room.ts';
import { DEVICE_ENDPOINTS } from './endpoints/device.ts';
import { DIRECTORY_ENDPOINTS, OPEN_DIRECTORY_ENDPOINTS, USER_DIRECTORY_ENDPOINTS } from './endpoints/directory.ts';
import { DISCOVERY_ENDPOINTS } from './endpoints/discovery.ts';
import { FILTER_ENDPOINTS } from './endpoints/filter.ts';
import { INITIAL_SYNC_ENDPOINTS } from './endpoints/initial-sync.ts';
import { KEY_ENDPOINTS } from './endpoints/keys.ts';
import { MEMBERSHIP_ENDPOINTS } from './endpoints/membership.ts';
import { MESSAGES_ENDPOINTS, TIME_ENDPOINTS } from './endpoints/messages.ts';
import { OPEN_PROFILE_ENDPOINTS, PROFILE_ENDPOINTS } from './endpoints/profile.ts';
import { PRESENCE_ENDPOINTS } from './endpoints/presence.ts';
import { PUSH_RULE_ENDPOINTS } from './endpoints/push-rules.ts';
import { RECEIPT_ENDPOINTS } from './endpoints/receipts.ts';
import { RELATION_ENDPOINTS } from './endpoints/relations.ts';
import { SEND_ENDPOINTS } from './endpoints/send.ts';
import { ROOM_ENDPOINTS } from './endpoints/room.ts';
import { OPEN_SESSION_ENDPOINTS, SESSION_ENDPOINTS } from './endpoints/session.ts';
import { SPACE_ENDPOINTS } from './endpoints/spaces.ts';
import { SYNC_ENDPOINTS } from './endpoints/sync.ts';
import { TAG_ENDPOINTS } from './endpoints/tags.ts';
import { TO_DEVICE_ENDPOINTS } from './endpoints/to-device.ts';
import { TYPING_ENDPOINTS } from './endpoints/typing.ts';
import { translateError } from './errors.ts';
import { type RateLimits, createRateLimiters } from './rate-limits.ts';
import { SharedAnswers } from './shared-answers.ts';
import { requireUser } from './requester.ts';

/** Until the headers of a request have arrived, and all of it, milliseconds (slow loris). */
const HEADERS_MS = 15_000;
const REQUEST_MS = 60_000;
/** Idle connections of clients, milliseconds. */
const KEEP_ALIVE_MS = 60_000;
/** A client holds one or two. */
const CONNECTIONS_MAX = 10_000;
/** An event is 64 KiB at most; account data and keys may be longer. */
const BODY_BYTES_MAX = 1024 * 1024;
/** Many people may come from one address, and few of them send much at the same time. */
const BODY_LIMITS = {
  bytesMax: BODY_BYTES_MAX,
  bytesOfAllMax: 128 * BODY_BYTES_MAX,
  bytesOfSenderMax: 32 * BODY_BYTES_MAX,
};
/** How long a browser may remember that it may ask, seconds. */
const PREFLIGHT_SECONDS = 86_400;

/** Of every answer. Source: https://spec.matrix.org/v1.16/client-server-api/#web-browser-clients */
const HEADERS = {
  'cache-control': 'no-store',
  'x-content-type-options': 'nosniff',
  'access-control-allow-origin': '*',
  'access-control-allow-methods': 'GET, HEAD, POST, PUT, DELETE, OPTIONS',
  'access-control-allow-headers': 'X-Requested-With, Content-Type, Authorization',
  'access-control-expose-headers': 'Retry-After',
};

/** For anybody. */
export const OPEN_ENDPOINTS = [
  ...DISCOVERY_ENDPOINTS,
  ...OPEN_SESSION_ENDPOINTS,
  ...OPEN_PROFILE_ENDPOINTS,
  ...OPEN_DIRECTORY_ENDPOINTS,
];
/** For users. */
export const USER_ENDPOINTS = [
  ...SESSION_ENDPOINTS,
  ...ACCOUNT_ENDPOINTS,
  ...DEVICE_ENDPOINTS,
  ...PROFILE_ENDPOINTS,
  ...FILTER_ENDPOINTS,
  ...ACCOUNT_DATA_ENDPOINTS,
  ...TAG_ENDPOINTS,
  ...DIRECTORY_ENDPOINTS,
  ...USER_DIRECTORY_ENDPOINTS,
  ...PUSH_RULE_ENDPOINTS,
  ...KEY_ENDPOINTS,
  ...TO_DEVICE_ENDPOINTS,
  ...MEMBERSHIP_ENDPOINTS,
  ...CREATE_ROOM_ENDPOINTS,
  ...UPGRADE_ENDPOINTS,
  ...SEND_ENDPOINTS,
  ...RECEIPT_ENDPOINTS,
  ...TYPING_ENDPOINTS,
  ...PRESENCE_ENDPOINTS,
  ...ROOM_ENDPOINTS,
  ...MESSAGES_ENDPOINTS,
  ...TIME_ENDPOINTS,
  ...SPACE_ENDPOINTS,
  ...INITIAL_SYNC_ENDPOINTS,
  ...RELATION_ENDPOINTS,
  ...SYNC_ENDPOINTS,
  ...ADMIN_ROOM_ENDPOINTS,
  ...ADMIN_LIST_ENDPOINTS,
  ...APP_SERVICE_ENDPOINTS,
];

export interface ClientServerOptions extends Omit<ClientContext, 'limiters' | 'answers'> {
  /** Absent: plain HTTP, on an inner address or behind a proxy that ends TLS. */
  readonly tls?: { readonly certificatePem: string; readonly keyPem: string } | undefined;
  /** The caller's address is the last in `X-Forwarded-For`. */
  readonly isBehindProxy: boolean;
  readonly rateLimits: RateLimits;
  readonly logger: Logger;
}

/** The server, not yet listening. */
export function createClientServer(options: ClientServerOptions): FastifyInstance {
  const { logger, tls, isBehindProxy } = options;
  const app = createApp({
    tls,
    isBehindProxy,
    bodyBytesMax: BODY_BYTES_MAX,
    headersMs: HEADERS_MS,
    requestMs: REQUEST_MS,
    keepAliveMs: KEEP_ALIVE_MS,
    connectionsMax: CONNECTIONS_MAX,
    trustCaller: false,
    answerError: createAnswerError(logger, translateError),
    headers: HEADERS,
  });
  app.addHook('onRequest', (request, reply, done) => {
    if (request.method !== 'OPTIONS') done();
    else void reply.header('access-control-max-age', PREFLIGHT_SECONDS).code(204).send();
  });
  // Not before: thousands of requests may be held until then.
  app.addHook('onSend', (_request, reply, _payload, done) => {
    reply.headers(HEADERS);
    done();
  });
  // Of whatever content type: what is JSON is for the endpoint to say, and strictly.
  takeBodies(app, BODY_LIMITS, ({ ip }) => ip);

  const context: ClientContext = {
    ...options,
    limiters: createRateLimiters(options.rateLimits, options.clock),
    answers: new SharedAnswers(),
  };
  addEndpoints(app, OPEN_ENDPOINTS, (request, reply) => new ClientRequest(request, reply), context);
  void app.register((users, _options, done) => {
    addEndpoints(users, USER_ENDPOINTS, requireUser(users, context).of, context);
    done();
  });
  refuseOtherMethods(app, [...OPEN_ENDPOINTS, ...USER_ENDPOINTS]);
  return app;
}
