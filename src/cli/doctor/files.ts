/** Keys, tokens and certificates: there, readable by the right people, and fitting together. */
import { X509Certificate, createPrivateKey } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { type Clock } from '../../clock.ts';
import { type Config, type TlsConfig } from '../../config.ts';
import { parseSigningKey } from '../../matrix/signing/signing-key.ts';
import { readSecretFile } from '../../secret-file.ts';
import { type Finding, firstLine } from './finding.ts';

const RENEW_BEFORE_MS = 14 * 24 * 3_600_000;

/** Whether the signing key and the old ones can be used; none yet is no fault, since the first start makes it. */
export async function checkSigningKey({ signingKeyPath: path, oldSigningKeys }: Config): Promise<Finding> {
  const subject = 'signing key';
  try {
    const text = await readSecretFile(path);
    if (text === undefined) return { subject, verdict: 'note', found: `none yet; the first start makes ${path}` };
    const key = parseSigningKey(text);
    if (key !== undefined && oldSigningKeys.some(({ keyId }) => keyId === key.keyId)) {
      return {
        subject,
        verdict: 'bad',
        found: `old_signing_keys names ${key.keyId}, which is the key in ${path}`,
        remedy: 'A new key needs a new id; other servers keep the old key under that one.',
      };
    }
    if (key !== undefined) return { subject, verdict: 'ok', found: `${key.keyId} in ${path}` };
    return {
      subject,
      verdict: 'bad',
      found: `${path} is no signing key`,
      remedy: 'It holds one line: "ed25519 <version> <seed in unpadded base64>".',
    };
  } catch (error) {
    return { subject, verdict: 'bad', found: firstLine(error) };
  }
}

/** Whether the operator token can be read; none yet is no fault, since the first start makes it. */
export async function checkOperatorToken({ operator }: Config): Promise<Finding> {
  const subject = 'operator token';
  if (operator.token !== null) return { subject, verdict: 'ok', found: 'in the configuration' };
  try {
    const text = await readSecretFile(operator.tokenPath);
    const found =
      text === undefined ? `none yet; the first start makes ${operator.tokenPath}` : `in ${operator.tokenPath}`;
    return { subject, verdict: text === undefined ? 'note' : 'ok', found };
  } catch (error) {
    return { subject, verdict: 'bad', found: firstLine(error) };
  }
}

/** Whether the TLS certificate of the federation listener fits its key and our name, and how long it lasts. */
export async function checkCertificate(config: Config, clock: Clock): Promise<Finding> {
  const subject = 'TLS certificate';
  const { tls } = config.listeners.federation;
  if (tls === null) {
    return {
      subject,
      verdict: 'note',
      found: 'none: the federation listener speaks plain HTTP',
      remedy:
        'Put a reverse proxy that ends TLS before it, or set listeners.federation.tls. "rejoinder up" makes its own.',
    };
  }
  const elsewhere =
    'Right if /.well-known/matrix/server or an SRV record leads elsewhere; else other servers refuse it.';
  return checkPair({ subject, ...tls, name: bareHost(config.serverName), elsewhere }, clock);
}

/** The same of the client listener, which needs none on the loopback. */
export async function checkClientCertificate(
  { listeners, clientApi, serverName }: Config,
  clock: Clock,
): Promise<Finding> {
  const subject = 'client certificate';
  const { tls, host, port } = listeners.client;
  const found = `none: clients are spoken to in plain HTTP at ${host}:${port}`;
  if (tls === null) {
    if (/^(localhost|127\..*|::1)$/.test(host)) return { subject, verdict: 'ok', found };
    const remedy =
      'Passwords pass there: let nobody but a reverse proxy that ends TLS reach it, or set listeners.client.tls.';
    return { subject, verdict: 'note', found, remedy };
  }
  const name = clientApi.publicBaseUrl === null ? bareHost(serverName) : new URL(clientApi.publicBaseUrl).hostname;
  return checkPair(
    { subject, ...tls, name, elsewhere: 'Right if clients are told another name; else they refuse it.' },
    clock,
  );
}

interface CertificatePair extends TlsConfig {
  readonly subject: string;
  /** That others know us by. */
  readonly name: string;
  /** What to do where the certificate is for another name. */
  readonly elsewhere: string;
}

function bareHost(name: string): string {
  return name.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1');
}

async function checkPair(pair: CertificatePair, clock: Clock): Promise<Finding> {
  const { subject, name, elsewhere, certificatePath, privateKeyPath } = pair;
  const bad = (found: string, remedy: string): Finding => ({ subject, verdict: 'bad', found, remedy });
  try {
    const certificate = new X509Certificate(await readFile(certificatePath));
    const key = createPrivateKey(await readFile(privateKeyPath));
    if (!certificate.checkPrivateKey(key)) {
      return bad(`${privateKeyPath} is not the key of ${certificatePath}`, 'Name two files that belong together.');
    }
    const matches = isIP(name) === 0 ? certificate.checkHost(name) : certificate.checkIP(name);
    if (matches === undefined) {
      return {
        subject,
        verdict: 'note',
        found: `${certificatePath} is not for ${name}, but for ${certificate.subjectAltName ?? 'no name'}`,
        remedy: elsewhere,
      };
    }
    const leftMs = Date.parse(certificate.validTo) - clock.now();
    if (leftMs < 0) return bad(`${certificatePath} ended on ${certificate.validTo}`, 'Renew it.');
    const found = `${certificatePath}, for ${name}, until ${certificate.validTo}`;
    return leftMs < RENEW_BEFORE_MS
      ? { subject, verdict: 'note', found, remedy: 'Renew it soon.' }
      : { subject, verdict: 'ok', found };
  } catch (error) {
    return bad(firstLine(error), 'Both files must be readable PEM.');
  }
}
