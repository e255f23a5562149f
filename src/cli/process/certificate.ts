/** The certificate of a listener that ends TLS itself. */
import { readFile } from 'node:fs/promises';
import { type TlsConfig } from '../../config.ts';
import { CliError } from '../failure.ts';
import { type ListenerName } from './listen.ts';

export interface Certificate {
  readonly certificatePem: string;
  readonly keyPem: string;
}

/** `undefined` where none is configured (`null`). Throws `CliError`. */
export async function readCertificate(name: ListenerName, tls: TlsConfig | null): Promise<Certificate | undefined> {
  if (tls === null) return undefined;
  try {
    const [certificatePem, keyPem] = await Promise.all([
      readFile(tls.certificatePath, 'utf8'),
      readFile(tls.privateKeyPath, 'utf8'),
    ]);
    return { certificatePem, keyPem };
  } catch (error) {
    throw new CliError(`listeners.${name}.tls: ${error instanceof Error ? error.message : String(error)}`, {
      hint: 'Both files must be readable PEM; "rejoinder doctor" looks into them.',
      cause: error,
    });
  }
}
