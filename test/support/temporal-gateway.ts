/**
 * What a managed Temporal has before its servers: TLS, with certificates of its own authority on both sides where it wants
 * them, API keys, and refusals of what operators do. Everything else goes to the server of the test run.
 */
import { webcrypto } from 'node:crypto';
import {
  type ClientHttp2Session,
  type Http2SecureServer,
  type ServerHttp2Stream,
  connect,
  constants,
  createSecureServer,
} from 'node:http2';
import { type AddressInfo } from 'node:net';
import 'reflect-metadata';
import {
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  PemConverter,
  X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509';
import { systemClock } from '../../src/clock.ts';
import {
  type CertificateAuthority,
  type ServerCertificate,
  createCertificateAuthority,
} from '../../src/launch/certificates.ts';

/** gRPC status codes. */
export const PERMISSION_DENIED = 7;
export const UNAUTHENTICATED = 16;

export interface GatewayOptions {
  /** Whether clients are to show a certificate of the authority. */
  readonly wantsClientCertificate?: boolean;
  /** The status with which a request is refused; `undefined`: it is passed on. */
  readonly refuse?: (path: string, authorization: string | undefined) => number | undefined;
}

export interface TemporalGateway {
  readonly address: string;
  readonly authority: CertificateAuthority;
  /** Of a client, by the authority. */
  issueToClient(): Promise<ServerCertificate>;
  close(): Promise<void>;
}

/** A gateway before the gRPC server at `upstream`, which speaks without TLS. */
export async function startTemporalGateway(upstream: string, options: GatewayOptions = {}): Promise<TemporalGateway> {
  const authority = await createCertificateAuthority(systemClock);
  const { certificatePem, keyPem } = await authority.issue([]);
  const server = createSecureServer({
    cert: certificatePem,
    key: keyPem,
    ca: authority.certificatePem,
    requestCert: options.wantsClientCertificate === true,
    rejectUnauthorized: options.wantsClientCertificate === true,
  });
  const behind = connect(`http://${upstream}`);
  behind.on('error', () => undefined);
  const sessions = new Set<{ destroy(): void }>();
  server.on('session', (session) => {
    sessions.add(session);
    session.on('error', () => undefined).on('close', () => sessions.delete(session));
  });
  server.on('stream', (stream, headers) => {
    const authorization = headers.authorization;
    const status = options.refuse?.(String(headers[constants.HTTP2_HEADER_PATH]), authorization);
    if (status === undefined) pass(stream, headers, behind);
    else refuseStream(stream, status);
  });
  await listen(server);
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    authority,
    issueToClient: () => issueToClient(authority),
    close: async () => {
      behind.destroy();
      for (const session of sessions) session.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

function listen(server: Http2SecureServer): Promise<void> {
  return new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
}

/** A gRPC error is an answer of trailers only. Source: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md */
function refuseStream(stream: ServerHttp2Stream, status: number): void {
  stream.on('error', () => undefined);
  const headers = { ':status': 200, 'content-type': 'application/grpc', 'grpc-status': String(status) };
  stream.respond({ ...headers, 'grpc-message': 'not here' }, { endStream: true });
}

function pass(stream: ServerHttp2Stream, headers: object, behind: ClientHttp2Session): void {
  const request = behind.request({ ...headers, ':authority': 'upstream', ':scheme': 'http' });
  const end = (): void => {
    if (!stream.destroyed) stream.destroy();
    request.close();
  };
  stream.on('error', end).on('aborted', end);
  request.on('error', end);
  let trailers: object = {};
  request.on('trailers', (received: object) => {
    trailers = received;
  });
  request.on('response', (answer) => {
    if (stream.destroyed) return;
    // An answer of trailers only has no body to wait for.
    if (answer['grpc-status'] !== undefined) {
      stream.respond(answer, { endStream: true });
      return;
    }
    stream.respond(answer, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ ...trailers }));
    request.pipe(stream);
  });
  stream.pipe(request);
}

async function issueToClient(authority: CertificateAuthority): Promise<ServerCertificate> {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256' } as const;
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const signingKey = await webcrypto.subtle.importKey(
    'pkcs8',
    PemConverter.decodeFirst(authority.keyPem),
    algorithm,
    false,
    ['sign'],
  );
  const certificate = await X509CertificateGenerator.create(
    {
      subject: 'CN=A worker',
      issuer: new X509Certificate(authority.certificatePem).subject,
      notBefore: new Date(systemClock.now() - 3_600_000),
      notAfter: new Date(systemClock.now() + 86_400_000),
      signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
      signingKey,
      publicKey: keys.publicKey,
      extensions: [new ExtendedKeyUsageExtension([ExtendedKeyUsage.clientAuth])],
    },
    webcrypto,
  );
  return {
    certificatePem: certificate.toString('pem'),
    keyPem: PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey), 'PRIVATE KEY'),
  };
}
