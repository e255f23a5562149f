/**
 * The federation listener: our keys and version for anybody; transactions and questions about rooms for servers that
 * sign; `M_UNRECOGNIZED` for all else. Every failure leaves as `{errcode, error}`.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/
 */
import { type FastifyInstance } from 'fastify';
import { type Clock } from '../clock.ts';
import { createAnswerError } from '../http/answer-error.ts';
import { createApp } from '../http/create-app.ts';
import { addEndpoints, openRequest, refuseOtherMethods } from '../http/endpoint.ts';
import { type Logger } from '../logging.ts';
import { type ServerName } from '../matrix/identifiers.ts';
import { type SigningKey } from '../matrix/signing/signing-key.ts';
import { type BodyReader, type KeyResolver } from '../verification/contract.ts';
import { type OldSigningKey } from '../federation/key-answer.ts';
import { requireSignature } from './authenticated.ts';
import { type SignedEndpoint } from './endpoint.ts';
import { DEVICE_ENDPOINTS } from './endpoints-devices.ts';
import { EVENT_ENDPOINTS } from './endpoints-events.ts';
import { KEY_ENDPOINTS, createKeyAnswers } from './endpoints-keys.ts';
import { INVITE_ENDPOINTS, OPEN_INVITE_ENDPOINTS } from './endpoints-invites.ts';
import { MEMBERSHIP_ENDPOINTS } from './endpoints-memberships.ts';
import { QUERY_ENDPOINTS, SPACE_ENDPOINTS } from './endpoints-queries.ts';
import { translateError } from './errors.ts';
import { takeOpenBodies } from './open-bodies.ts';
import { STATE_ENDPOINTS } from './partial-rooms.ts';
import { type FederationServerPorts } from './ports.ts';
import { SEND_ENDPOINTS, TRANSACTION_BYTES_MAX, createTransactionHandler } from './send-transaction.ts';

/** Idle connections of servers that push to us now and then, milliseconds. */
const KEEP_ALIVE_MS = 60_000;
/** More than the servers of a large room that push at the same time. */
const CONNECTIONS_MAX = 10_000;

/** What is answered to servers that sign. */
export const SIGNED_ENDPOINTS: readonly SignedEndpoint[] = [
  ...SEND_ENDPOINTS,
  ...MEMBERSHIP_ENDPOINTS,
  ...INVITE_ENDPOINTS,
  ...STATE_ENDPOINTS,
  ...EVENT_ENDPOINTS,
  ...DEVICE_ENDPOINTS,
  ...QUERY_ENDPOINTS,
  ...SPACE_ENDPOINTS,
];

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
  /** Published beside it; none by default. */
  readonly oldSigningKeys?: readonly OldSigningKey[];
  /** Absent: plain HTTP, behind a proxy that ends TLS. */
  readonly tls?: { readonly certificatePem: string; readonly keyPem: string };
  /** The key ring's. */
  readonly resolveKeys: KeyResolver;
  /** The verification pool's. */
  readonly bodies: BodyReader;
  readonly ports: FederationServerPorts;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Of Rejoinder, for `/version`. */
  readonly version: string;
  readonly timeouts?: FederationServerTimeouts;
}

/** The server, not yet listening. */
export function createFederationServer(options: FederationServerOptions): FastifyInstance {
  const { logger, clock, serverName, signingKey, ports } = options;
  const closing = new AbortController();
  const app = createApp({
    ...(options.timeouts ?? defaultServerTimeouts),
    tls: options.tls,
    bodyBytesMax: TRANSACTION_BYTES_MAX,
    keepAliveMs: KEEP_ALIVE_MS,
    connectionsMax: CONNECTIONS_MAX,
    trustCaller: false,
    answerError: createAnswerError(logger, translateError),
  });
  app.addHook('preClose', (done) => {
    closing.abort(new Error('the server is closing'));
    done();
  });

  const keys = createKeyAnswers(serverName, signingKey, options.oldSigningKeys ?? [], clock);
  addEndpoints(app, KEY_ENDPOINTS, openRequest, { keys, version: options.version });
  void app.register((open, _options, done) => {
    addEndpoints(open, OPEN_INVITE_ENDPOINTS, takeOpenBodies(open, closing.signal).of, { ports });
    done();
  });
  void app.register((signed, _options, done) => {
    const authenticator = { ourselves: serverName, resolveKeys: options.resolveKeys, clock };
    // Bodies stay bytes: what is signed is the JSON, and what is stored are the bytes.
    const checked = requireSignature(signed, {
      authenticator,
      bodies: options.bodies,
      bodyBytesMax: TRANSACTION_BYTES_MAX,
      closing: closing.signal,
    });
    const takeTransaction = createTransactionHandler({ ports, logger });
    addEndpoints(signed, SIGNED_ENDPOINTS, checked.of, { ports, takeTransaction, serverName, now: () => clock.now() });
    done();
  });
  refuseOtherMethods(app, [...KEY_ENDPOINTS, ...OPEN_INVITE_ENDPOINTS, ...SIGNED_ENDPOINTS]);
  return app;
}
