/** How both ends of ours reach Temporal: the address, TLS, an API key that is renewed, and what encodes what is stored there. */
import { type PayloadCodec } from '@temporalio/common';
import { Connection, type TLSConfig } from '@temporalio/client';
import { type ApiKey, followApiKey } from './api-key.ts';
import { loadPayloadCodec } from './payload-codec.ts';
import { type TemporalTlsFiles, readTemporalTls } from './tls.ts';

export interface TemporalTarget {
  readonly address: string;
  readonly namespace: string;
  readonly taskQueue: string;
  /** Put before every workflow and schedule id; tests that share a server use it. */
  readonly idPrefix?: string;
  readonly connectTimeoutMs?: number;
  /** Absent or `null`: no TLS, but with an API key, which is never sent in the clear. */
  readonly tls?: TemporalTlsFiles | null;
  /** A file; absent or `null`: there is none. */
  readonly apiKeyPath?: string | null;
  /** A module (payload-codec.ts); absent or `null`: what is stored can be read there. */
  readonly payloadCodecPath?: string | null;
}

const CONNECT_TIMEOUT_MS = 10_000;

/** What connects, of either kind, is given. */
export interface Access {
  readonly tls?: TLSConfig | true;
  readonly key: ApiKey | undefined;
}

/** Reads the files; `onRenewed` is given each later API key. Throws what is wrong with one. */
export async function readAccess(target: TemporalTarget, onRenewed?: (key: string) => void): Promise<Access> {
  const { tls: files = null, apiKeyPath = null } = target;
  const tls = await readTemporalTls(files);
  const key = apiKeyPath === null ? undefined : await followApiKey(apiKeyPath, onRenewed);
  if (tls !== undefined) return { tls, key };
  return key === undefined ? { key } : { tls: true, key };
}

/** A connection of either kind, and how it is closed. */
export interface Opened<Kind> {
  readonly connection: Kind;
  readonly close: () => Promise<void>;
}

/** Connects; the key is followed as long as the connection is open. Throws what `connect` throws. */
export async function openWith<Kind extends { close(): Promise<void> }>(
  key: ApiKey | undefined,
  connect: () => Promise<Kind>,
): Promise<Opened<Kind>> {
  try {
    const connection = await connect();
    return {
      connection,
      close: async () => {
        key?.stop();
        await connection.close();
      },
    };
  } catch (error) {
    key?.stop();
    throw error;
  }
}

/** A connection of the client's kind. Throws the SDK's error when the server does not answer within the timeout. */
export async function openConnection(target: TemporalTarget): Promise<Opened<Connection>> {
  const { address, connectTimeoutMs = CONNECT_TIMEOUT_MS } = target;
  const { key, ...tls } = await readAccess(target);
  const options = { address, connectTimeout: connectTimeoutMs, ...tls };
  return openWith(key, () =>
    Connection.connect(key === undefined ? options : { ...options, apiKey: () => key.current() }),
  );
}

/** What a client or a worker is given to encode by: nothing where no codec is configured. */
export async function dataConverterOf({
  payloadCodecPath,
}: TemporalTarget): Promise<{ readonly dataConverter?: { readonly payloadCodecs: PayloadCodec[] } }> {
  if (payloadCodecPath === undefined || payloadCodecPath === null) return {};
  return { dataConverter: { payloadCodecs: [await loadPayloadCodec(payloadCodecPath)] } };
}
