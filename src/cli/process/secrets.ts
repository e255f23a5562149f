/** The secrets a server makes for itself at its first start. */
import { randomBytes } from 'node:crypto';
import { type Config } from '../../config.ts';
import {
  type SigningKey,
  formatSigningKey,
  generateSigningKey,
  parseSigningKey,
} from '../../matrix/signing/signing-key.ts';
import { SecretFileError, readOrCreateSecret } from '../../secret-file.ts';

const TOKEN_BYTES = 24;

/** The key that signs events and requests; made when there is none. Throws `SecretFileError`. */
export async function loadSigningKey({ signingKeyPath: path }: Config): Promise<SigningKey> {
  const key = parseSigningKey(await readOrCreateSecret(path, () => formatSigningKey(generateSigningKey(randomBytes))));
  if (key !== undefined) return key;
  throw new SecretFileError(`${path} is no signing key: it holds one line, "ed25519 <version> <seed>"`);
}

/** The operator's bearer token: the configured one, else that of its file, made when there is none. */
export async function loadOperatorToken({ operator }: Config): Promise<string> {
  return (
    operator.token ??
    (await readOrCreateSecret(operator.tokenPath, () => randomBytes(TOKEN_BYTES).toString('base64url')))
  );
}
