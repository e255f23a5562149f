/**
 * The configuration: rejoinder.yaml and the environment, validated once at start. The only reader of `process.env`.
 * `Settings` is what the file says, in its own names and units (`config dump` prints it); `Config` is what the program
 * reads: camelCase, milliseconds, bytes, absolute paths. Wrong input throws one `ConfigError` that names every problem.
 */
import { join, resolve } from 'node:path';
import { type z } from 'zod';
import { type AppService } from './app-services/registration.ts';
import { readRegistrations } from './config/registrations.ts';
import { type StaticAddress, parseStaticAddress } from './federation/static-addresses.ts';
import { type OldSigningKey } from './federation/key-answer.ts';
import { type KeyId, type ServerName } from './matrix/identifiers.ts';
import { ConfigError, type ConfigProblem } from './config/error.ts';
import { SETTING_KEYS, type Settings, type SettingsInput, maskSecret, settingsSchema } from './config/settings.ts';
import {
  type Environment,
  type Source,
  type Tree,
  baseDirectory,
  findConfigFile,
  getIn,
  mergeTrees,
  readEnvironment,
  readFileSource,
  variableOf,
} from './config/sources.ts';
import { parseDuration, parseSize } from './config/units.ts';
import { invariant } from './invariant.ts';
import {
  type DegradePolicy,
  type LatePolicy,
  type LeavePolicy,
  type ParkPolicy,
  defaultDegradePolicy,
  defaultLatePolicy,
} from './resync/policy.ts';
import { type LogLevel } from './logging.ts';

export interface ListenerConfig {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
}

export interface RateLimitConfig {
  readonly perMinute: number;
  readonly burst: number;
}

export interface TlsConfig {
  readonly certificatePath: string;
  readonly privateKeyPath: string;
}

export interface TrustedKeyServer {
  readonly serverName: ServerName;
  /** Unpadded base64 by key id; empty: the server's own keys are fetched from it. */
  readonly verifyKeys: ReadonlyMap<KeyId, string>;
}

/** Times are milliseconds (`…Ms`), sizes bytes (`…BytesMax`), paths absolute. `null`: not configured. */
export interface Config {
  readonly serverName: ServerName;
  readonly dataDirectory: string;
  readonly signingKeyPath: string;
  /** Public keys that signed for this server once. */
  readonly oldSigningKeys: readonly OldSigningKey[];
  readonly listeners: {
    /** Without `tls` the listener speaks plain HTTP, for a reverse proxy in front of it. */
    readonly federation: ListenerConfig & { readonly tls: TlsConfig | null };
    /** What Matrix clients reach; its `tls` as that of `federation`. */
    readonly client: ListenerConfig & {
      readonly tls: TlsConfig | null;
      /** Whether a proxy in front of it says who asks. */
      readonly xForwarded: boolean;
    };
    readonly operator: ListenerConfig;
    /** Of `serve`. */
    readonly metrics: ListenerConfig | null;
    /** Of `worker`, which may run on the same machine under the same configuration. */
    readonly workerMetrics: ListenerConfig | null;
  };
  readonly clientApi: {
    /** Where clients reach this server, told by its name. */
    readonly publicBaseUrl: string | null;
    readonly defaultRoomVersion: string;
    /** Of those that can be refreshed. */
    readonly accessTokenLifetimeMs: number;
    readonly devicesPerUserMax: number;
    /** How long a request may wait for a room to become whole. */
    readonly stateWaitMaxMs: number;
    /** Whether strangers may register. */
    readonly isRegistrationOpen: boolean;
    readonly registrationSharedSecret: string | null;
    readonly rateLimits: {
      readonly loginByAddress: RateLimitConfig | null;
      readonly loginByAccount: RateLimitConfig | null;
      readonly registration: RateLimitConfig | null;
      readonly sending: RateLimitConfig | null;
      readonly joining: RateLimitConfig | null;
    };
  };
  /** Application services, as their files register them. */
  readonly appServices: readonly AppService[];
  readonly operator: {
    /** `null`: read from `tokenPath`. */
    readonly token: string | null;
    readonly tokenPath: string;
    readonly membersWaitMaxMs: number;
  };
  readonly database: { readonly url: string | null; readonly poolSize: number };
  readonly temporal: {
    readonly address: string | null;
    readonly namespace: string;
    readonly taskQueue: string;
    /** Workflows that a worker keeps in memory. */
    readonly cachedWorkflows: number;
    readonly tls: {
      readonly serverName: string | null;
      readonly caPath: string | null;
      readonly certificatePath: string | null;
      readonly privateKeyPath: string | null;
    } | null;
    readonly apiKeyPath: string | null;
    /** `null`: workers take part in no versioning. */
    readonly deployment: { readonly name: string; readonly buildId: string } | null;
    /** Of a JavaScript module. */
    readonly payloadCodecPath: string | null;
  };
  readonly trustedKeyServers: readonly TrustedKeyServer[];
  readonly federation: {
    readonly customCaPath: string | null;
    /** CIDR ranges reachable although they are not public unicast; they win over `deniedIpRanges`. */
    readonly allowedIpRanges: readonly string[];
    /** CIDR ranges refused although they are public. */
    readonly deniedIpRanges: readonly string[];
    /** By host name or `*.suffix`. */
    readonly staticAddresses: ReadonlyMap<string, StaticAddress>;
    readonly connectTimeoutMs: number;
    readonly requestTimeoutMs: number;
    readonly joinTimeoutMs: number;
    readonly stateTimeoutMs: number;
    readonly responseBytesMax: number;
    readonly stateBytesMax: number;
  };
  readonly resync: {
    readonly sweepAfterMs: number;
    readonly firstRetryMs: number;
    readonly longestRetryMs: number;
    readonly late: LatePolicy;
    readonly park: ParkPolicy;
    readonly hedgeMs: number;
    readonly stateQuorum: number;
    readonly degrade: DegradePolicy;
    readonly retroSoftFail: boolean;
    readonly leave: LeavePolicy;
  };
  readonly log: { readonly level: LogLevel };
  readonly telemetry: { readonly otlpEndpoint: string | null };
}

export interface LoadOptions {
  /** The file; absent: `REJOINDER_CONFIG`, then rejoinder.yaml in the working folder, then none. */
  readonly path?: string | undefined;
  /** Absent: the process's own. */
  readonly env?: Environment;
  /** Below the file: what a command assumes where nobody has said anything. */
  readonly defaults?: Partial<SettingsInput>;
  /** Above everything: what the command line says. Paths in it are absolute. */
  readonly overrides?: Partial<SettingsInput>;
}

export interface LoadedSettings {
  readonly settings: Settings;
  /** The file that was read, absolute. */
  readonly file: string | undefined;
}

/** Reads and validates all sources. Throws `ConfigError`. */
export function loadSettings(options: LoadOptions = {}): LoadedSettings {
  const env = options.env ?? process.env;
  const file = findConfigFile(options.path, env);
  const fromFile = file === undefined ? undefined : readFileSource(file);
  if (fromFile !== undefined && 'expected' in fromFile) throw new ConfigError([{ key: '', ...fromFile }]);

  const sources: Source[] = [
    { tree: options.defaults ?? {}, whereIs: () => 'built-in default' },
    ...(fromFile === undefined ? [] : [fromFile]),
    readEnvironment(env),
    { tree: options.overrides ?? {}, whereIs: () => 'command line' },
  ];
  const tree = sources.reduce<Tree>((merged, source) => mergeTrees(merged, source.tree), {});
  const parsed = settingsSchema.safeParse(tree);
  if (parsed.success) return { settings: parsed.data, file };

  const whereIs = (path: readonly PropertyKey[]): string => {
    const winner = sources.findLast((source) => getIn(source.tree, path) !== undefined);
    return winner?.whereIs(path) ?? fromFile?.whereIs(path) ?? 'configuration';
  };
  throw new ConfigError(parsed.error.issues.flatMap((issue) => problemsOf(issue, tree, whereIs)));
}

function problemsOf(
  issue: z.core.$ZodIssue,
  tree: Tree,
  whereIs: (path: readonly PropertyKey[]) => string,
): ConfigProblem[] {
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((name) => {
      const path = [...issue.path, name];
      const siblings = siblingsOf(issue.path.filter((part) => typeof part === 'string').join('.'));
      const expected = siblings.length === 0 ? 'no such key' : `one of the keys ${siblings.join(', ')}`;
      // The value of a key nobody knows may be a secret under a mistyped name.
      return { key: path.join('.'), value: '(a key nothing reads)', expected, where: whereIs(path) };
    });
  }
  const key = issue.path.join('.');
  const value = maskSecret(key, getIn(tree, issue.path));
  const inner = issue.code === 'invalid_key' ? issue.issues[0]?.message : undefined;
  const missing = value === undefined && issue.path.length > 0 ? ` (or ${variableOf(key)})` : '';
  return [{ key, value, expected: `${inner ?? issue.message}${missing}`, where: whereIs(issue.path) }];
}

function siblingsOf(section: string): string[] {
  const prefix = section === '' ? '' : `${section}.`;
  const names = SETTING_KEYS.filter(({ key }) => key.startsWith(prefix)).map(({ key }) => key.slice(prefix.length));
  return [...new Set(names.map((name) => name.split('.')[0] ?? name))];
}

/** Reads and validates all sources into what the program uses. Throws `ConfigError`. */
export function loadConfig(options: LoadOptions = {}): Config {
  const { settings, file } = loadSettings(options);
  return toConfig(settings, baseDirectory(file));
}

/** The value of a key that this command can't do without. Throws `ConfigError`. */
export function requireSetting<Value>(value: Value | null, key: string, expected: string): Value {
  if (value !== null) return value;
  throw new ConfigError([{ key, expected: `${expected} (or ${variableOf(key)})`, where: 'configuration' }]);
}

function toConfig(settings: Settings, base: string): Config {
  const { listeners, operator, database, temporal, federation, resync, log, telemetry } = settings;
  const dataDirectory = resolve(base, settings.data_directory);
  const at = (path: string): string => resolve(base, path);
  const certificate = (tls: Settings['listeners']['client']['tls']): TlsConfig | null =>
    tls === undefined ? null : { certificatePath: at(tls.certificate_path), privateKeyPath: at(tls.private_key_path) };
  const optional = (path: string | undefined): string | null => (path === undefined ? null : at(path));
  return {
    serverName: settings.server_name as ServerName,
    dataDirectory,
    signingKeyPath: optional(settings.signing_key_path) ?? join(dataDirectory, 'signing.key'),
    oldSigningKeys: Object.entries(settings.old_signing_keys).map(([keyId, { key, expired_ts: expiredTs }]) => ({
      keyId: keyId as KeyId,
      publicKey: key,
      expiredTs,
    })),
    listeners: {
      federation: { ...listeners.federation, tls: certificate(listeners.federation.tls) },
      client: {
        host: listeners.client.host,
        port: listeners.client.port,
        tls: certificate(listeners.client.tls),
        xForwarded: listeners.client.x_forwarded,
      },
      operator: listeners.operator,
      metrics: optionalListener(listeners.metrics),
      workerMetrics: optionalListener(listeners.worker_metrics),
    },
    clientApi: clientApi(settings.client_api),
    appServices: readRegistrations(settings.app_service_config_files.map(at), settings.server_name as ServerName),
    operator: {
      token: operator.token ?? null,
      tokenPath: optional(operator.token_path) ?? join(dataDirectory, 'operator.token'),
      membersWaitMaxMs: milliseconds(operator.members_wait_max),
    },
    database: { url: database.url ?? null, poolSize: database.pool_size },
    temporal: {
      address: temporal.address ?? null,
      namespace: temporal.namespace,
      taskQueue: temporal.task_queue,
      cachedWorkflows: temporal.cached_workflows,
      tls:
        temporal.tls === undefined
          ? null
          : {
              serverName: temporal.tls.server_name ?? null,
              caPath: optional(temporal.tls.ca_path),
              certificatePath: optional(temporal.tls.certificate_path),
              privateKeyPath: optional(temporal.tls.private_key_path),
            },
      apiKeyPath: optional(temporal.api_key_path),
      deployment:
        temporal.deployment === undefined
          ? null
          : { name: temporal.deployment.name, buildId: temporal.deployment.build_id },
      payloadCodecPath: optional(temporal.payload_codec_path),
    },
    trustedKeyServers: settings.trusted_key_servers.map((entry) => ({
      serverName: entry.server_name as ServerName,
      verifyKeys: new Map(Object.entries(entry.verify_keys ?? {}) as [KeyId, string][]),
    })),
    federation: {
      customCaPath: optional(federation.custom_ca_path),
      allowedIpRanges: federation.allowed_ip_ranges,
      deniedIpRanges: federation.denied_ip_ranges,
      staticAddresses: new Map(
        Object.entries(federation.static_addresses).map(([name, text]) => [name, staticAddress(text)]),
      ),
      connectTimeoutMs: milliseconds(federation.connect_timeout),
      requestTimeoutMs: milliseconds(federation.request_timeout),
      joinTimeoutMs: milliseconds(federation.join_timeout),
      stateTimeoutMs: milliseconds(federation.state_timeout),
      responseBytesMax: bytes(federation.response_size_max),
      stateBytesMax: bytes(federation.state_size_max),
    },
    resync: {
      sweepAfterMs: milliseconds(resync.sweep_after),
      firstRetryMs: milliseconds(resync.first_retry),
      longestRetryMs: milliseconds(resync.longest_retry),
      late: { ...defaultLatePolicy, longestRetryMs: milliseconds(resync.longest_late_retry) },
      park: {
        refusedRounds: resync.park_after_refusals,
        giveUpAfterMs: resync.give_up_after === undefined ? null : milliseconds(resync.give_up_after),
        then: resync.given_up,
      },
      stateQuorum: resync.state_quorum,
      hedgeMs: milliseconds(federation.join_hedge),
      degrade: {
        ...defaultDegradePolicy,
        afterMs: milliseconds(resync.degrade_after),
        atLastMs: milliseconds(resync.degrade_at_last),
      },
      retroSoftFail: resync.retro_soft_fail,
      leave: { during: resync.leave_during_resync, purgeAfterMs: milliseconds(resync.purge_left_after) },
    },
    log,
    telemetry: { otlpEndpoint: telemetry.otlp_endpoint ?? null },
  };
}

function clientApi(settings: Settings['client_api']): Config['clientApi'] {
  const { rate_limits: limits } = settings;
  return {
    publicBaseUrl: settings.public_base_url ?? null,
    defaultRoomVersion: settings.default_room_version,
    accessTokenLifetimeMs: milliseconds(settings.access_token_lifetime),
    devicesPerUserMax: settings.devices_per_user_max,
    stateWaitMaxMs: milliseconds(settings.state_wait_max),
    isRegistrationOpen: settings.registration === 'open',
    registrationSharedSecret: settings.registration_shared_secret ?? null,
    rateLimits: {
      loginByAddress: rateLimit(limits.login_by_address),
      loginByAccount: rateLimit(limits.login_by_account),
      registration: rateLimit(limits.registration),
      sending: rateLimit(limits.sending),
      joining: rateLimit(limits.joining),
    },
  };
}

function rateLimit(settings: Settings['client_api']['rate_limits']['registration']): RateLimitConfig | null {
  const { per_minute: perMinute, burst } = settings;
  return perMinute === 0 ? null : { perMinute, burst };
}

function optionalListener({ host, port }: Settings['listeners']['metrics']): ListenerConfig | null {
  return port === undefined ? null : { host, port };
}

function milliseconds(text: string): number {
  const ms = parseDuration(text);
  invariant(ms !== undefined, `the schema let the duration ${text} through`);
  return ms;
}

function staticAddress(text: string): StaticAddress {
  const place = parseStaticAddress(text);
  invariant(place !== undefined, `the schema let the address ${text} through`);
  return place;
}

function bytes(text: string): number {
  const size = parseSize(text);
  invariant(size !== undefined, `the schema let the size ${text} through`);
  return size;
}
