/** Secrets kept in files of their own, such as the signing key: made once, readable by their owner only. */
import { randomBytes } from 'node:crypto';
import { link, mkdir, open, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';

/** A secret file cannot be used; the message says what to do. */
export class SecretFileError extends Error {
  override readonly name = 'SecretFileError';
}

/** Bits of a file's mode that let anybody but its owner in. */
const OTHERS = 0o077;

/**
 * The file's text without the white space around it; `undefined` when there is no file. Throws `SecretFileError` when
 * others may read it: then it may be no secret any more, which is for a person to decide.
 */
export async function readSecretFile(path: string): Promise<string | undefined> {
  try {
    const { mode } = await stat(path);
    if ((mode & OTHERS) !== 0) {
      const octal = (mode & 0o777).toString(8).padStart(4, '0');
      throw new SecretFileError(
        `${path} has mode ${octal}, so others may have read it: chmod 600 it, or remove it to have a new one made`,
      );
    }
    const text = (await readFile(path, 'utf8')).trim();
    if (text === '') throw new SecretFileError(`${path} is empty: remove it to have a new one made`);
    return text;
  } catch (error) {
    if (error instanceof SecretFileError) throw error;
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unreadable';
    if (code === 'ENOENT') return undefined;
    throw new SecretFileError(`${path} can't be read (${code})`);
  }
}

/** Reads the secret, made by `make` at the first call. Of two processes that make it at once, both get the same one. */
export async function readOrCreateSecret(path: string, make: () => string): Promise<string> {
  const existing = await readSecretFile(path);
  if (existing !== undefined) return existing;
  const temporary = `${path}.${randomBytes(6).toString('hex')}`;
  try {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(temporary, `${make().trim()}\n`, { mode: 0o600, flag: 'wx' });
    await sync(temporary);
    // A link fails where the name is taken, and what it names is whole.
    await link(temporary, path).catch((error: unknown) => {
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
    });
  } catch (error) {
    throw new SecretFileError(`${path} can't be made: ${error instanceof Error ? error.message : String(error)}`);
  } finally {
    await rm(temporary, { force: true });
  }
  const secret = await readSecretFile(path);
  if (secret === undefined) throw new SecretFileError(`${path} was removed while it was made`);
  return secret;
}

/** A signing key that is lost in a power cut would be a new identity after events were signed with it. */
async function sync(path: string): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}
