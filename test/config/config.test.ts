import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type LoadOptions, loadConfig, loadSettings, requireSetting } from '../../src/config.ts';
import { ConfigError } from '../../src/config/error.ts';
import { unknownVariables } from '../../src/config/sources.ts';
import { parseDuration, parseSize } from '../../src/config/units.ts';

const SAMPLE = join(import.meta.dirname, '../../rejoinder.sample.yaml');

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'rejoinder-config-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

function file(body: string): string {
  const path = join(folder, 'rejoinder.yaml');
  writeFileSync(path, body);
  return path;
}

function errorOf(options: LoadOptions): ConfigError {
  try {
    loadConfig(options);
  } catch (error) {
    if (error instanceof ConfigError) return error;
    throw error;
  }
  throw new Error('the configuration was accepted');
}

describe('a configuration', () => {
  test('needs nothing but a server name', () => {
    const config = loadConfig({ path: file('server_name: example.org\n'), env: {} });
    expect(config.serverName).toBe('example.org');
    expect(config.signingKeyPath).toBe(join(folder, 'rejoinder-data', 'signing.key'));
    expect(config.listeners.federation).toEqual({ host: '0.0.0.0', port: 8448, tls: null });
    expect(config.listeners.client).toEqual({ host: '127.0.0.1', port: 8008, tls: null, xForwarded: false });
    expect(config.resync).toEqual({
      sweepAfterMs: 120_000,
      firstRetryMs: 30_000,
      late: { afterMs: 259_200_000, longestRetryMs: 86_400_000 },
      hedgeMs: 3_000,
      stateQuorum: 1,
      park: { refusedRounds: 3, giveUpAfterMs: null, then: 'park' },
      longestRetryMs: 3_600_000,
      degrade: { rounds: 2, afterMs: 600_000, answers: 3, atLastMs: 86_400_000 },
      retroSoftFail: true,
      leave: { during: 'abandon', purgeAfterMs: 604_800_000 },
    });
    expect(config.federation.responseBytesMax).toBe(16 * 1024 * 1024);
    expect(config.database.url).toBeNull();
    expect(config.temporal).toEqual({
      address: null,
      namespace: 'default',
      taskQueue: 'rejoinder',
      cachedWorkflows: 500,
      tls: null,
      apiKeyPath: null,
      deployment: null,
      payloadCodecPath: null,
    });
  });

  test('a switch is true or false, in a file as in the environment', () => {
    const path = file('server_name: example.org\n');
    expect(loadConfig({ path, env: { REJOINDER_RESYNC_RETRO_SOFT_FAIL: 'false' } }).resync.retroSoftFail).toBe(false);
    expect(errorOf({ path, env: { REJOINDER_RESYNC_RETRO_SOFT_FAIL: 'perhaps' } }).message).toContain('true or false');
  });

  test('old keys of ours are read as they are published', () => {
    const key = 'l8Hft5qXKn1vfHrg3p4+W8gELQVo8N13JkluMfmn2sQ';
    const yaml = (entry: string): string => `server_name: a\nold_signing_keys: {${entry}}`;
    const config = loadConfig({ path: file(yaml(`"ed25519:old": {key: "${key}", expired_ts: 5}`)), env: {} });
    expect(config.oldSigningKeys).toEqual([{ keyId: 'ed25519:old', publicKey: key, expiredTs: 5 }]);
    for (const entry of [
      `"ed25519:old": {key: "${key}"}`,
      `"ed25519:old": {key: "abc", expired_ts: 5}`,
      `"ed25519:old": {key: "${key}", expired_ts: -5}`,
      `"old key": {key: "${key}", expired_ts: 5}`,
    ]) {
      expect(() => loadSettings({ path: file(yaml(entry)), env: {} })).toThrow('old_signing_keys');
    }
  });

  test('the sample file holds the defaults and is valid', () => {
    const sample = loadSettings({ path: SAMPLE, env: {} }).settings;
    const bare = loadSettings({ path: file('server_name: rejoinder.example.org'), env: {} }).settings;
    const paths = { signing_key_path: sample.signing_key_path, token_path: sample.operator.token_path };
    expect(paths).toEqual({
      signing_key_path: 'rejoinder-data/signing.key',
      token_path: 'rejoinder-data/operator.token',
    });
    expect(sample).toEqual({
      ...bare,
      signing_key_path: paths.signing_key_path,
      operator: { ...bare.operator, token_path: paths.token_path },
    });
  });

  test('the sample file is valid too when every line that is commented out is taken', () => {
    const taken = readFileSync(SAMPLE, 'utf8')
      .replaceAll(/^(\s*)# (\s*(?:- )?[a-z_]+:(?: .*)?|\s*"(?:ed25519:|\*\.).*)$/gm, '$1$2')
      .replace('token: …', 'token: 0123456789abcdef');
    const { settings } = loadSettings({ path: file(taken), env: {} });
    expect(settings.temporal.tls?.ca_path).toBe('/etc/rejoinder/temporal-ca.pem');
    expect(settings.trusted_key_servers[0]?.verify_keys).toHaveProperty('ed25519:a_RXGa');
    expect(settings.listeners.federation.tls).toBeDefined();
    expect([settings.listeners.metrics.port, settings.listeners.worker_metrics.port]).toEqual([9464, 9465]);
    expect(settings.federation.static_addresses).toEqual({ '*.example.org': '10.0.0.5:8448' });
    expect(settings.telemetry.otlp_endpoint).toBe('http://localhost:4318');
  });

  test('metrics have a listener where a port is given, one for each process', () => {
    const bare = loadConfig({ path: file('server_name: a'), env: {} }).listeners;
    expect([bare.metrics, bare.workerMetrics]).toEqual([null, null]);
    const env = { REJOINDER_LISTENERS_METRICS_PORT: '9464', REJOINDER_LISTENERS_WORKER_METRICS_PORT: '9464' };
    const { listeners } = loadConfig({ path: file('server_name: a'), env });
    expect(listeners.metrics).toEqual({ host: '127.0.0.1', port: 9464 });
    expect(listeners.workerMetrics).toEqual({ host: '127.0.0.1', port: 9464 });
  });

  test('listeners may share a port on different addresses, and port 0', () => {
    const body =
      'server_name: a\nlisteners: { federation: { host: 10.0.0.1, port: 9000 }, operator: { port: 9000 }, metrics: { port: 0 } }';
    expect(loadConfig({ path: file(body), env: {} }).listeners.operator.port).toBe(9000);
    const zeros = 'server_name: a\nlisteners: { federation: { port: 0 }, operator: { port: 0 }, metrics: { port: 0 } }';
    expect(loadConfig({ path: file(zeros), env: {} }).listeners.metrics?.port).toBe(0);
  });

  test('a section without keys is there and empty', () => {
    const config = loadConfig({ path: file('server_name: a\nlog:\ntemporal:\n  tls:\n'), env: {} });
    expect(config.log.level).toBe('info');
    expect(config.temporal.tls).not.toBeNull();
  });

  test('the environment wins over the file, and the command line over both', () => {
    const path = file('server_name: file.example\nlisteners: { operator: { port: 1, host: 10.0.0.1 } }');
    const env = { REJOINDER_LISTENERS_OPERATOR_PORT: '2', REJOINDER_SERVER_NAME: 'env.example' };
    const config = loadConfig({ path, env, overrides: { server_name: 'line.example' } });
    expect(config.serverName).toBe('line.example');
    expect(config.listeners.operator).toEqual({ host: '10.0.0.1', port: 2 });
  });

  test('defaults of a command lie below the file', () => {
    const defaults = { server_name: 'localhost', data_directory: '/elsewhere' };
    const config = loadConfig({ path: file('server_name: file.example'), env: {}, defaults });
    expect(config.serverName).toBe('file.example');
    expect(config.dataDirectory).toBe('/elsewhere');
  });

  test('takes the variables that other programs use, and its own before them', () => {
    const env = {
      REJOINDER_SERVER_NAME: 'example.org',
      DATABASE_URL: 'postgres://a@db/one',
      REJOINDER_DATABASE_URL: 'postgres://a@db/two',
      TEMPORAL_ADDRESS: 'temporal:7233',
      OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318',
    };
    const config = loadConfig({ path: file(''), env });
    expect(config.database.url).toBe('postgres://a@db/two');
    expect(config.temporal.address).toBe('temporal:7233');
    expect(config.telemetry.otlpEndpoint).toBe('http://collector:4318');
  });

  test('lists in the environment are comma-separated, richer values YAML', () => {
    const env = {
      REJOINDER_FEDERATION_ALLOWED_IP_RANGES: '127.0.0.0/8, ::1/128',
      REJOINDER_TRUSTED_KEY_SERVERS: '[{server_name: notary.example}]',
    };
    const config = loadConfig({ path: file('server_name: a.example'), env });
    expect(config.federation.allowedIpRanges).toEqual(['127.0.0.0/8', '::1/128']);
    expect(config.trustedKeyServers).toEqual([{ serverName: 'notary.example', verifyKeys: new Map() }]);
  });

  test('static addresses are read from the file and, added to those, from the environment', () => {
    const path = file('server_name: a\nfederation: { static_addresses: { b.example: "10.0.0.1:443" } }');
    const env = { REJOINDER_FEDERATION_STATIC_ADDRESSES: '{"*.c.example": "[fd00::1]:8448"}' };
    expect(loadConfig({ path, env }).federation.staticAddresses).toEqual(
      new Map([
        ['b.example', { address: '10.0.0.1', port: 443 }],
        ['*.c.example', { address: 'fd00::1', port: 8448 }],
      ]),
    );
  });

  test('variables that look like ours and set nothing are named', () => {
    const env = { REJOINDER_SERVER_NMAE: 'a', REJOINDER_CACHE_DIR: '/c', REJOINDER_SERVER_NAME: 'b', HOME: '/' };
    expect(unknownVariables(env)).toEqual(['REJOINDER_SERVER_NMAE']);
  });
});

const WRONG: readonly (readonly [what: string, body: string, message: RegExp])[] = [
  [
    'no server name',
    'log: { level: info }',
    /server_name: expected a Matrix server name.*REJOINDER_SERVER_NAME.*nothing/,
  ],
  ['a server name with a scheme', 'server_name: https://a.example', /yaml:1: server_name: .*"https:\/\/a.example"/],
  [
    'a port out of range',
    'server_name: a\nlisteners:\n  operator:\n    port: 70000',
    /yaml:4: listeners.operator.port: expected a port, 0 .*to 65535, found 70000/,
  ],
  [
    'a port that another listener of the same process has',
    'server_name: a\nlisteners:\n  metrics:\n    port: 8009',
    /yaml:4: listeners.metrics.port: expected another port than that of listeners.operator, found 8009/,
  ],
  [
    'a port that a listener on all addresses has',
    'server_name: a\nlisteners: { operator: { port: 8448 } }',
    /listeners.operator.port: expected another port than that of listeners.federation, found 8448/,
  ],
  [
    'a duration without a unit',
    'server_name: a\nresync: { sweep_after: "120" }',
    /resync.sweep_after: expected a duration such as .*found "120"/,
  ],
  [
    'a duration that is a number',
    'server_name: a\nresync: { sweep_after: 120 }',
    /resync.sweep_after: expected a duration.*found 120/,
  ],
  [
    'a size with a strange unit',
    'server_name: a\nfederation: { state_size_max: 5Q }',
    /federation.state_size_max: expected a size.*"5Q"/,
  ],
  ['an unknown key', 'server_name: a\nlog:\n  levle: info', /yaml:3: log.levle: expected one of the keys level/],
  [
    'an unknown section',
    'server_name: a\n\nloging: {}',
    /yaml:3: loging: expected one of the keys server_name, data_directory/,
  ],
  [
    'a section that is a word',
    'server_name: a\ndatabase: postgres',
    /yaml:2: database: expected a section with keys.*found "postgres"/,
  ],
  [
    'a database of another kind',
    'server_name: a\ndatabase: { url: "mysql://u@h/d" }',
    /database.url: expected a URL such as postgres:/,
  ],
  [
    'a short token',
    'server_name: a\noperator: { token: abc }',
    /operator.token: expected at least 16 characters.*found "\*{8}"/,
  ],
  [
    'half of a TLS pair',
    'server_name: a\nlisteners: { federation: { tls: { certificate_path: a.pem } } }',
    /listeners.federation.tls.private_key_path: expected the path/,
  ],
  [
    'an address range without a width',
    'server_name: a\nfederation: { denied_ip_ranges: [10.0.0.1] }',
    /federation.denied_ip_ranges.0: expected an address range.*"10.0.0.1"/,
  ],
  [
    'a key server with a broken key',
    'server_name: a\ntrusted_key_servers: [{server_name: b, verify_keys: {"ed25519:1": abc}}]',
    /verify_keys.ed25519:1: expected an Ed25519 public key/,
  ],
  [
    'a key server with a broken key id',
    'server_name: a\ntrusted_key_servers: [{server_name: b, verify_keys: {"rsa 1": abc}}]',
    /verify_keys.rsa 1: expected a key id/,
  ],
  [
    'a static address that is a name',
    'server_name: a\nfederation:\n  static_addresses:\n    b.example: inside.example:8448',
    /yaml:4: federation.static_addresses.b.example: expected an address with a port such as .*"inside.example:8448"/,
  ],
  [
    'a static address without a port',
    'server_name: a\nfederation: { static_addresses: { b.example: 10.0.0.1 } }',
    /static_addresses.b.example: expected an address with a port.*"10.0.0.1"/,
  ],
  [
    'a static address in IPv6 that YAML takes for a list',
    'server_name: a\nfederation: { static_addresses: { b.example: [fd00::1] } }',
    /static_addresses.b.example: expected an address with a port.*\["fd00::1"\]/,
  ],
  [
    'a static address for a name with a port',
    'server_name: a\nfederation: { static_addresses: { "b.example:8448": "10.0.0.1:8448" } }',
    /static_addresses.b.example:8448: expected a host name such as matrix.example.org or \*.example.org, without a port/,
  ],
  ['a level of no logger', 'server_name: a\nlog: { level: loud }', /log.level: expected one of trace, debug.*"loud"/],
  ['the same key twice', 'server_name: a\nserver_name: b', /yaml:\d: expected YAML: Map keys must be unique/],
  ['no YAML at all', 'server_name: [a', /yaml:\d+: expected YAML/],
  ['a bare word', 'hello', /yaml:1: expected keys with values/],
  ['aliases', 'server_name: &x a\ndata_directory: *x', /expected YAML without aliases/],
];

describe('a configuration is refused with key, value, expectation and place:', () => {
  test.each(WRONG)('%s', (_what, body, message) => {
    expect(errorOf({ path: file(body), env: {} }).message).toMatch(message);
  });

  test('a file that was asked for and is not there', () => {
    expect(errorOf({ path: join(folder, 'none.yaml'), env: {} }).message).toMatch(
      /none.yaml: expected a readable file \(ENOENT\)/,
    );
  });

  test('a wrong variable, by its name', () => {
    const env = { REJOINDER_SERVER_NAME: 'a', REJOINDER_LISTENERS_OPERATOR_PORT: 'many' };
    expect(errorOf({ path: file(''), env }).message).toBe(
      'environment variable REJOINDER_LISTENERS_OPERATOR_PORT: listeners.operator.port: expected a port, 0 (any free one) to 65535, found "many"',
    );
  });

  test('every problem at once', () => {
    const { problems } = errorOf({ path: file('server_name: "!"\nlog: { level: 1 }\nx: 1'), env: {} });
    expect(problems.map(({ key }) => key).sort()).toEqual(['log.level', 'server_name', 'x']);
  });

  test('a password is never shown', () => {
    const body = 'server_name: a\ndatabase: { url: "mysql://me:s3cret@db/x" }\npasswrod: s3cret';
    const { message } = errorOf({ path: file(body), env: {} });
    expect(message).not.toContain('s3cret');
    expect(message).toContain('mysql://me:********@db/x');
  });

  test('control characters in a value do not reach the terminal', () => {
    expect(errorOf({ path: file('server_name: "a\\e[31m\\n"'), env: {} }).message).not.toMatch(/[\u0000-\u001f]/);
  });

  test('a setting that this command needs and nobody has made', () => {
    expect(() => requireSetting(null, 'database.url', 'a PostgreSQL URL')).toThrow(
      'database.url: expected a PostgreSQL URL (or REJOINDER_DATABASE_URL), found nothing',
    );
  });
});

describe('units', () => {
  test('durations are milliseconds, at most what a timer can be', () => {
    expect(['250ms', '30s', '5m', '1h', '7d'].map(parseDuration)).toEqual([
      250, 30_000, 300_000, 3_600_000, 604_800_000,
    ]);
    expect(['', '5', 'm', '-1s', '1.5s', '5 m', '25d', '9999999999s'].map(parseDuration)).toEqual(
      Array(8).fill(undefined),
    );
  });

  test('sizes are powers of 1024', () => {
    expect(['512', '1K', '10M', '2G'].map(parseSize)).toEqual([512, 1024, 10_485_760, 2_147_483_648]);
    expect(['', 'M', '1.5M', '10MB', '-1', '999999999999999G'].map(parseSize)).toEqual(Array(6).fill(undefined));
  });
});
