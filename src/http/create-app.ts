/** A listener, not yet listening: limits on what a caller may send and how slowly, a span a request, and how it fails. */
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { traceInbound } from '../telemetry/inbound.ts';
import { type AnswerError, answerUnreadable } from './answer-error.ts';
import { unrecognized } from './endpoint.ts';

/** An identifier of 255 bytes, each percent-encoded. */
const PARAMETER_CHARS_MAX = 3 * 255;
/** How often Node looks for connections that are over their time, at the least. */
const CHECK_EVERY_MS_MAX = 5000;

export interface AppOptions {
  /** Absent: plain HTTP, on an inner address or behind a proxy that ends TLS. */
  readonly tls?: { readonly certificatePem: string; readonly keyPem: string } | undefined;
  readonly bodyBytesMax: number;
  /**
   * A proxy stands before the listener: the last address in its `X-Forwarded-For` is the caller's. Absent: the header, which
   * anybody can send, is not looked at.
   */
  readonly isBehindProxy?: boolean;
  /** Until the headers of a request have arrived, milliseconds (slow loris). */
  readonly headersMs: number;
  /** Until the whole request has arrived, milliseconds; answers may take longer. */
  readonly requestMs: number;
  /** How long an idle connection is kept, milliseconds. */
  readonly keepAliveMs: number;
  readonly connectionsMax: number;
  /** The caller's `traceparent` is continued: for operators only. */
  readonly trustCaller: boolean;
  readonly answerError: AnswerError;
  /** Of every answer, those included that are given before there is a request; absent: none. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** Whoever waits for an answer is answered by its own limit, and does not keep us from closing. */
export function createApp(options: AppOptions): FastifyInstance {
  const { tls, headersMs, requestMs, answerError, headers = {} } = options;
  const listener = {
    headersTimeout: headersMs,
    connectionsCheckingInterval: Math.min(headersMs, requestMs, CHECK_EVERY_MS_MAX),
  };
  const common = {
    logger: false,
    bodyLimit: options.bodyBytesMax,
    // The proxy's own is hop 0; what it was told by others is not believed.
    trustProxy: options.isBehindProxy === true ? (_address: string, hop: number) => hop === 0 : false,
    requestTimeout: requestMs,
    connectionTimeout: 0,
    keepAliveTimeout: options.keepAliveMs,
    forceCloseConnections: true,
    routerOptions: { maxParamLength: PARAMETER_CHARS_MAX, ignoreTrailingSlash: true },
    // What Fastify refuses before there is a route has passed no hook.
    frameworkErrors: (error: unknown, request: FastifyRequest, reply: FastifyReply) =>
      answerError(error, request, reply.headers(headers)),
    clientErrorHandler: answerUnreadable(headers),
  } as const;
  const app: FastifyInstance =
    tls === undefined
      ? Fastify({ ...common, http: listener })
      : Fastify({
          ...common,
          https: { ...listener, cert: tls.certificatePem, key: tls.keyPem, handshakeTimeout: headersMs },
        });
  app.server.maxConnections = options.connectionsMax;
  app.addHook('onRequest', traceInbound({ trustCaller: options.trustCaller }));
  // A body that nobody asked for is not read, however large; Fastify would read it before it says that there is nothing.
  app.addHook('preParsing', async ({ is404 }) => (is404 ? unrecognized(404)() : undefined));
  app.addHook('onRequest', (_request, reply, done) => {
    reply.headers(headers);
    done();
  });
  app.setErrorHandler(answerError);
  app.setNotFoundHandler(unrecognized(404));
  return app;
}
