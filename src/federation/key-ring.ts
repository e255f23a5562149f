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
import { type TrustedKeyServer, createKeyFetcher } from './key-fetcher.ts';
import { createKeyPatience } from './key-patience.ts';

/** Requests for one key that are collected into one round; more wait for the next round. */
const ROUND_KEYS_MAX = 1000;
/** Rounds under way at a time; what is wanted meanwhile goes into the next ones, in fewer requests. */
const ROUNDS_MAX = 4;
/** Keys kept in memory: a few hundred bytes each, and a big room has some thousands. */
const CACHED_KEYS_MAX = 20_000;

export interface KeyRing {
  /** Never throws for a key that cannot be had; only for an aborted signal or a store that fails. */
  readonly resolve: KeyResolver;
}

export interface KeyRingConfig {
  readonly serverName: ServerName;
  readonly signingKey: SigningKey;
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

export function createKeyRing(config: KeyRingConfig): KeyRing {
  const fetchKeys = createKeyFetcher(config);
  const patience = createKeyPatience(config.clock);
  const own: VerifyKey = {
    serverName: config.serverName,
    keyId: config.signingKey.keyId,
    publicKey: config.signingKey.publicKey,
    validUntilTs: Number.MAX_SAFE_INTEGER,
  };
  const cache = new LRUCache<string, KnownKey>({ max: CACHED_KEYS_MAX });
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
    // In one turn with the cache: whoever comes later finds the key there, or starts a search of his own.
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
        const isFound = want.stored !== undefined && isEnough(want.stored, want.request);
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
        patience.note(request, key !== undefined && isEnough(key, request));
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
        isStronger && key !== undefined && !isEnough(key, request) ? want(request) : key,
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
        if (request.serverName === own.serverName) {
          if (request.keyId === own.keyId) known.set(nameOf(own), own);
          continue;
        }
        const key = cache.get(nameOf(request));
        if (key === undefined || !isEnough(key, request)) missing.push(request);
        else known.set(nameOf(key), key);
      }
      const found = missing.length === 0 ? [] : await orAborted(Promise.all(missing.map(want)), signal);
      for (const key of found) if (key !== undefined) known.set(nameOf(key), key);
      return [...known.values()];
    },
  };
}

/** Whether nothing better is to be had by asking: valid at the time wanted, or known to have ended before it. */
function isEnough(key: KnownKey, request: KeyRequest): boolean {
  return key.expired || key.validUntilTs >= request.validAtTs;
}

/** A stored public key is not replaced by another under its name; the later end of its validity counts. */
function better(stored: KnownKey | undefined, fetched: KnownKey | undefined): KnownKey | undefined {
  if (stored === undefined || fetched === undefined) return stored ?? fetched;
  if (stored.publicKey !== fetched.publicKey || stored.expired) return stored;
  return fetched.expired || fetched.validUntilTs > stored.validUntilTs ? fetched : stored;
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
