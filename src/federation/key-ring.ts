/**
 * Finds the keys of other servers: in memory, in the store, then at the trusted notaries many servers a request, then at
 * the servers themselves, some at a time. A join of a room with 1,300 servers costs a handful of requests where a notary
 * is configured. Callers that want the same key share one search for it (strangers among themselves), from the look into
 * the store to the answer, so that none of them asks for what another has just found; servers that could not give a key
 * are left alone for a growing while.
 */
import { setImmediate as immediate } from 'node:timers/promises';
import { LRUCache } from 'lru-cache';
import { type Clock } from '../clock.ts';
import { type Logger } from '../logging.ts';
import { type RoomId, type ServerName } from '../matrix/identifiers.ts';
import { type SigningKey } from '../matrix/signing/signing-key.ts';
import {
  type KeyAsker,
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
import { type KeyPlace, type KeyStanding, createKeyLanes, isOfStrangers } from './key-lanes.ts';
import { createKeyPatience } from './key-patience.ts';

/** Keys that are collected into one batch for the notaries; what is wanted meanwhile goes into the next. */
const BATCH_KEYS_MAX = 1000;
/** Servers remembered for having given a key since we started. */
const ANSWERED_MAX = 20_000;
/**
 * Who sends a request in the name of a server, and is not verified yet, has the places of servers that gave a key only while it
 * gave one so lately: big rooms are full of names that fell silent long ago. Keys of live servers are had anew within a week.
 */
const ALIVE_MS = 7 * 86_400_000;
/** Keys kept in memory: a few hundred bytes each, and a big room has some thousands. */
const CACHED_KEYS_MAX = 20_000;
/** After this a key is read from the store again: another process may have had a later answer about it. */
const CACHED_MS_MAX = 3_600_000;

/** Whose keys are wanted for no room: those of a test, and of whatever is ours. */
const NO_ROOM = '' as RoomId;

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
  /** Of servers that send requests, those that are in a room of ours and may speak there; absent: all. */
  readonly readWelcome?: (serverNames: readonly ServerName[]) => Promise<ReadonlySet<ServerName>>;
  /** Asked in this order. */
  readonly trustedKeyServers: readonly TrustedKeyServer[];
  readonly clock: Clock;
  readonly logger: Logger;
}

interface Want {
  readonly request: KeyRequest;
  readonly asker: KeyAsker;
  /** What the store has of it, though it may not be valid long enough. */
  stored: KnownKey | undefined;
  /** Where it is looked for; whoever wants it too has it from there. */
  place: KeyPlace | undefined;
  readonly done: Promise<KnownKey | undefined>;
  readonly settle: (key: KnownKey | undefined) => void;
  readonly fail: (error: unknown) => void;
}

/** The key ring of one process: its memory over the store over the network. */
export function createKeyRing(config: KeyRingConfig): KeyRing {
  const fetchKeys = createKeyFetcher(config);
  const { clock } = config;
  /** What strangers asked for in vain is no ground to leave a server alone that we ask for ourselves. */
  const patience = { strange: createKeyPatience(clock), ours: createKeyPatience(clock) };
  const patienceOf = ({ asker }: Want) => (isOfStrangers(asker) ? patience.strange : patience.ours);
  const own = ownKeys(config);
  const cache = new LRUCache<string, KnownKey>({ max: CACHED_KEYS_MAX, ttl: CACHED_MS_MAX, perf: clock });
  /** Everything wanted and not settled yet, by name. */
  const wants = new Map<string, Want>();
  /** Of these: to be looked up in the store, and to be asked for, by batch. */
  let unread: Want[] = [];
  const waiting = new Map<string, Want[]>();
  /** Batches that have no turn in view yet. */
  const begun: (() => void)[] = [];
  const lanes = createKeyLanes(clock);
  const answered = new LRUCache<ServerName, true>({ max: ANSWERED_MAX, ttl: ALIVE_MS, perf: clock });
  /** What was had and is not stored yet, and what was looked for. */
  let had: KnownKey[] = [];
  let ended: { readonly want: Want; readonly key: KnownKey | undefined }[] = [];
  let isStoring = false;

  /** `key`: what the search over the network gave, if there was one. */
  const settle = (want: Want, key: KnownKey | undefined): void => {
    const name = nameOf(want.request);
    const best = better(better(cache.get(name), want.stored), key);
    if (best !== undefined) cache.set(name, best);
    // Removed in the tick that fills the cache: a later caller finds the key or starts a new search.
    forget(want);
    want.settle(best);
  };
  const forget = (want: Want): void => {
    wants.delete(searchNameOf(want.request, want.asker));
    if (want.place !== undefined) lanes.leave(want.place);
  };
  const fail = (failed: readonly Want[], error: unknown): void => {
    for (const want of failed) {
      forget(want);
      want.fail(error);
    }
  };

  const readStore = async (): Promise<void> => {
    const wanted = unread;
    unread = [];
    /** Of these, what is not settled. */
    let left = wanted;
    try {
      const stored = await config.keyStore.readKeys(wanted.map(({ request }) => request));
      const byName = new Map(stored.map((key) => [nameOf(key), key]));
      const absent: Want[] = [];
      for (const want of wanted) {
        want.stored = byName.get(nameOf(want.request));
        const isFound = want.stored !== undefined && isEnough(want.stored, want.request, clock.now());
        if (isFound || !patienceOf(want).mayAsk(want.request)) settle(want, undefined);
        else absent.push(want);
      }
      left = absent;
      const unheard = absent.filter((want) => want.asker === 'request' && !gaveAKey(want));
      const names = [...new Set(unheard.map(({ request }) => request.serverName))];
      const welcome = names.length === 0 ? undefined : await config.readWelcome?.(names);
      for (const want of absent) {
        const isUnknown = welcome?.has(want.request.serverName) === false;
        lineUp(want, gaveAKey(want) ? 'gave-a-key' : isUnknown ? 'unknown' : 'any');
      }
    } catch (error) {
      fail(left, error);
    }
    for (const start of begun.splice(0)) start();
  };

  const gaveAKey = ({ stored, request, asker }: Want): boolean => {
    if (answered.has(request.serverName)) return true;
    return stored !== undefined && (asker !== 'request' || clock.now() - stored.fetchedAt < ALIVE_MS);
  };

  const lineUp = (want: Want, standing: KeyStanding): void => {
    const place = lanes.placeOf(want.request.serverName, want.asker, standing);
    want.place = place;
    if (place === undefined) {
      settle(want, undefined);
      return;
    }
    const { lane, batch } = place;
    const name = `${lane.name} ${batch}`;
    const others = waiting.get(name);
    if (others !== undefined) {
      others.push(want);
      return;
    }
    waiting.set(name, [want]);
    begun.push(() => lane.batches.run(batch, () => search(name, place)));
  };

  /** Asks for what is in a batch when its turn has come, and for what is too much in another turn. */
  const search = async (name: string, place: KeyPlace): Promise<void> => {
    const { lane } = place;
    const batch = waiting.get(name) ?? [];
    const rest = batch.splice(BATCH_KEYS_MAX);
    waiting.delete(name);
    const byRequest = new Map(batch.map((want) => [want.request, want]));
    const groups = new Map(batch.map(({ request, place: own }) => [request.serverName, own?.group ?? place.group]));
    const asked = fetchKeys({
      batch: name,
      requests: batch.map(({ request }) => request),
      ...(lane.patienceMs === undefined ? {} : { patienceMs: lane.patienceMs }),
      whenItsTurn: (serverName, ask) => lane.servers.run(groups.get(serverName) ?? place.group, ask),
      had: (keys) => {
        had.push(...keys);
        for (const { serverName } of keys) answered.set(serverName, true);
      },
      done: (request, key) => {
        const want = byRequest.get(request);
        if (want !== undefined) ended.push({ want, key });
        void store();
      },
    });
    if (rest.length > 0) {
      waiting.set(name, rest);
      lane.batches.run(place.batch, () => search(name, place));
    }
    await asked;
  };

  /** Each key counts once it is stored; what comes while that is done is stored together. */
  const store = async (): Promise<void> => {
    if (isStoring) return;
    isStoring = true;
    await immediate();
    while (ended.length > 0) {
      const [keys, batch] = [had, ended];
      had = [];
      ended = [];
      try {
        if (keys.length > 0) await config.keyStore.storeKeys(keys);
        for (const { want, key } of batch) {
          // In the tick that fills the cache: who looked into the store a moment before is not told that the key was asked for in vain.
          patienceOf(want).note(want.request, key !== undefined && isEnough(key, want.request, clock.now()));
          settle(want, key);
        }
      } catch (error) {
        const failed = batch.map(({ want }) => want);
        fail(failed, error);
      }
    }
    isStoring = false;
  };

  const want = (request: KeyRequest, asker: KeyAsker): Promise<KnownKey | undefined> => {
    const running = wants.get(searchNameOf(request, asker));
    if (running !== undefined) {
      // What is on its way is nearly always valid for later events too.
      const isStronger = running.request.validAtTs < request.validAtTs;
      return running.done.then((key) =>
        isStronger && key !== undefined && !isEnough(key, request, clock.now()) ? want(request, asker) : key,
      );
    }
    const made = makeWant(request, asker);
    wants.set(searchNameOf(request, asker), made);
    // Callers of the same turn of the event loop are looked up together.
    if (unread.length === 0) setImmediate(() => void readStore());
    unread.push(made);
    return made.done;
  };

  return {
    resolve: async (requests, signal, asker = NO_ROOM) => {
      signal.throwIfAborted();
      const known = new Map<string, VerifyKey>();
      const missing: KeyRequest[] = [];
      for (const request of strongestRequests(requests)) {
        const key = own.get(nameOf(request)) ?? cache.get(nameOf(request));
        if (key === undefined || !isEnough(key, request, clock.now())) missing.push(request);
        else known.set(nameOf(key), verifyKeyOf(key, clock.now()));
      }
      const searches = missing.map((request) => want(request, asker));
      const found = searches.length === 0 ? [] : await orAborted(Promise.all(searches), signal);
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

/** Nothing of ours waits for a search of strangers, who have few places. */
function searchNameOf(request: KeyRequest, asker: KeyAsker): string {
  return isOfStrangers(asker) ? `strange ${nameOf(request)}` : nameOf(request);
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

function makeWant(request: KeyRequest, asker: KeyAsker): Want {
  let settle: Want['settle'] = () => undefined;
  let fail: Want['fail'] = () => undefined;
  const done = new Promise<KnownKey | undefined>((resolve, reject) => {
    settle = resolve;
    fail = reject;
  });
  // Everybody who waits may have gone away; then nobody hears of a failure of the store, and nobody needs to.
  done.catch(() => undefined);
  return { request, asker, stored: undefined, place: undefined, done, settle, fail };
}
