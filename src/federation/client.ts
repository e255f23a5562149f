/**
 * The federation client: every request that Rejoinder makes of another homeserver, put together. Builds the requests,
 * reads the answers into typed results, and throws `FederationError` for all else. What is about events and memberships has
 * a file each.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/
 */
import { Resolver } from 'node:dns/promises';
import { type Clock } from '../clock.ts';
import { type Logger } from '../logging.ts';
import { type ServerName, parseRoomId, parseServerName } from '../matrix/identifiers.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { type SigningKey } from '../matrix/signing/signing-key.ts';
import { isJsonObject, parseJsonObject } from '../matrix/json/strict-json.ts';
import { type AddressRulesConfig, createAddressRules } from './addresses.ts';
import { type Lookup, createAgent, lookupBySystem } from './connect.ts';
import { type FederationClient } from './contract.ts';
import { type ResolveSrv, createDiscovery } from './discovery.ts';
import { deviceRequests } from './device-requests.ts';
import { eventRequests } from './event-requests.ts';
import { askIdentityServer } from './identity-server.ts';
import { membershipRequests } from './membership-requests.ts';
import { readSmall, readString } from './small-values.ts';
import {
  type FederationLimits,
  type FederationTimeouts,
  SMALL_ANSWER_BYTES_MAX,
  createRequests,
  malformed,
  path,
} from './requests.ts';
import { type StaticAddress, createStaticAddresses, lookupWithStatic } from './static-addresses.ts';
import { createTransport } from './transport.ts';
import { fetchWellKnown } from './well-known.ts';

export { type FederationClient } from './contract.ts';
export { type FederationTimeouts } from './requests.ts';

/** Servers of an alias that are worth trying. */
const DIRECTORY_SERVERS_MAX = 1000;
/** A space with some hundred rooms; whoever waits for this thread waits while it is read. */
const HIERARCHY_BYTES_MAX = 512 * 1024;
/** Of one answer: more than are asked for. */
const PUBLIC_ROOMS_MAX = 500;
/** An SRV lookup: two tries of this long, milliseconds. */
const SRV_TIMEOUT_MS = 3000;

export interface FederationClientConfig {
  readonly serverName: ServerName;
  readonly signingKey: SigningKey;
  readonly addresses: AddressRulesConfig;
  /** PEM certificates of authorities trusted beside the well-known ones. */
  readonly customCa?: string | undefined;
  readonly timeouts: FederationTimeouts;
  readonly limits: FederationLimits;
  readonly clock: Clock;
  /** In [0, 1). */
  readonly random: () => number;
  readonly userAgent: string;
  readonly logger: Logger;
  /** By host name or `*.suffix`; none by default. */
  readonly staticAddresses?: ReadonlyMap<string, StaticAddress>;
  /** Name resolution; the system's by default. */
  readonly lookup?: Lookup;
  readonly resolveSrv?: ResolveSrv;
}

/** The client of one process; its requests fail with a `FederationError` and nothing else, but for an aborted signal. */
export function createFederationClient(config: FederationClientConfig): FederationClient {
  const { clock, limits, timeouts, userAgent, logger } = config;
  const staticAddresses = createStaticAddresses(config.staticAddresses ?? new Map());
  const agent = createAgent({
    addresses: createAddressRules(config.addresses),
    lookup: lookupWithStatic(staticAddresses, config.lookup ?? lookupBySystem),
    connectTimeoutMs: timeouts.connectMs,
    customCa: config.customCa,
  });
  const discovery = createDiscovery({
    fetchWellKnown: (hostname) => fetchWellKnown(agent, hostname, userAgent, clock.now()),
    resolveSrv: config.resolveSrv ?? resolveSrvBySystem(),
    staticAddresses,
    clock,
    random: config.random,
  });
  const transport = createTransport({
    serverName: config.serverName,
    signingKey: config.signingKey,
    agent,
    discovery,
    clock,
    userAgent,
    idleMs: timeouts.idleMs,
    onAnswered: ({ destination, method, uri }, status, tookMs) =>
      logger.debug({ destination, method, uri, status, tookMs }, 'federation request'),
  });

  const requests = createRequests({ transport, timeouts, limits, clock });

  return {
    async queryDirectory(destination, alias, options) {
      const uri = path`/_matrix/federation/v1/query/directory` + `?room_alias=${encodeURIComponent(alias)}`;
      // Of a big room these are thousands: they are read name by name.
      const body = { arrays: ['servers'], members: 'strings', bytesMax: limits.responseBytesMax } as const;
      const answer = await requests.events(destination, { uri }, options, body);
      const servers = new Set<ServerName>();
      for await (const { events } of answer) {
        for (const text of events) {
          const server = parseServerName(readString(text));
          if (server !== undefined && servers.size < DIRECTORY_SERVERS_MAX) servers.add(server);
        }
      }
      const { rest, events } = answer.summary();
      const roomId = parseRoomId(readSmall(rest.get('room_id') ?? new Uint8Array()));
      if (roomId === undefined) throw malformed(destination, 'room_id is not a room id');
      if (events['servers'] === undefined) throw malformed(destination, 'servers is not a list');
      return { roomId, servers: [...servers] };
    },

    queryProfile: (destination, userId, options) => {
      const uri = path`/_matrix/federation/v1/query/profile` + `?user_id=${encodeURIComponent(userId)}`;
      return requests.json(destination, { uri }, options);
    },

    hierarchy: (destination, roomId, suggestedOnly, options) => {
      const uri = path`/_matrix/federation/v1/hierarchy/${roomId}` + `?suggested_only=${suggestedOnly}`;
      return requests.json(destination, { uri }, { ...options, bytesMax: HIERARCHY_BYTES_MAX });
    },

    async publicRooms(destination, content, options) {
      const ask = { method: 'POST', uri: '/_matrix/federation/v1/publicRooms', content } as const;
      const body = { arrays: ['chunk'] as const, bytesMax: limits.responseBytesMax };
      const answer = await requests.events(destination, ask, options, body);
      const chunk: JsonObject[] = [];
      for await (const { events } of answer) {
        for (const event of events) {
          const parsed = event.length > SMALL_ANSWER_BYTES_MAX ? undefined : parseJsonObject(event);
          if (parsed?.ok === true && chunk.length < PUBLIC_ROOMS_MAX) chunk.push(parsed.value);
        }
      }
      const { rest, events } = answer.summary();
      if (events['chunk'] === undefined) throw malformed(destination, 'chunk is not a list');
      const told = ['next_batch', 'prev_batch', 'total_room_count_estimate'].flatMap((name) => {
        const value = readSmall(rest.get(name) ?? new Uint8Array());
        return typeof value === 'string' || typeof value === 'number' ? [[name, value] as const] : [];
      });
      return { chunk, ...Object.fromEntries(told) };
    },

    askIdentityServer: (ask, options) => askIdentityServer({ agent, userAgent, clock, timeouts }, ask, options),

    ...membershipRequests(requests),
    ...eventRequests(requests),
    ...deviceRequests(requests),

    // What it thinks of each event changes nothing: it has the transaction.
    sendTransaction: (destination, txnId, content, options) =>
      requests.done(destination, { method: 'PUT', uri: path`/_matrix/federation/v1/send/${txnId}`, content }, options),

    serverKeys: (destination, options) =>
      requests.json(destination, { uri: '/_matrix/key/v2/server', isSigned: false }, options),

    async notaryQuery(notary, keys, options) {
      const wanted: Record<string, Record<string, JsonObject>> = {};
      for (const { serverName, keyId, minimumValidUntilTs } of keys) {
        const criteria = (wanted[serverName] ??= {});
        if (keyId !== undefined) criteria[keyId] = { minimum_valid_until_ts: minimumValidUntilTs };
      }
      const what = { method: 'POST', uri: '/_matrix/key/v2/query', content: { server_keys: wanted } } as const;
      // Each is a stranger's, and one that cannot be read must not cost the others.
      const body = { arrays: ['server_keys'] as const, bytesMax: limits.responseBytesMax };
      const answer = await requests.events(notary, what, options, body);
      const found: JsonObject[] = [];
      for await (const { events } of answer) {
        for (const event of events) {
          const parsed = event.length > SMALL_ANSWER_BYTES_MAX ? undefined : parseJsonObject(event);
          if (parsed?.ok === true) found.push(parsed.value);
        }
      }
      if (answer.summary().events['server_keys'] === undefined) throw malformed(notary, 'server_keys is not there');
      return found;
    },

    async version(destination, options) {
      const answer = await requests.json(
        destination,
        { uri: '/_matrix/federation/v1/version', isSigned: false },
        options,
      );
      const server = isJsonObject(answer['server']) ? answer['server'] : {};
      const { name, version } = server;
      return { name: typeof name === 'string' ? name : '', version: typeof version === 'string' ? version : '' };
    },

    close: () => agent.destroy(),
  };
}

/** SRV records by DNS; Node's own resolver gives up after far longer than a join should wait. */
function resolveSrvBySystem(): ResolveSrv {
  const resolver = new Resolver({ timeout: SRV_TIMEOUT_MS, tries: 2 });
  return (name) => resolver.resolveSrv(name);
}
