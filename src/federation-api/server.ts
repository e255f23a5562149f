/**
 * The federation listener: our keys and version for anybody; transactions and questions about rooms for servers that
 * sign; `M_UNRECOGNIZED` for all else. Every failure leaves as `{errcode, error}`.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/
 */
import Fastify, { type FastifyError, type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { type Clock } from '../clock.ts';
import { type Logger } from '../logging.ts';
import { type ServerName } from '../matrix/identifiers.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { type SigningKey } from '../matrix/signing/signing-key.ts';
import { traceInbound } from '../telemetry/inbound.ts';
import { type KeyResolver } from '../verification/contract.ts';
import { makeKeyAnswer } from '../federation/key-answer.ts';
import { requireSignature } from './authenticated.ts';
import { MatrixError, sendError } from './errors.ts';
import {
  EVENT_ENDPOINT,
  MEMBERSHIP_ENDPOINTS,
  STATE_ENDPOINTS,
  refuseEvent,
  refuseMembership,
  refuseState,
} from './partial-rooms.ts';
import { type FederationServerPorts } from './ports.ts';
import { TRANSACTION_BYTES_MAX, createTransactionHandler } from './send-transaction.ts';

/** An identifier of 255 bytes, each percent-encoded. */
const PARAMETER_CHARS_MAX = 3 * 255;
/** Idle connections of servers that push to us now and then, milliseconds. */
const KEEP_ALIVE_MS = 60_000;
/** More than the servers of a large room that push at the same time. */
const CONNECTIONS_MAX = 10_000;
/** Servers keep our keys for a day; the answer is signed anew every hour. */
const KEYS_VALID_MS = 24 * 3_600_000;
const KEYS_SIGNED_EVERY_MS = 3_600_000;

export interface FederationServerTimeouts {
  /** Until the headers of a request have arrived, milliseconds (slow loris). */
  readonly headersMs: number;
  /** Until the whole request has arrived, milliseconds. */
  readonly requestMs: number;
}

const defaultServerTimeouts: FederationServerTimeouts = { headersMs: 15_000, requestMs: 60_000 };

export interface FederationServerOptions {
  readonly serverName: ServerName;
  readonly signingKey: SigningKey;
  /** Absent: plain HTTP, behind a proxy that ends TLS. */
  readonly tls?: { readonly certificatePem: string; readonly keyPem: string };
  /** The key ring's. */
  readonly resolveKeys: KeyResolver;
  readonly ports: FederationServerPorts;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Of Rejoinder, for `/version`. */
  readonly version: string;
  readonly timeouts?: FederationServerTimeouts;
}

/** The server, not yet listening. `close()` lets transactions under way know by their signal. */
export function createFederationServer(options: FederationServerOptions): FastifyInstance {
  const { logger, clock, serverName, signingKey, ports } = options;
  const timeouts = options.timeouts ?? defaultServerTimeouts;
  const closing = new AbortController();
  const app = createApp(options.tls, timeouts, logger);
  app.server.maxConnections = CONNECTIONS_MAX;
  app.addHook('onRequest', traceInbound({ trustCaller: false }));
  app.addHook('preClose', (done) => {
    closing.abort(new Error('the server is closing'));
    done();
  });
  // Bodies stay bytes: what is signed is the JSON, and what is stored are the bytes.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
  app.setErrorHandler<FastifyError>((error, request, reply) => sendError(error, request, reply, logger));
  app.setNotFoundHandler(unrecognized(404));

  const keys = createKeyAnswers(serverName, signingKey, clock);
  endpoint(app, app, 'GET', '/_matrix/key/v2/server', keys);
  endpoint(app, app, 'GET', '/_matrix/key/v2/server/:keyId', keys);
  const version = { server: { name: 'Rejoinder', version: options.version } };
  endpoint(app, app, 'GET', '/_matrix/federation/v1/version', () => version);

  void app.register((signed, _options, done) => {
    const authenticator = { ourselves: serverName, resolveKeys: options.resolveKeys, clock };
    const checked = requireSignature(signed, authenticator, closing.signal);
    const handle = createTransactionHandler({ ports, clock, logger, closing: closing.signal });
    endpoint(app, signed, 'PUT', '/_matrix/federation/v1/send/:txnId', (request) =>
      handle(parameter(request, 'txnId'), checked.of(request)),
    );
    for (const [method, url] of MEMBERSHIP_ENDPOINTS) {
      endpoint(app, signed, method, url, async (request) => {
        throw await refuseMembership(ports, parameter(request, 'roomId'));
      });
    }
    for (const [method, url] of STATE_ENDPOINTS) {
      endpoint(app, signed, method, url, async (request) => {
        throw await refuseState(ports, parameter(request, 'roomId'));
      });
    }
    endpoint(app, signed, ...EVENT_ENDPOINT, async (request) => {
      throw await refuseEvent(ports, parameter(request, 'eventId'));
    });
    done();
  });
  return app;
}

function createApp(
  tls: FederationServerOptions['tls'],
  timeouts: FederationServerTimeouts,
  logger: Logger,
): FastifyInstance {
  const listener = {
    headersTimeout: timeouts.headersMs,
    // How often Node looks for connections that are over their time.
    connectionsCheckingInterval: Math.min(timeouts.headersMs, timeouts.requestMs, 5000),
  };
  const common = {
    logger: false,
    bodyLimit: TRANSACTION_BYTES_MAX,
    requestTimeout: timeouts.requestMs,
    connectionTimeout: 0,
    keepAliveTimeout: KEEP_ALIVE_MS,
    forceCloseConnections: true,
    routerOptions: { maxParamLength: PARAMETER_CHARS_MAX, ignoreTrailingSlash: true },
    frameworkErrors: (error: FastifyError, request: FastifyRequest, reply: FastifyReply) =>
      sendError(error, request, reply, logger),
  } as const;
  if (tls === undefined) return Fastify({ ...common, http: listener });
  const https = { ...listener, cert: tls.certificatePem, key: tls.keyPem, handshakeTimeout: timeouts.headersMs };
  return Fastify({ ...common, https });
}

type Method = 'GET' | 'PUT';

/** A route in `scope` that answers one method; every other method gets 405, as the spec asks, signed or not. */
function endpoint(
  app: FastifyInstance,
  scope: FastifyInstance,
  method: Method,
  url: string,
  handler: (request: FastifyRequest) => unknown,
): void {
  scope.route({ method, url, handler: (request) => Promise.resolve(handler(request)) });
  const others = app.supportedMethods.filter((other) => other !== method && !(method === 'GET' && other === 'HEAD'));
  app.route({ method: others, url, onRequest: unrecognized(405), handler: unrecognized(405) });
}

function unrecognized(status: 404 | 405) {
  return (): Promise<never> =>
    Promise.reject(
      new MatrixError(
        status,
        'M_UNRECOGNIZED',
        status === 404 ? 'there is no such endpoint' : 'that is not its method',
      ),
    );
}

function parameter(request: FastifyRequest, name: string): string {
  return (request.params as Readonly<Record<string, string>>)[name] ?? '';
}

/** Our key object, signed at most once in an hour. */
function createKeyAnswers(serverName: ServerName, key: SigningKey, clock: Clock): () => JsonObject {
  let answer: JsonObject | undefined;
  let signedAt = 0;
  return () => {
    const now = clock.now();
    if (answer === undefined || Math.abs(now - signedAt) >= KEYS_SIGNED_EVERY_MS) {
      answer = makeKeyAnswer(serverName, key, now + KEYS_VALID_MS);
      signedAt = now;
    }
    return answer;
  };
}
