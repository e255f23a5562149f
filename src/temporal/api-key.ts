/** The key by which a managed Temporal knows us: read from a file, and again whenever that changes, so that it is renewed without a restart. */
import { unwatchFile, watchFile } from 'node:fs';
import { readFile } from 'node:fs/promises';

/** A key is replaced well before it ends. Looking, not being told: a mounted secret is replaced by turning a link. */
const LOOK_EVERY_MS = 5_000;

export interface ApiKey {
  /** As the file had it last. */
  current(): string;
  stop(): void;
}

/**
 * Reads the key, and keeps it as the file has it; `onChange` is given each further one. What is unreadable or empty later is
 * somebody at work there: the key of before stays. Throws when there is no key to begin with.
 */
export async function followApiKey(path: string, onChange: (key: string) => void = () => undefined): Promise<ApiKey> {
  let key = await read(path);
  const look = (): void => {
    read(path).then(
      (found) => {
        if (found === key) return;
        key = found;
        onChange(key);
      },
      () => undefined,
    );
  };
  watchFile(path, { interval: LOOK_EVERY_MS, persistent: false }, look);
  return { current: () => key, stop: () => unwatchFile(path, look) };
}

async function read(path: string): Promise<string> {
  const key = (await readFile(path, 'utf8')).trim();
  if (key === '') throw new Error(`${path} is empty: it is to hold the API key of Temporal`);
  return key;
}
