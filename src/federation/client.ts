/**
 * The federation client: every request that Rejoinder makes of another homeserver. Builds the requests, reads the
 * answers into typed results, and throws `FederationError` for all else.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/
 */
import { Resolver } from 'node:dns/promises';
import { type Clock } from '../clock.ts';
import { type Logger } from '../logging.ts';
import { type EventId, type ServerName, parseEventId, parseRoomId, parseServerName } from '../matrix/identifiers.ts';
import { type Json, type JsonObject } from '../matrix/pdu.ts';
import { type SigningKey } from '../matrix/signing/signing-key.ts';
import { isJsonObject, parseJson } from '../matrix/json/strict-json.ts';
import { type AddressRulesConfig, createAddressRules } from './addresses.ts';
import { type Lookup, createAgent, lookupBySystem } from './connect.ts';
import {
  type EventStream,
  type FederationClient,
  type MakeJoinAnswer,
  type RequestOptions,
  type SendJoinHeader,
  type StreamSummary,
} from './contract.ts';
import { type ResolveSrv, createDiscovery } from './discovery.ts';
import { FederationError } from './error.ts';
import { createEventStream } from './event-stream.ts';
import { type StaticAddress, createStaticAddresses, lookupWithStatic } from './static-addresses.ts';
import { type FederationRequest, type OpenAnswer, createTransport, readJson } from './transport.ts';
import { fetchWellKnown } from './well-known.ts';

export { type FederationClient } from './contract.ts';

/** `/state_ids` of a million members with their auth chain is about 100 MB of ids. */
const STATE_IDS_BYTES_MAX = 128 * 1024 * 1024;
/** Servers of an alias that are worth trying. */
const DIRECTORY_SERVERS_MAX = 1000;
/** An SRV lookup: two tries of this long, milliseconds. */
const SRV_TIMEOUT_MS = 3000;

export interface FederationTimeouts {
  /** TCP and TLS, milliseconds. */
  readonly connectMs: number;
  /** Small answers, from first to last. */
  readonly requestMs: number;
  /** A send_join with its whole answer, and our own work on it. */
  readonly joinMs: number;
  /** A `/state` or `/state_ids` with its whole answer, and our own work on it. */
  readonly stateMs: number;
  /** Without a byte of a body for so long, the answer is given up. */
  readonly idleMs: number;
}

export interface FederationLimits {
  /** Of a small answer. */
  readonly responseBytesMax: number;
  /** Of a streamed answer. */
  readonly stateBytesMax: number;
}

export interface FederationClientConfig {
  readonly serverName: ServerName;
  readonly signingKey: SigningKey;
  readonly addresses: AddressRulesConfig;
  /** PEM certificates of authorities trusted beside the well-known ones. */
  readonly customCa?: string;
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

export function createFederationClient(config: FederationClientConfig): FederationClient {
  const { clock, limits, timeouts, userAgent, logger } = config;
  const staticAddresses = createStaticAddresses(config.staticAddresses ?? new Map());
  const agent = createAgent({
    addresses: createAddressRules(config.addresses),
    lookup: lookupWithStatic(staticAddresses, config.lookup ?? lookupBySystem),
    connectTimeoutMs: timeouts.connectMs,
    ...(config.customCa === undefined ? {} : { customCa: config.customCa }),
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

  type Ask = Omit<FederationRequest, 'destination' | 'isSigned' | 'timeoutMs' | 'signal' | 'method'> & {
    readonly method?: FederationRequest['method'];
    readonly isSigned?: boolean;
    readonly timeoutMs?: number;
  };
  const send = (destination: ServerName, ask: Ask, { signal }: RequestOptions): Promise<OpenAnswer> =>
    transport.send({ method: 'GET', isSigned: true, timeoutMs: timeouts.requestMs, ...ask, destination, signal });
  const ask = async (
    destination: ServerName,
    what: Ask,
    options: RequestOptions,
    bytesMax = limits.responseBytesMax,
  ): Promise<JsonObject> => readJson(destination, await send(destination, what, options), bytesMax);
  const stream = <Name extends string>(
    answer: OpenAnswer,
    arrays: readonly Name[],
    bytesMax: number,
  ): EventStream<Name> => createEventStream({ ...answer, arrays, bytesMax, clock });

  return {
    async queryDirectory(destination, alias, options) {
      const uri = path`/_matrix/federation/v1/query/directory` + `?room_alias=${encodeURIComponent(alias)}`;
      const answer = await ask(destination, { uri }, options);
      const roomId = parseRoomId(answer['room_id']);
      if (roomId === undefined) throw malformed(destination, 'room_id is not a room id');
      return { roomId, servers: readServers(destination, answer['servers']) };
    },

    async makeJoin(destination, roomId, userId, versions, options) {
      const offered = versions.map((version) => `ver=${encodeURIComponent(version)}`).join('&');
      const uri = path`/_matrix/federation/v1/make_join/${roomId}/${userId}` + `?${offered}`;
      return readTemplate(destination, await ask(destination, { uri }, options));
    },

    async sendJoin(destination, roomId, eventId, event, options) {
      const uri = path`/_matrix/federation/v2/send_join/${roomId}/${eventId}` + `?omit_members=${options.omitMembers}`;
      const what = { method: 'PUT', uri, content: event, timeoutMs: timeouts.joinMs } as const;
      const answer = stream(await send(destination, what, options), ['state', 'auth_chain'], limits.stateBytesMax);
      return {
        [Symbol.asyncIterator]: () => answer[Symbol.asyncIterator](),
        summary: () => answer.summary(),
        header: () => readSendJoinHeader(destination, answer.summary()),
      };
    },

    async stateIds(destination, roomId, eventId, options) {
      const uri = path`/_matrix/federation/v1/state_ids/${roomId}` + `?event_id=${encodeURIComponent(eventId)}`;
      const answer = await ask(destination, { uri, timeoutMs: timeouts.stateMs }, options, STATE_IDS_BYTES_MAX);
      return {
        stateIds: readEventIds(destination, 'pdu_ids', answer['pdu_ids']),
        authChainIds: readEventIds(destination, 'auth_chain_ids', answer['auth_chain_ids']),
      };
    },

    async state(destination, roomId, eventId, options) {
      const uri = path`/_matrix/federation/v1/state/${roomId}` + `?event_id=${encodeURIComponent(eventId)}`;
      const answer = await send(destination, { uri, timeoutMs: timeouts.stateMs }, options);
      return stream(answer, ['pdus', 'auth_chain'], limits.stateBytesMax);
    },

    async event(destination, eventId, options) {
      const answer = await send(destination, { uri: path`/_matrix/federation/v1/event/${eventId}` }, options);
      const [event, ...more] = await collect(stream(answer, ['pdus'], limits.responseBytesMax), 2);
      if (event === undefined || more.length > 0) throw malformed(destination, 'pdus does not hold exactly one event');
      return event;
    },

    async getMissingEvents(destination, roomId, query, options) {
      const content = {
        earliest_events: query.earliestEvents,
        latest_events: query.latestEvents,
        limit: query.limit,
        min_depth: query.minDepth,
      };
      const uri = path`/_matrix/federation/v1/get_missing_events/${roomId}`;
      const answer = await send(destination, { method: 'POST', uri, content }, options);
      return collect(stream(answer, ['events'], limits.responseBytesMax), query.limit);
    },

    serverKeys: (destination, options) => ask(destination, { uri: '/_matrix/key/v2/server', isSigned: false }, options),

    async notaryQuery(notary, requests, options) {
      const wanted: Record<string, Record<string, JsonObject>> = {};
      for (const { serverName, keyId, minimumValidUntilTs } of requests) {
        const criteria = (wanted[serverName] ??= {});
        if (keyId !== undefined) criteria[keyId] = { minimum_valid_until_ts: minimumValidUntilTs };
      }
      const what = { method: 'POST', uri: '/_matrix/key/v2/query', content: { server_keys: wanted } } as const;
      const answer = await ask(notary, what, options);
      const keys = answer['server_keys'];
      if (!Array.isArray(keys)) throw malformed(notary, 'server_keys is not a list');
      return (keys as readonly Json[]).filter(isJsonObject);
    },

    async version(destination, options) {
      const answer = await ask(destination, { uri: '/_matrix/federation/v1/version', isSigned: false }, options);
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

function malformed(serverName: ServerName, reason: string): FederationError {
  return new FederationError(serverName, 'malformed', reason);
}

/** A path whose parts are percent-encoded; `!`, `'`, `(`, `)` and `*` may stand in a path as they are. */
function path(parts: TemplateStringsArray, ...values: readonly string[]): string {
  return parts.reduce((whole, part, i) => `${whole}${encodeURIComponent(values[i - 1] ?? '')}${part}`);
}

function readServers(destination: ServerName, value: Json | undefined): ServerName[] {
  if (!Array.isArray(value)) throw malformed(destination, 'servers is not a list');
  const servers = new Set((value as readonly Json[]).map(parseServerName));
  return [...servers].filter((server) => server !== undefined).slice(0, DIRECTORY_SERVERS_MAX);
}

function readTemplate(destination: ServerName, answer: JsonObject): MakeJoinAnswer {
  // Absent means version 1, from before rooms had versions.
  const roomVersion = answer['room_version'] ?? '1';
  const event = answer['event'];
  if (typeof roomVersion !== 'string') throw malformed(destination, 'room_version is not a string');
  if (!isJsonObject(event)) throw malformed(destination, 'event is not an object');
  return { roomVersion, event };
}

function readEventIds(destination: ServerName, name: string, value: Json | undefined): EventId[] {
  if (!Array.isArray(value)) throw malformed(destination, `${name} is not a list`);
  const ids = new Set<EventId>();
  for (const text of value as readonly Json[]) {
    const id = parseEventId(text);
    if (id === undefined) throw malformed(destination, `${name} holds what is no event id`);
    ids.add(id);
  }
  return [...ids];
}

function readSendJoinHeader(destination: ServerName, { rest }: StreamSummary): SendJoinHeader {
  const read = (name: string): Json | undefined => {
    const bytes = rest.get(name);
    if (bytes === undefined) return undefined;
    const parsed = parseJson(bytes);
    if (!parsed.ok) throw malformed(destination, `${name} is ${parsed.reason}`);
    return parsed.value;
  };
  return { membersOmitted: read('members_omitted'), serversInRoom: read('servers_in_room'), event: rest.get('event') };
}

/** At most `max` events of an answer; the rest is not read. */
async function collect(stream: EventStream, max: number): Promise<Uint8Array[]> {
  const events: Uint8Array[] = [];
  for await (const batch of stream) {
    events.push(...batch.events);
    if (events.length >= max) break;
  }
  return events.slice(0, max);
}
