/**
 * What rejoinder.yaml may hold, key by key, in the file's own names and units; `src/config.ts` turns it into the program's
 * `Config`. Every key here has a reader, every text after `error:` completes the sentence "expected …".
 */
import ipaddr from 'ipaddr.js';
import { z } from 'zod';
import { isStaticName, parseStaticAddress } from '../federation/static-addresses.ts';
import { parseKeyId, parseServerName } from '../matrix/identifiers.ts';
import { ROOM_VERSIONS } from '../matrix/room-versions.ts';
import { defaultLeavePolicy } from '../resync/policy.ts';
import { LEAVE_DURING_RESYNC } from '../resync/room-policy.ts';
import { parseDuration, parseSize } from './units.ts';

const text = (expected: string, accepts: (value: string) => boolean = (value) => value !== '') =>
  z.string({ error: expected }).refine(accepts, { error: expected });

const path = text('the path of a file or folder');
const host = text('a host name or address to listen on', (value) => /^[0-9A-Za-z.:_-]+$/.test(value));
const port = z.int({ error: 'a port, 0 (any free one) to 65535' }).min(0, portRange()).max(65_535, portRange());
const duration = text(
  'a duration such as 250ms, 30s, 5m, 1h or 7d, at most 24d',
  (value) => parseDuration(value) !== undefined,
);
const size = text('a size such as 512K, 10M or 2G', (value) => parseSize(value) !== undefined);
const onOff = z.boolean({ error: 'true or false' });
const serverName = text(
  'a Matrix server name such as example.org or 192.0.2.1:8448',
  (value) => parseServerName(value) !== undefined,
);
const keyId = text('a key id such as ed25519:auto', (value) => parseKeyId(value) !== undefined);
const verifyKey = text('an Ed25519 public key, 32 bytes in unpadded base64', (value) =>
  /^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]$/.test(value),
);
const ipRanges = z.array(
  text('an address range such as 10.0.0.0/8 or fd00::/8', (value) => ipaddr.isValidCIDR(value)),
  { error: 'a list of address ranges' },
);
const staticAddresses = z.record(
  text('a host name such as matrix.example.org or *.example.org, without a port', isStaticName),
  text(
    'an address with a port such as 192.0.2.1:8448 or "[2001:db8::1]:8448"',
    (value) => parseStaticAddress(value) !== undefined,
  ),
  { error: 'host names with their addresses' },
);

function portRange(): { error: string } {
  return { error: 'a port, 0 (any free one) to 65535' };
}

function url(expected: string, protocols: readonly string[]) {
  return text(expected, (value) => URL.canParse(value) && protocols.includes(new URL(value).protocol));
}

const section = <Shape extends z.ZodRawShape>(shape: Shape) => z.strictObject(shape, { error: 'a section with keys' });

interface Address {
  readonly host: string;
  readonly port?: number | undefined;
}

/** Whether both cannot be listened on. Port 0 is another each time. */
export function isSameAddress(one: Address, other: Address): boolean {
  if (one.port === undefined || one.port === 0 || one.port !== other.port) return false;
  return one.host === other.host || [one.host, other.host].some((name) => name === '0.0.0.0' || name === '::');
}

/** Listeners of `serve`, the one that is to give way behind the other. That of the worker may be on another machine. */
const OF_SERVE = ['federation', 'client', 'operator', 'metrics'] as const;

/** Each listener of `serve` needs a port of its own. */
function refuseSharedPorts(
  listeners: Readonly<Record<(typeof OF_SERVE)[number], Address>>,
  context: z.RefinementCtx,
): void {
  OF_SERVE.forEach((name, i) => {
    for (const other of OF_SERVE.slice(0, i)) {
      if (!isSameAddress(listeners[other], listeners[name])) continue;
      const message = `another port than that of listeners.${other}`;
      context.addIssue({ code: 'custom', path: [name, 'port'], message });
    }
  });
}

/** Requests of one address or for one account; 0 a minute is no limit. */
function rateLimit(perMinute: number, burst: number) {
  const expected = { error: 'a number of requests' };
  return section({
    per_minute: z.number(expected).min(0, expected).max(1_000_000, expected).default(perMinute),
    burst: z.int(expected).min(1, expected).max(1_000_000, expected).default(burst),
  }).prefault({});
}

const certificate = section({ certificate_path: path, private_key_path: path });

/** Without a port there is no listener. */
const metricsListener = section({ host: host.default('127.0.0.1'), port: port.optional() });

export const settingsSchema = section({
  server_name: serverName,
  data_directory: path.default('rejoinder-data'),
  signing_key_path: path.optional(),
  old_signing_keys: z
    .record(
      keyId,
      section({
        key: verifyKey,
        expired_ts: z.int({ error: 'milliseconds since 1970' }).min(0, { error: 'milliseconds since 1970' }),
      }),
      { error: 'key ids with their public keys and when they ended' },
    )
    .default({}),
  listeners: section({
    federation: section({
      host: host.default('0.0.0.0'),
      port: port.default(8448),
      tls: certificate.optional(),
    }).prefault({}),
    client: section({
      host: host.default('127.0.0.1'),
      port: port.default(8008),
      x_forwarded: onOff.default(false),
      tls: certificate.optional(),
    }).prefault({}),
    operator: section({ host: host.default('127.0.0.1'), port: port.default(8009) }).prefault({}),
    metrics: metricsListener.prefault({}),
    worker_metrics: metricsListener.prefault({}),
  })
    .superRefine(refuseSharedPorts)
    .prefault({}),
  client_api: section({
    public_base_url: url('a URL such as https://matrix.example.org', ['http:', 'https:']).optional(),
    default_room_version: z.enum(ROOM_VERSIONS, { error: `one of ${ROOM_VERSIONS.join(', ')}` }).default('11'),
    access_token_lifetime: duration.default('5m'),
    devices_per_user_max: z.int({ error: 'a number of devices, 1 to 100000' }).min(1).max(100_000).default(1_000),
    state_wait_max: duration.default('5m'),
    registration: z.enum(['closed', 'open'], { error: 'closed or open' }).default('closed'),
    registration_shared_secret: text('at least 16 characters', (value) => value.length >= 16).optional(),
    rate_limits: section({
      login_by_address: rateLimit(30, 20),
      login_by_account: rateLimit(10, 10),
      registration: rateLimit(10, 5),
      sending: rateLimit(600, 100),
      joining: rateLimit(60, 20),
    }).prefault({}),
  }).prefault({}),
  app_service_config_files: z.array(path, { error: 'a list of paths of registration files' }).default([]),
  operator: section({
    token: text('at least 16 characters from A-Z a-z 0-9 - . _ ~ + / =', (value) =>
      /^[A-Za-z0-9._~+/=-]{16,512}$/.test(value),
    ).optional(),
    token_path: path.optional(),
    members_wait_max: duration.default('5m'),
  }).prefault({}),
  database: section({
    url: url('a URL such as postgres://user:password@host:5432/database', ['postgres:', 'postgresql:']).optional(),
    pool_size: z.int({ error: 'a number of connections, 2 to 200' }).min(2).max(200).default(10),
  }).prefault({}),
  temporal: section({
    address: text('an address such as temporal.example.org:7233', (value) =>
      /^[^\s/:]+(?::\d{1,5})$/.test(value),
    ).optional(),
    namespace: text('the name of a Temporal namespace').default('default'),
    task_queue: text('the name of a Temporal task queue').default('rejoinder'),
    cached_workflows: z.int({ error: 'a number of workflows, 1 to 100,000' }).min(1).max(100_000).default(500),
    tls: section({
      server_name: text('the name in the certificate').optional(),
      ca_path: path.optional(),
      certificate_path: path.optional(),
      private_key_path: path.optional(),
    })
      .refine((tls) => (tls.certificate_path === undefined) === (tls.private_key_path === undefined), {
        error: 'certificate_path and private_key_path together, or neither',
      })
      .optional(),
    api_key_path: path.optional(),
    deployment: section({
      name: text('a name, without a dot', (value) => /^[^.\s]+$/.test(value)),
      build_id: text('the version of what runs, such as 0.1.0'),
    }).optional(),
    payload_codec_path: path.optional(),
  }).prefault({}),
  trusted_key_servers: z
    .array(
      section({
        server_name: serverName,
        verify_keys: z.record(keyId, verifyKey, { error: 'key ids with their public keys' }).optional(),
      }),
      { error: 'a list of entries with server_name' },
    )
    .default([{ server_name: 'matrix.org' }]),
  federation: section({
    custom_ca_path: path.optional(),
    allowed_ip_ranges: ipRanges.default([]),
    denied_ip_ranges: ipRanges.default([]),
    static_addresses: staticAddresses.default({}),
    connect_timeout: duration.default('10s'),
    request_timeout: duration.default('60s'),
    join_timeout: duration.default('10m'),
    join_hedge: duration.default('3s'),
    state_timeout: duration.default('30m'),
    response_size_max: size.default('16M'),
    state_size_max: size.default('1G'),
  }).prefault({}),
  resync: section({
    sweep_after: duration.default('2m'),
    first_retry: duration.default('30s'),
    longest_retry: duration.default('1h'),
    longest_late_retry: duration.default('24h'),
    park_after_refusals: z.int({ error: 'a number of rounds, 1 to 100' }).min(1).max(100).default(3),
    give_up_after: duration.optional(),
    given_up: z.enum(['park', 'leave'], { error: 'park or leave' }).default('park'),
    state_quorum: z.int({ error: 'a number of servers, 1 to 3' }).min(1).max(3).default(1),
    degrade_after: duration.default('10m'),
    degrade_at_last: duration.default('24h'),
    retro_soft_fail: onOff.default(true),
    leave_during_resync: z
      .enum(LEAVE_DURING_RESYNC, { error: `one of ${LEAVE_DURING_RESYNC.join(', ')}` })
      .default(defaultLeavePolicy.during),
    purge_left_after: duration.default('7d'),
  }).prefault({}),
  log: section({
    level: z
      .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'], {
        error: 'one of trace, debug, info, warn, error, fatal, silent',
      })
      .default('info'),
  }).prefault({}),
  telemetry: section({
    otlp_endpoint: url('the base URL of an OTLP/HTTP collector, such as http://localhost:4318', [
      'http:',
      'https:',
    ]).optional(),
  }).prefault({}),
});

/** The file after validation, defaults filled in. */
export type Settings = z.output<typeof settingsSchema>;
/** The file before: anything with a default may be absent. */
export type SettingsInput = z.input<typeof settingsSchema>;

/** Keys whose values are never printed whole. */
const SECRET_KEYS: readonly string[] = ['operator.token', 'database.url', 'client_api.registration_shared_secret'];

/** A value as it may be shown: a token not at all, a URL without its password. */
export function maskSecret(key: string, value: unknown): unknown {
  if (!SECRET_KEYS.includes(key) || typeof value !== 'string') return value;
  if (key !== 'database.url') return '********';
  return value.replace(/^([a-z]+:\/\/[^:@/]*):.*@/, '$1:********@');
}

export type SettingKind = 'text' | 'list' | 'other';

/** Every leaf of the schema with its dotted key, in file order; the environment's names are made from it. */
export const SETTING_KEYS: readonly { readonly key: string; readonly kind: SettingKind }[] = leaves(settingsSchema, '');

function leaves(schema: z.ZodType, key: string): { key: string; kind: SettingKind }[] {
  let bare: unknown = schema;
  while (bare instanceof z.ZodOptional || bare instanceof z.ZodDefault || bare instanceof z.ZodPrefault) {
    bare = bare.unwrap();
  }
  if (bare instanceof z.ZodObject) {
    return Object.entries(bare.shape as Record<string, z.ZodType>).flatMap(([name, inner]) =>
      leaves(inner, key === '' ? name : `${key}.${name}`),
    );
  }
  if (bare instanceof z.ZodString || bare instanceof z.ZodEnum) return [{ key, kind: 'text' }];
  return [{ key, kind: bare instanceof z.ZodArray && bare.element instanceof z.ZodString ? 'list' : 'other' }];
}
