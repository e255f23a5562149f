import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { createServer, get } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type AddressInfo } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import {
  type ServerCertificate,
  createCertificateAuthority,
  ensureCertificateFiles,
} from '../../src/launch/certificates.ts';
import { systemClock } from '../../src/clock.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'rejoinder-certificates-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

/** Asks a TLS server that has the certificate, under a name; resolves with the status or the error's code. */
async function ask(certificate: ServerCertificate, ca: string, servername: string): Promise<number | string> {
  const server = createServer({ cert: certificate.certificatePem, key: certificate.keyPem }, (_, response) =>
    response.end(),
  );
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    return await new Promise((resolve) => {
      const { port } = server.address() as AddressInfo;
      const request = get({ host: '127.0.0.1', port, servername, ca, headers: { connection: 'close' } }, (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      });
      request.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    });
  } finally {
    server.close();
  }
}

test('a client that trusts the authority accepts its certificate for the names given and for localhost', async () => {
  const authority = await createCertificateAuthority(systemClock);
  const certificate = await authority.issue(['resident.example']);
  expect(await ask(certificate, authority.certificatePem, 'resident.example')).toBe(200);
  expect(await ask(certificate, authority.certificatePem, 'localhost')).toBe(200);
  // Without a server name the address itself must be certified.
  expect(await ask(certificate, authority.certificatePem, '')).toBe(200);
});

test('a client refuses a certificate for another name, or of another authority', async () => {
  const authority = await createCertificateAuthority(systemClock);
  const other = await createCertificateAuthority(systemClock);
  const certificate = await authority.issue([]);
  expect(await ask(certificate, authority.certificatePem, 'evil.example')).toBe('ERR_TLS_CERT_ALTNAME_INVALID');
  expect(await ask(certificate, other.certificatePem, 'localhost')).not.toBe(200);
});

test('files are kept from start to start and issued anew for a new name or near their end', async () => {
  const first = await ensureCertificateFiles(directory, ['a.example'], systemClock);
  const pem = await readFile(first.certificateFile, 'utf8');
  const authorityPem = await readFile(first.authorityFile, 'utf8');
  expect((await stat(first.keyFile)).mode & 0o777).toBe(0o600);

  await ensureCertificateFiles(directory, ['a.example'], systemClock);
  expect(await readFile(first.certificateFile, 'utf8')).toBe(pem);

  await ensureCertificateFiles(directory, ['a.example', 'b.example'], systemClock);
  const second = await readFile(first.certificateFile, 'utf8');
  expect(second).not.toBe(pem);

  const inAYear = { now: () => systemClock.now() + 380 * 24 * 3_600_000 };
  await ensureCertificateFiles(directory, ['a.example'], inAYear);
  expect(await readFile(first.certificateFile, 'utf8')).not.toBe(second);
  expect(await readFile(first.authorityFile, 'utf8')).toBe(authorityPem);
});
