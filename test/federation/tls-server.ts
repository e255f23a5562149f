/** A real HTTPS server on loopback that answers as a test tells it to, and a client that trusts it. */
import { type IncomingMessage, type ServerResponse, createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo } from 'node:net';
import pino from 'pino';
import { onTestFinished } from 'vitest';
import { type Clock, systemClock } from '../../src/clock.ts';
import {
  type FederationClient,
  type FederationClientConfig,
  createFederationClient,
} from '../../src/federation/client.ts';
import { type CertificateAuthority, createCertificateAuthority } from '../../src/launch/certificates.ts';
import { type KeyId, type ServerName } from '../../src/matrix/identifiers.ts';
import { type SigningKey, signingKeyFromSeed } from '../../src/matrix/signing/signing-key.ts';

export const silent = pino({ level: 'silent' });
export const ourKey: SigningKey = signingKeyFromSeed('ed25519:ours' as KeyId, Buffer.alloc(32, 1));
export const OUR_NAME = 'joiner.test' as ServerName;
export const NAMES = ['remote.test', 'delegated.test'];

let authority: Promise<CertificateAuthority> | undefined;
export function testAuthority(): Promise<CertificateAuthority> {
  return (authority ??= createCertificateAuthority(systemClock));
}

export interface Received {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
  /** The name in the TLS handshake; `false` when there was none. */
  readonly servername: string | false | undefined;
  readonly body: string;
}

export interface TestServer {
  readonly port: number;
  /** `127.0.0.1:<port>`. */
  readonly name: ServerName;
  readonly received: Received[];
}

type Handler = (request: Received, response: ServerResponse) => void;

/** Ends with the test. `clock`: by whose time the certificate is made. */
export async function startTlsServer(handler: Handler, clock: Clock = systemClock): Promise<TestServer> {
  const ca = clock === systemClock ? await testAuthority() : await createCertificateAuthority(clock);
  const { certificatePem, keyPem } = await ca.issue(NAMES);
  const received: Received[] = [];
  const server = createTlsServer({ cert: certificatePem, key: keyPem }, (request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const { servername } = request.socket as { servername?: string | false };
      const { method = '', url = '', headers } = request;
      const taken = { method, url, headers, servername, body: Buffer.concat(chunks).toString('utf8') };
      received.push(taken);
      handler(taken, response);
    });
  });
  server.on('tlsClientError', () => undefined);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  const { port } = server.address() as AddressInfo;
  return { port, name: `127.0.0.1:${port}` as ServerName, received };
}

/** Answers every request with JSON. */
export function answering(value: unknown, status = 200): Handler {
  return (_request, response) => {
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
  };
}

/** A port on loopback on which nobody listens. */
export async function closedPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A client that may reach loopback and trusts the test's authority. Ends with the test. */
export async function testClient(overrides: Partial<FederationClientConfig> = {}): Promise<FederationClient> {
  const client = createFederationClient({
    serverName: OUR_NAME,
    signingKey: ourKey,
    addresses: { allowedRanges: ['127.0.0.0/8', '::1/128'] },
    customCa: (await testAuthority()).certificatePem,
    timeouts: { connectMs: 5000, requestMs: 5000, joinMs: 5000, stateMs: 5000, idleMs: 5000 },
    limits: { responseBytesMax: 100_000, stateBytesMax: 10_000_000 },
    clock: systemClock,
    random: () => 0.5,
    userAgent: 'Rejoinder/test',
    logger: silent,
    lookup: () => Promise.reject(Object.assign(new Error('no such name'), { code: 'ENOTFOUND' })),
    resolveSrv: () => Promise.reject(new Error('no records')),
    ...overrides,
  });
  onTestFinished(() => client.close());
  return client;
}

/** The error a promise rejects with. */
export async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error('it did not fail');
}

export const signal = new AbortController().signal;
