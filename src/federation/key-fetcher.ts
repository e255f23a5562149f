/**
 * One round of fetching keys over the network: the notaries in their order, each asked for many servers at once, then
 * whoever is left directly. Answers are believed only when they are signed: by the server itself, and at a notary by
 * the notary too.
 */
import pLimit from 'p-limit';
import { type Clock } from '../clock.ts';
import { type Logger } from '../logging.ts';
import { type KeyId, type ServerName } from '../matrix/identifiers.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { type KeyRequest, type KnownKey } from '../verification/contract.ts';
import { type FederationClient } from './contract.ts';
import { createDeadline } from './deadline.ts';
import { isVouchedFor, readKeyAnswer } from './key-answer.ts';
import { better, isEnough } from './known-keys.ts';

/** Servers in one request to a notary: an answer of about 300 KB, and few enough for one that must fetch them first. */
const NOTARY_SERVERS_MAX = 300;
/** A notary that does not know a key asks its server before it answers, milliseconds. */
const NOTARY_TIMEOUT_MS = 20_000;
/** A notary that failed is passed over for this long, milliseconds. */
const NOTARY_PAUSE_MS = 30_000;
/** A notary's own keys are fetched again after this, milliseconds. */
const NOTARY_KEYS_LIFETIME_MS = 3_600_000;
/** Servers asked at a time; each costs a name look-up and a TLS handshake. */
const DIRECT_CONCURRENCY = 48;
/** Keys are wanted while somebody waits; a server that takes longer than this is as good as down, milliseconds. */
const DIRECT_TIMEOUT_MS = 10_000;

/** A notary, with the keys by which its signature is checked; empty: its own, fetched from it. */
export interface TrustedKeyServer {
  readonly serverName: ServerName;
  /** Unpadded base64, by key id. */
  readonly verifyKeys?: ReadonlyMap<KeyId, string>;
}

/** Every key of the servers asked for that could be had, by server. Never throws. */
export type KeyFetcher = (requests: readonly KeyRequest[]) => Promise<ReadonlyMap<ServerName, readonly KnownKey[]>>;

export interface KeyFetcherConfig {
  readonly serverName: ServerName;
  readonly client: Pick<FederationClient, 'serverKeys' | 'notaryQuery'>;
  readonly trustedKeyServers: readonly TrustedKeyServer[];
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Asks notaries and servers for keys; one that cannot be had is absent from the answer. */
export function createKeyFetcher(config: KeyFetcherConfig): KeyFetcher {
  const { client, clock, logger } = config;
  const limit = pLimit(DIRECT_CONCURRENCY);
  const pausedUntil = new Map<ServerName, number>();
  const notaryKeys = new Map<ServerName, { readonly keys: ReadonlyMap<KeyId, string>; readonly fetchedAt: number }>();
  /** Fetches of notaries' own keys that are under way: a round asks a notary in several requests, and rounds overlap. */
  const notaryKeysOnTheirWay = new Map<ServerName, Promise<ReadonlyMap<KeyId, string>>>();

  const askServer = async (serverName: ServerName): Promise<readonly KnownKey[]> => {
    const deadline = createDeadline(undefined, DIRECT_TIMEOUT_MS);
    try {
      const reading = readKeyAnswer(await client.serverKeys(serverName, { signal: deadline.signal }), clock.now());
      if (!reading.ok) throw new Error(reading.reason);
      if (reading.serverName !== serverName) throw new Error(`the keys are those of ${reading.serverName}`);
      return reading.keys;
    } finally {
      deadline.dispose();
    }
  };

  const fetchKeysOfNotary = async (serverName: ServerName): Promise<ReadonlyMap<KeyId, string>> => {
    const fetched = await askServer(serverName);
    const current = fetched.filter(({ expired }) => !expired);
    const keys = new Map(current.map(({ keyId, publicKey }) => [keyId, publicKey]));
    notaryKeys.set(serverName, { keys, fetchedAt: clock.now() });
    return keys;
  };

  const keysOfNotary = async (notary: TrustedKeyServer): Promise<ReadonlyMap<KeyId, string>> => {
    if (notary.verifyKeys !== undefined && notary.verifyKeys.size > 0) return notary.verifyKeys;
    const known = notaryKeys.get(notary.serverName);
    if (known !== undefined && known.fetchedAt + NOTARY_KEYS_LIFETIME_MS > clock.now()) return known.keys;
    const onTheirWay = notaryKeysOnTheirWay.get(notary.serverName);
    if (onTheirWay !== undefined) return onTheirWay;
    const fetching = fetchKeysOfNotary(notary.serverName).finally(() => notaryKeysOnTheirWay.delete(notary.serverName));
    notaryKeysOnTheirWay.set(notary.serverName, fetching);
    return fetching;
  };

  const askNotary = async (notary: TrustedKeyServer, requests: readonly KeyRequest[]): Promise<KnownKey[]> => {
    const keys = await keysOfNotary(notary);
    const deadline = createDeadline(undefined, NOTARY_TIMEOUT_MS);
    const query = requests.map(({ serverName, keyId, validAtTs }) => ({
      serverName,
      keyId,
      minimumValidUntilTs: validAtTs,
    }));
    try {
      const answers = await client.notaryQuery(notary.serverName, query, { signal: deadline.signal });
      const asked = new Set(requests.map(({ serverName }) => serverName));
      return newestClaims(answers.flatMap((answer) => believe(answer, notary.serverName, keys, asked)));
    } finally {
      deadline.dispose();
    }
  };

  const believe = (
    answer: JsonObject,
    notary: ServerName,
    keys: ReadonlyMap<KeyId, string>,
    asked: ReadonlySet<ServerName>,
  ): readonly Claim[] => {
    if (!isVouchedFor(answer, notary, keys)) {
      logger.warn({ notary }, 'a notary gave keys without its signature');
      return [];
    }
    const reading = readKeyAnswer(answer, clock.now());
    if (reading.ok) {
      const { validUntilTs: statedUntilTs } = reading;
      return asked.has(reading.serverName) ? reading.keys.map((key) => ({ key, statedUntilTs })) : [];
    }
    logger.warn({ notary, reason: reading.reason }, 'a notary gave keys that their server did not sign');
    return [];
  };

  return async (requests) => {
    const found = createFindings(clock);
    for (const notary of config.trustedKeyServers) {
      const left = requests.filter((request) => !found.has(request) && request.serverName !== notary.serverName);
      const isSkipped =
        notary.serverName === config.serverName || (pausedUntil.get(notary.serverName) ?? 0) > clock.now();
      if (isSkipped || left.length === 0) continue;
      await Promise.all(
        chunksByServer(left).map(async (chunk) => {
          try {
            found.add(await askNotary(notary, chunk));
          } catch (error) {
            pausedUntil.set(notary.serverName, clock.now() + NOTARY_PAUSE_MS);
            logger.warn({ notary: notary.serverName, err: error }, 'a notary cannot be asked for keys');
          }
        }),
      );
    }
    const servers = new Set(requests.filter((request) => !found.has(request)).map(({ serverName }) => serverName));
    // What we know of our own keys is configured.
    servers.delete(config.serverName);
    await Promise.all(
      [...servers].map((serverName) =>
        limit(async () => {
          try {
            found.add(await askServer(serverName));
          } catch (error) {
            logger.debug({ serverName, err: error }, 'a server cannot be asked for its keys');
          }
        }),
      ),
    );
    return found.byServer;
  };
}

/** What one of several key objects of a server says of a key. */
interface Claim {
  readonly key: KnownKey;
  /** How long the object says that it is valid: the later, the newer. */
  readonly statedUntilTs: number;
}

/**
 * A notary's list has no order, and may hold several objects of one server: a key may have ended by one and be current by
 * another. Of each key the claim of the newest object counts, and of equally new ones that which lets it be valid longest.
 */
function newestClaims(claims: readonly Claim[]): KnownKey[] {
  const sorted = claims.toSorted(
    (a, b) =>
      a.statedUntilTs - b.statedUntilTs ||
      a.key.validUntilTs - b.key.validUntilTs ||
      Number(a.key.expired) - Number(b.key.expired) ||
      (a.key.publicKey < b.key.publicKey ? -1 : 1),
  );
  return [...new Map(sorted.map(({ key }) => [`${key.serverName} ${key.keyId}`, key])).values()];
}

/** What a round has found so far: each key once. */
function createFindings(clock: Clock) {
  const byServer = new Map<ServerName, KnownKey[]>();
  return {
    byServer,
    /** Whether a key is found that nothing fresher can better. */
    has: ({ serverName, keyId, validAtTs }: KeyRequest): boolean =>
      (byServer.get(serverName) ?? []).some((key) => key.keyId === keyId && isEnough(key, { validAtTs }, clock.now())),
    /** Takes the keys of one answer, which was asked for after those before it. */
    add(keys: readonly KnownKey[]): void {
      for (const key of keys) {
        const known = byServer.get(key.serverName) ?? [];
        const same = known.find(({ keyId }) => keyId === key.keyId);
        const best = better(same, key) ?? key;
        byServer.set(key.serverName, [...known.filter((other) => other !== same), best]);
      }
    },
  };
}

/** The requests in groups of at most `NOTARY_SERVERS_MAX` servers, those of one server together. */
function chunksByServer(requests: readonly KeyRequest[]): KeyRequest[][] {
  const byServer = new Map<ServerName, KeyRequest[]>();
  for (const request of requests) {
    byServer.set(request.serverName, [...(byServer.get(request.serverName) ?? []), request]);
  }
  const groups = [...byServer.values()];
  const chunks: KeyRequest[][] = [];
  for (let at = 0; at < groups.length; at += NOTARY_SERVERS_MAX) {
    chunks.push(groups.slice(at, at + NOTARY_SERVERS_MAX).flat());
  }
  return chunks;
}
