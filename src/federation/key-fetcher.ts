/**
 * Fetching keys over the network: the notaries in their order, each asked for many servers at once, then whoever is left
 * directly, some at a time. Each key is told of when it is had. Answers are believed only when they are signed: by the server itself, and at a notary by
 * the notary too.
 */
import { LRUCache } from 'lru-cache';
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
/**
 * A notary that failed is passed over for this long, milliseconds, by what would be asked together with what it failed at: the
 * fault may be that of the servers it was asked about, who let it wait.
 */
const NOTARY_PAUSE_MS = 30_000;
const PAUSES_MAX = 10_000;
/** A notary's own keys are fetched again after this, milliseconds. */
const NOTARY_KEYS_LIFETIME_MS = 3_600_000;
/** Keys are wanted while somebody waits; a server that takes longer than this is as good as down, milliseconds. */
const DIRECT_TIMEOUT_MS = 10_000;

/** A notary, with the keys by which its signature is checked; empty: its own, fetched from it. */
export interface TrustedKeyServer {
  readonly serverName: ServerName;
  /** Unpadded base64, by key id. */
  readonly verifyKeys?: ReadonlyMap<KeyId, string>;
}

export interface KeySearch {
  /** What is asked of a notary together belongs together: batches of a name share its pauses. */
  readonly batch: string;
  readonly requests: readonly KeyRequest[];
  /** How long each that is asked may take, milliseconds; absent: as long as keys are worth. */
  readonly patienceMs?: number;
  /** Runs `ask`, which never rejects, when a server may be asked. */
  readonly whenItsTurn: (serverName: ServerName, ask: () => Promise<void>) => void;
  /** Takes every key that was had. */
  readonly had: (keys: readonly KnownKey[]) => void;
  /** A request is done with, once each: the best key for it, if any. */
  readonly done: (request: KeyRequest, key: KnownKey | undefined) => void;
}

/** Resolves when the notaries have said what they know; servers are asked from then on. Never throws. */
export type KeyFetcher = (search: KeySearch) => Promise<void>;

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
  const paused = new LRUCache<string, true>({ max: PAUSES_MAX, ttl: NOTARY_PAUSE_MS, perf: clock });
  const notaryKeys = new Map<ServerName, { readonly keys: ReadonlyMap<KeyId, string>; readonly fetchedAt: number }>();
  /** Fetches of notaries' own keys that are under way: a round asks a notary in several requests, and rounds overlap. */
  const notaryKeysOnTheirWay = new Map<ServerName, Promise<ReadonlyMap<KeyId, string>>>();

  const askServer = async (serverName: ServerName, patienceMs = DIRECT_TIMEOUT_MS): Promise<readonly KnownKey[]> => {
    const deadline = createDeadline(undefined, patienceMs);
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

  const askNotary = async (
    notary: TrustedKeyServer,
    requests: readonly KeyRequest[],
    patienceMs = NOTARY_TIMEOUT_MS,
  ): Promise<KnownKey[]> => {
    const keys = await keysOfNotary(notary);
    const deadline = createDeadline(undefined, patienceMs);
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

  return async ({ batch, requests, patienceMs, whenItsTurn, had, done }) => {
    const found = createFindings(clock);
    const open = new Set(requests);
    const add = (keys: readonly KnownKey[]): void => {
      found.add(keys);
      had(keys);
    };
    const close = (closed: readonly KeyRequest[]): void => {
      for (const request of closed) if (open.delete(request)) done(request, found.get(request));
    };

    for (const { serverName: notary, ...rest } of config.trustedKeyServers) {
      const left = [...open].filter(({ serverName }) => serverName !== notary);
      if (notary === config.serverName || paused.has(`${notary} ${batch}`) || left.length === 0) continue;
      await Promise.all(
        chunksByServer(left).map(async (chunk) => {
          try {
            add(await askNotary({ serverName: notary, ...rest }, chunk, patienceMs));
          } catch (error) {
            paused.set(`${notary} ${batch}`, true);
            logger.warn({ notary, err: error }, 'a notary cannot be asked for keys');
          }
          close(chunk.filter((request) => found.has(request)));
        }),
      );
    }
    for (const [serverName, ofServer] of byServer([...open])) {
      // What we know of our own keys is configured.
      if (serverName === config.serverName) {
        close(ofServer);
        continue;
      }
      whenItsTurn(serverName, async () => {
        try {
          add(await askServer(serverName, patienceMs));
        } catch (error) {
          logger.debug({ serverName, err: error }, 'a server cannot be asked for its keys');
        }
        close(ofServer);
      });
    }
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

/** What a search has found so far: each key once. */
function createFindings(clock: Clock) {
  const byName = new Map<string, KnownKey>();
  const nameOf = ({ serverName, keyId }: Pick<KeyRequest, 'serverName' | 'keyId'>) => `${serverName} ${keyId}`;
  const get = (request: KeyRequest): KnownKey | undefined => byName.get(nameOf(request));
  return {
    get,
    /** Whether a key is found that nothing fresher can better. */
    has(request: KeyRequest): boolean {
      const key = get(request);
      return key !== undefined && isEnough(key, request, clock.now());
    },
    /** Takes the keys of one answer, which was asked for after those before it. */
    add(keys: readonly KnownKey[]): void {
      for (const key of keys) byName.set(nameOf(key), better(byName.get(nameOf(key)), key) ?? key);
    },
  };
}

function byServer(requests: readonly KeyRequest[]): Map<ServerName, KeyRequest[]> {
  const groups = new Map<ServerName, KeyRequest[]>();
  for (const request of requests) {
    const group = groups.get(request.serverName);
    if (group === undefined) groups.set(request.serverName, [request]);
    else group.push(request);
  }
  return groups;
}

/** The requests in groups of at most `NOTARY_SERVERS_MAX` servers, those of one server together. */
function chunksByServer(requests: readonly KeyRequest[]): KeyRequest[][] {
  const groups = [...byServer(requests).values()];
  const chunks: KeyRequest[][] = [];
  for (let at = 0; at < groups.length; at += NOTARY_SERVERS_MAX) {
    chunks.push(groups.slice(at, at + NOTARY_SERVERS_MAX).flat());
  }
  return chunks;
}
