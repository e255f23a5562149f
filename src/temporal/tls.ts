/** TLS towards Temporal: the files of the configuration, read into what client and worker connect with. */
import { readFile } from 'node:fs/promises';
import { type TLSConfig } from '@temporalio/client';

/** `null` where the system's authorities, the address's own name, or no client certificate will do. */
export interface TemporalTlsFiles {
  /** The name in the server's certificate, where it is not the address's. */
  readonly serverName: string | null;
  readonly caPath: string | null;
  /** Of the client, together with its key. */
  readonly certificatePath: string | null;
  readonly privateKeyPath: string | null;
}

/** `undefined`: no TLS. Throws the file system's error for a file that cannot be read. */
export async function readTemporalTls(files: TemporalTlsFiles | null): Promise<TLSConfig | undefined> {
  if (files === null) return undefined;
  const { serverName, caPath, certificatePath, privateKeyPath } = files;
  return {
    ...(serverName === null ? {} : { serverNameOverride: serverName }),
    ...(caPath === null ? {} : { serverRootCACertificate: await readFile(caPath) }),
    ...(certificatePath === null || privateKeyPath === null
      ? {}
      : { clientCertPair: { crt: await readFile(certificatePath), key: await readFile(privateKeyPath) } }),
  };
}
