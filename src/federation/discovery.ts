/**
 * Where a server name is to be found: what the operator has written down, else the steps of the spec in their order, with
 * delegations and failures cached.
 *
 * 1. An address literal: itself, port 8448 unless given. 2. A name with a port: that. 3. A name that delegates through
 * `.well-known`: the delegated name, by steps 3.1 to 3.5, which are steps 1, 2, 4, 5 and 6 for that name. 4. An SRV record
 * `_matrix-fed._tcp`. 5. The older `_matrix._tcp`. 6. Port 8448; 5 and 6 only where no record was found. The Host header, and with it the name the certificate
 * must have, is the name before SRV: never the target of a record, which anybody may publish.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#resolving-server-names
 */
import { isIP } from 'node:net';
import { LRUCache } from 'lru-cache';
import { type Clock } from '../clock.ts';
import { type ServerName } from '../matrix/identifiers.ts';
import { orAborted } from './deadline.ts';
import { type StaticAddresses } from './static-addresses.ts';
import { type WellKnownAnswer } from './well-known.ts';

const DEFAULT_PORT = 8448;
/** Server names remembered; one takes a few hundred bytes. */
const CACHED_NAMES_MAX = 20_000;
/** Node does not tell the lifetime of an SRV record; this is a usual one. */
const SRV_LIFETIME_MS = 300_000;
/** Records of one name that are tried. */
const SRV_TARGETS_MAX = 8;
/** The pause after a first failed `.well-known`; it doubles up to the hour that the spec allows. */
const FAILURE_LIFETIME_MS = 120_000;
const FAILURE_LIFETIME_MS_MAX = 3_600_000;
/** How long a delegation may be used while it can't be fetched again: the spec's longest lifetime. */
const STALE_LIFETIME_MS_MAX = 48 * 3_600_000;

export interface SrvRecord {
  readonly name: string;
  readonly port: number;
  readonly priority: number;
  readonly weight: number;
}

/** The SRV records of a DNS name; rejects when there are none or the lookup fails. */
export type ResolveSrv = (name: string) => Promise<readonly SrvRecord[]>;

export interface Target {
  /** A host name, or an address literal with brackets where IPv6 needs them. */
  readonly hostname: string;
  readonly port: number;
}

export interface Destination {
  /** The Host header; without its port, the name that the certificate is verified for. */
  readonly host: string;
  /** Where to connect, best first; none where its records say that it does not offer the service. */
  readonly targets: readonly Target[];
}

export interface Discovery {
  /** Never fails but for an aborted signal: a name without records is tried at port 8448. */
  resolve(serverName: ServerName, signal: AbortSignal): Promise<Destination>;
}

export interface DiscoveryDependencies {
  readonly fetchWellKnown: (hostname: string) => Promise<WellKnownAnswer>;
  readonly resolveSrv: ResolveSrv;
  /** Come before every step but the first two, for a name as for the one it delegates to. */
  readonly staticAddresses: StaticAddresses;
  readonly clock: Clock;
  /** In [0, 1): spreads load over SRV records of equal priority by weight. */
  readonly random: () => number;
}

interface Delegation {
  /** `undefined`: no delegation. */
  readonly to: ServerName | undefined;
  readonly fetchedAt: number;
  readonly expiresAt: number;
  readonly failures: number;
}

interface Records {
  readonly targets: readonly Target[];
  readonly expiresAt: number;
}

/** Discovery with its cache, which lives as long as the process. */
export function createDiscovery(dependencies: DiscoveryDependencies): Discovery {
  const { clock, staticAddresses } = dependencies;
  const delegations = new LRUCache<string, Delegation>({ max: CACHED_NAMES_MAX });
  const records = new LRUCache<string, Records>({ max: CACHED_NAMES_MAX });
  const fetching = new Map<string, Promise<Delegation>>();

  const delegationOf = async (hostname: string): Promise<Delegation> => {
    const known = delegations.get(hostname);
    if (known !== undefined && known.expiresAt > clock.now()) return known;
    const running = fetching.get(hostname);
    if (running !== undefined) return running;
    const fetch = dependencies
      .fetchWellKnown(hostname)
      .then((answer) => nextDelegation(known, answer, clock.now()))
      .then((delegation) => {
        delegations.set(hostname, delegation);
        return delegation;
      })
      .finally(() => fetching.delete(hostname));
    fetching.set(hostname, fetch);
    return fetch;
  };

  const targetsByRecords = async (hostname: string): Promise<readonly Target[]> => {
    const known = records.get(hostname);
    if (known !== undefined && known.expiresAt > clock.now()) return known.targets;
    let targets: Target[] = [{ hostname, port: DEFAULT_PORT }];
    for (const service of ['_matrix-fed._tcp', '_matrix._tcp']) {
      // No record, no such name, or no answer: the spec's next step.
      const list = await dependencies.resolveSrv(`${service}.${hostname}`).catch(() => []);
      const found = orderRecords(list, dependencies.random);
      if (found.length === 0 && !saysNotAvailable(list)) continue;
      targets = found;
      break;
    }
    records.set(hostname, { targets, expiresAt: clock.now() + SRV_LIFETIME_MS });
    return targets;
  };

  /** The name itself: the address is given at the look-up, so that the name is what is verified and pooled by. */
  const writtenTarget = (hostname: string): Target | undefined => {
    const place = staticAddresses.find(hostname);
    return place && { hostname, port: place.port };
  };

  const resolveName = async (serverName: ServerName): Promise<Destination> => {
    const explicit = explicitTarget(serverName);
    if (explicit !== undefined) return { host: serverName, targets: [explicit] };
    const written = writtenTarget(serverName);
    if (written !== undefined) return { host: serverName, targets: [written] };
    const { to } = await delegationOf(serverName);
    if (to === undefined) return { host: serverName, targets: await targetsByRecords(serverName) };
    const delegated = explicitTarget(to) ?? writtenTarget(to);
    return { host: to, targets: delegated === undefined ? await targetsByRecords(to) : [delegated] };
  };

  return { resolve: (serverName, signal) => orAborted(resolveName(serverName), signal) };
}

/** Steps 1 and 2: the target of a literal or of a name with a port; `undefined` when there is more to look up. */
function explicitTarget(serverName: string): Target | undefined {
  const match = /^(\[[^\]]*\]|[^:]*)(?::(\d+))?$/.exec(serverName);
  const hostname = match?.[1] ?? serverName;
  const port = match?.[2];
  const isLiteral = hostname.startsWith('[') || isIP(hostname) !== 0;
  if (!isLiteral && port === undefined) return undefined;
  return { hostname, port: port === undefined ? DEFAULT_PORT : Number(port) };
}

/** What to remember after a fetch: an answer for its lifetime, a failure for a growing pause, with the last answer kept meanwhile. */
function nextDelegation(known: Delegation | undefined, answer: WellKnownAnswer, now: number): Delegation {
  if (answer.outcome !== 'failed') {
    return {
      to: answer.outcome === 'delegated' ? answer.to : undefined,
      fetchedAt: now,
      expiresAt: now + answer.lifetimeMs,
      failures: 0,
    };
  }
  const failures = (known?.failures ?? 0) + 1;
  const pauseMs = Math.min(FAILURE_LIFETIME_MS * 2 ** Math.min(failures - 1, 10), FAILURE_LIFETIME_MS_MAX);
  const keep = known?.to !== undefined && now - known.fetchedAt < STALE_LIFETIME_MS_MAX ? known : undefined;
  return { to: keep?.to, fetchedAt: keep?.fetchedAt ?? now, expiresAt: now + pauseMs, failures };
}

/** RFC 2782: the single target `.` says that the service is decidedly not available; there is nothing further to try. */
function saysNotAvailable(list: readonly SrvRecord[]): boolean {
  const [only, ...others] = list;
  return only !== undefined && others.length === 0 && isRoot(only);
}

/** The root of DNS, which is no host. */
function isRoot({ name }: SrvRecord): boolean {
  return name === '' || name === '.';
}

/** RFC 2782: by priority, then at random by weight. */
function orderRecords(list: readonly SrvRecord[], random: () => number): Target[] {
  const usable = list.filter((record) => !isRoot(record) && record.port > 0 && record.port < 65_536);
  return usable
    .map((record) => ({ record, rank: -Math.log(1 - random()) / Math.max(record.weight, 0.01) }))
    .sort((a, b) => a.record.priority - b.record.priority || a.rank - b.rank)
    .slice(0, SRV_TARGETS_MAX)
    .map(({ record }) => ({ hostname: record.name.replace(/\.$/, ''), port: record.port }));
}
