/**
 * Finds the keys of other servers: in memory, in the store, then at the trusted notaries many servers a request, then at
 * the servers themselves, some at a time. A join of a room with 1,300 servers costs a handful of requests where a notary
 * is configured. Callers that want the same key share one search for it, from the look into the store to the answer, so
 * that none of them asks for what another has just found; servers that could not give a key are left alone for a
 * growing while.
 */
import { LRUCache } from 'lru-cache';
import { type Clock } from '../clock.ts';
import { type Logger } from '../logging.ts';
import { type ServerName } from '../matrix/identifiers.ts';
import { type SigningKey } from '../matrix/signing/signing-key.ts';
import {
  type KeyRequest,
  type KeyResolver,
  type KeyStore,
  type KnownKey,
  type VerifyKey,
} from '../verification/contract.ts';
import { type FederationClient } from './contract.ts';
import { orAborted } from './deadline.ts';
import { type OldSigningKey } from './key-answer.ts';
import { better, isEnough, verifyKeyOf } from './known-keys.ts';
import { type TrustedKeyServer, createKeyFetcher } from './key-fetcher.ts';
import { createKeyPatience } from './key-patience.ts';

/** Requests for one key that are collected into one round; more wait for the next round. */
const ROUND_KEYS_MAX = 1000;
/** Rounds under way at a time; what is wanted meanwhile goes into the next ones, in fewer requests. */
const ROUNDS_MAX = 4;
/** Keys kept in memory: a few hundred bytes each, and a big room has some thousands. */
const CACHED_KEYS_MAX = 20_000;
/** After this a key is read from the store again: another process may have had a later answer about it. */
const CACHED_MS_MAX = 3_600_000;

export interface KeyRing {
  /** Never throws for a key that cannot be had; only for an aborted signal or a store that fails. */
  readonly resolve: KeyResolver;
}

export interface KeyRingConfig {
  readonly serverName: ServerName;
  readonly signingKey: SigningKey;
  /** Of ours, from before the signing key; none by default. */
  readonly oldSigningKeys?: readonly OldSigningKey[];
  readonly client: Pick<FederationClient, 'serverKeys' | 'notaryQuery'>;
  readonly keyStore: KeyStore;
  /** Asked in this order. */
  readonly trustedKeyServers: readonly TrustedKeyServer[];
  readonly clock: Clock;
  readonly logger: Logger;
}

interface Want {
  readonly request: KeyRequest;
  /** What the store has of it, though it may not be valid long enough. */
  stored: KnownKey | undefined;
  readonly done: Promise<KnownKey | undefined>;
  readonly settle: (key: KnownKey | undefined) => void;
  readonly fail: (error: unknown) => void;
}

/** The key ring of one process: its memory over the store over the network. */
export function createKeyRing(config: KeyRingConfig): KeyRing {
  const fetchKeys = createKeyFetcher(config);
  const { clock } = config;
  const patience = createKeyPatience(clock);
  const own = ownKeys(config);
  const cache = new LRUCache<string, KnownKey>({ max: CACHED_KEYS_MAX, ttl: CACHED_MS_MAX, perf: clock });
  /** Everything wanted and not settled yet, by name. */
  const wants = new Map<string, Want>();
  /** Of these: to be looked up in the store, and to be asked for. */
  let unread: Want[] = [];
  let waiting: Want[] = [];
  let rounds = 0;

  /** `key`: what the search over the network gave, if there was one. */
  const settle = (want: Want, key: KnownKey | undefined): void => {
    const name = nameOf(want.request);
    const best = better(better(cache.get(name), want.stored), key);
    if (best !== undefined) cache.set(name, best);
    // Removed in the tick that fills the cache: a later caller finds the key or starts a new search.
    wants.delete(name);
    want.settle(best);
  };
  const fail = (failed: readonly Want[], error: unknown): void => {
    for (const want of failed) {
      wants.delete(nameOf(want.request));
      want.fail(error);
    }
  };

  const readStore = async (): Promise<void> => {
    const wanted = unread;
    unread = [];
    try {
      const stored = await config.keyStore.readKeys(wanted.map(({ request }) => request));
      const byName = new Map(stored.map((key) => [nameOf(key), key]));
      for (const want of wanted) {
        want.stored = byName.get(nameOf(want.request));
        const isFound = want.stored !== undefined && isEnough(want.stored, want.request, clock.now());
        if (isFound || !patience.mayAsk(want.request)) settle(want, undefined);
        else waiting.push(want);
      }
    } catch (error) {
      fail(wanted, error);
    }
    startRounds();
  };

  const runRound = async (round: readonly Want[]): Promise<void> => {
    rounds += 1;
    try {
      const found = await fetchKeys(round.map(({ request }) => request));
      await config.keyStore.storeKeys([...found.values()].flat());
      for (const want of round) {
        const { request } = want;
        const key = found.get(request.serverName)?.find(({ keyId }) => keyId === request.keyId);
        patience.note(request, key !== undefined && isEnough(key, request, clock.now()));
        settle(want, key);
      }
    } catch (error) {
      fail(round, error);
    } finally {
      rounds -= 1;
      startRounds();
    }
  };

  const startRounds = (): void => {
    while (waiting.length > 0 && rounds < ROUNDS_MAX) {
      const round = waiting.slice(0, ROUND_KEYS_MAX);
      waiting = waiting.slice(ROUND_KEYS_MAX);
      void runRound(round);
    }
  };

  const want = (request: KeyRequest): Promise<KnownKey | undefined> => {
    const running = wants.get(nameOf(request));
    if (running !== undefined) {
      // What is on its way is nearly always valid for later events too.
      const isStronger = running.request.validAtTs < request.validAtTs;
      return running.done.then((key) =>
        isStronger && key !== undefined && !isEnough(key, request, clock.now()) ? want(request) : key,
      );
    }
    const made = makeWant(request);
    wants.set(nameOf(request), made);
    // Callers of the same turn of the event loop are looked up together.
    if (unread.length === 0) setImmediate(() => void readStore());
    unread.push(made);
    return made.done;
  };

  return {
    resolve: async (requests, signal) => {
      signal.throwIfAborted();
      const known = new Map<string, VerifyKey>();
      const missing: KeyRequest[] = [];
      for (const request of strongestRequests(requests)) {
        const key = own.get(nameOf(request)) ?? cache.get(nameOf(request));
        if (key === undefined || !isEnough(key, request, clock.now())) missing.push(request);
        else known.set(nameOf(key), verifyKeyOf(key, clock.now()));
      }
      const found = missing.length === 0 ? [] : await orAborted(Promise.all(missing.map(want)), signal);
      for (const key of found) if (key !== undefined) known.set(nameOf(key), verifyKeyOf(key, clock.now()));
      return [...known.values()];
    },
  };
}

/**
 * What we know of our own keys needs nobody. Events of ours that another key signed are from before the keys of now, and
 * from before what was written down: notaries may know it.
 */
function ownKeys({ serverName, signingKey, oldSigningKeys = [] }: KeyRingConfig): ReadonlyMap<string, KnownKey> {
  const old = oldSigningKeys.map(({ keyId, publicKey, expiredTs }) => ({
    serverName,
    keyId,
    publicKey,
    validUntilTs: expiredTs,
    expired: true,
    fetchedAt: 0,
  }));
  const { keyId, publicKey } = signingKey;
  const current = { serverName, keyId, publicKey, validUntilTs: Number.MAX_SAFE_INTEGER, expired: false, fetchedAt: 0 };
  return new Map([...old, current].map((key) => [nameOf(key), key]));
}

function nameOf({ serverName, keyId }: Pick<KeyRequest, 'serverName' | 'keyId'>): string {
  return `${serverName} ${keyId}`;
}

/** Each key once, with the latest time that it must be valid at. */
function strongestRequests(requests: readonly KeyRequest[]): KeyRequest[] {
  const byName = new Map<string, KeyRequest>();
  for (const request of requests) {
    const known = byName.get(nameOf(request));
    if (known === undefined || known.validAtTs < request.validAtTs) byName.set(nameOf(request), request);
  }
  return [...byName.values()];
}

function makeWant(request: KeyRequest): Want {
  let settle: Want['settle'] = () => undefined;
  let fail: Want['fail'] = () => undefined;
  const done = new Promise<KnownKey | undefined>((resolve, reject) => {
    settle = resolve;
    fail = reject;
  });
  // Everybody who waits may have gone away; then nobody hears of a failure of the store, and nobody needs to.
  done.catch(() => undefined);
  return { request, stored: undefined, done, settle, fail };
}
