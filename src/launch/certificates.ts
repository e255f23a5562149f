/**
 * A certificate authority of our own and server certificates by it, for local starts, where no public authority can vouch
 * for `localhost`. Whoever is to trust them gets the authority's PEM file (`federation.custom_ca`); nothing is
 * installed into the system.
 */
// The X.509 library's dependency injection looks for this polyfill when it is loaded.
import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { join } from 'node:path';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  type JsonGeneralName,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509';
import { type Clock } from '../clock.ts';

const KEY_ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256' } as const;
const SIGNING_ALGORITHM = { name: 'ECDSA', hash: 'SHA-256' } as const;
const DAY_MS = 24 * 3_600_000;
/** Some TLS stacks refuse server certificates that are valid for longer. */
const SERVER_DAYS = 397;
const AUTHORITY_DAYS = 3_650;
/** A certificate this near to its end is issued anew at a start. */
const RENEWAL_DAYS = 30;
/** Clocks of one machine and its containers may differ by a little. */
const BACKDATING_MS = 3_600_000;

export interface ServerCertificate {
  readonly certificatePem: string;
  /** PKCS #8. */
  readonly keyPem: string;
}

export interface CertificateAuthority extends ServerCertificate {
  /** Issues a certificate for host names and addresses; `localhost`, `127.0.0.1` and `::1` are always among them. */
  issue(names: readonly string[]): Promise<ServerCertificate>;
}

async function generateKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(KEY_ALGORITHM, true, ['sign', 'verify']);
}

async function keyPem(key: webcrypto.CryptoKey): Promise<string> {
  return PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', key), 'PRIVATE KEY') + '\n';
}

function validity(clock: Clock, days: number): { notBefore: Date; notAfter: Date } {
  const now = clock.now();
  return { notBefore: new Date(now - BACKDATING_MS), notAfter: new Date(now + days * DAY_MS) };
}

/** The names a certificate is for, without ports, each once. */
function certifiedNames(names: readonly string[]): string[] {
  return [...new Set(['localhost', '127.0.0.1', '::1', ...names])];
}

function authority(
  certificate: X509Certificate,
  key: webcrypto.CryptoKey,
  pem: string,
  clock: Clock,
): CertificateAuthority {
  async function issue(names: readonly string[]): Promise<ServerCertificate> {
    const keys = await generateKeys();
    const alternatives = certifiedNames(names).map((name): JsonGeneralName => ({
      type: isIP(name) === 0 ? 'dns' : 'ip',
      value: name,
    }));
    const issued = await X509CertificateGenerator.create(
      {
        subject: 'CN=Rejoinder local server',
        issuer: certificate.subject,
        ...validity(clock, SERVER_DAYS),
        signingAlgorithm: SIGNING_ALGORITHM,
        signingKey: key,
        publicKey: keys.publicKey,
        extensions: [
          new BasicConstraintsExtension(false, undefined, true),
          new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
          new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth]),
          new SubjectAlternativeNameExtension(alternatives),
          // Authorities of ours share a name: whoever trusts two of them finds the right one by its key.
          await AuthorityKeyIdentifierExtension.create(certificate.publicKey, false, webcrypto),
        ],
      },
      webcrypto,
    );
    return { certificatePem: issued.toString('pem') + '\n', keyPem: await keyPem(keys.privateKey) };
  }
  return { certificatePem: certificate.toString('pem') + '\n', keyPem: pem, issue };
}

/** Makes a new certificate authority. */
export async function createCertificateAuthority(clock: Clock): Promise<CertificateAuthority> {
  const keys = await generateKeys();
  const certificate = await X509CertificateGenerator.createSelfSigned(
    {
      name: 'CN=Rejoinder local authority',
      ...validity(clock, AUTHORITY_DAYS),
      signingAlgorithm: SIGNING_ALGORITHM,
      keys,
      extensions: [
        new BasicConstraintsExtension(true, 0, true),
        new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
        await SubjectKeyIdentifierExtension.create(keys.publicKey, false, webcrypto),
      ],
    },
    webcrypto,
  );
  return authority(certificate, keys.privateKey, await keyPem(keys.privateKey), clock);
}

export interface CertificateFiles {
  readonly authorityFile: string;
  readonly certificateFile: string;
  readonly keyFile: string;
}

async function writeWhole(file: string, text: string): Promise<void> {
  // A reader, or a start after a crash, sees the old file or the new one.
  await writeFile(`${file}.new`, text, { mode: 0o600 });
  await rename(`${file}.new`, file);
}

/** The authority kept in a folder, made at the first call. */
async function loadAuthority(directory: string, clock: Clock): Promise<CertificateAuthority> {
  const certificateFile = join(directory, 'authority.pem');
  const keyFile = join(directory, 'authority-key.pem');
  const texts = await Promise.all([readFile(certificateFile, 'utf8'), readFile(keyFile, 'utf8')]).catch(
    () => undefined,
  );
  if (texts !== undefined) {
    const key = await webcrypto.subtle.importKey('pkcs8', PemConverter.decodeFirst(texts[1]), KEY_ALGORITHM, true, [
      'sign',
    ]);
    return authority(new X509Certificate(texts[0]), key, texts[1], clock);
  }
  const made = await createCertificateAuthority(clock);
  await writeWhole(keyFile, made.keyPem);
  await writeWhole(certificateFile, made.certificatePem);
  return made;
}

async function isStillGood(
  files: CertificateFiles,
  names: readonly string[],
  issuer: string,
  clock: Clock,
): Promise<boolean> {
  try {
    const certificate = new X509Certificate(await readFile(files.certificateFile, 'utf8'));
    await readFile(files.keyFile);
    const isOurs = await certificate.verify({ publicKey: new X509Certificate(issuer), signatureOnly: true }, webcrypto);
    const alternatives = certificate
      .getExtension(SubjectAlternativeNameExtension)
      ?.names.items.map(({ value }) => value);
    const namesAll = certifiedNames(names).every((name) => alternatives?.includes(name) === true);
    return isOurs && namesAll && certificate.notAfter.getTime() - clock.now() > RENEWAL_DAYS * DAY_MS;
  } catch {
    return false;
  }
}

/**
 * PEM files in a folder: `authority.pem`, kept for ever, and `server.pem` with `server-key.pem`, issued anew when they
 * lack a name or near their end. Private keys have mode 0600.
 */
export async function ensureCertificateFiles(
  directory: string,
  names: readonly string[],
  clock: Clock,
): Promise<CertificateFiles> {
  await mkdir(directory, { recursive: true });
  const made = await loadAuthority(directory, clock);
  const files = {
    authorityFile: join(directory, 'authority.pem'),
    certificateFile: join(directory, 'server.pem'),
    keyFile: join(directory, 'server-key.pem'),
  };
  if (await isStillGood(files, names, made.certificatePem, clock)) return files;
  const issued = await made.issue(names);
  await writeWhole(files.keyFile, issued.keyPem);
  await writeWhole(files.certificateFile, issued.certificatePem);
  return files;
}
