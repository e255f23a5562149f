/** A real Synapse on this machine, for demo and interop tests: the resident that Rejoinder joins through. */
import { createHmac, randomBytes } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type CertificateFiles } from './certificates.ts';
import { acceptsConnections, startChild } from './child.ts';
import { choosePort } from './ports.ts';
import { type Environment, type Progress } from './progress.ts';
import { SynapseUser } from './synapse-user.ts';
import { pythonWithSynapse } from './synapse-install.ts';

/** The first start creates some 150 tables. */
const START_TIMEOUT_MS = 90_000;

/** Never reached by what we do here. */
const UNLIMITED = { per_second: 1_000_000, burst_count: 1_000_000 };
const RATE_LIMITS = {
  rc_message: UNLIMITED,
  rc_registration: UNLIMITED,
  rc_login: { address: UNLIMITED, account: UNLIMITED, failed_attempts: UNLIMITED },
  rc_joins: { local: UNLIMITED, remote: UNLIMITED },
  rc_joins_per_room: UNLIMITED,
  rc_invites: { per_room: UNLIMITED, per_user: UNLIMITED, per_issuer: UNLIMITED },
  rc_room_creation: UNLIMITED,
  rc_federation: { window_size: 1_000, sleep_limit: 100_000, sleep_delay: 1, reject_limit: 100_000, concurrent: 100 },
};

export interface SynapseOptions {
  /** Its name in user ids and to other servers, such as `localhost:18448`; where a proxy stands before it, the proxy's. */
  readonly serverName: string;
  /** Holds configuration, keys, database and log; made if missing. */
  readonly directory: string;
  /** Its federation listener shows this certificate; it trusts this authority and no other. */
  readonly certificates: CertificateFiles;
  /** Ports on 127.0.0.1, free ones when absent. Without a proxy `federationPort` is the one in the server name. */
  readonly federationPort?: number;
  readonly clientPort?: number;
  readonly env: Environment;
  readonly progress: Progress;
}

export interface LocalSynapse {
  readonly serverName: string;
  /** Of its client-server API, over HTTP. */
  readonly clientUrl: string;
  readonly federationPort: number;
  /** Registers a user (by the shared secret, over HTTP) and logs in. */
  registerUser(localpart: string): Promise<SynapseUser>;
  stop(): Promise<void>;
}

interface Settings {
  readonly federationPort: number;
  readonly clientPort: number;
  readonly sharedSecret: string;
}

function listener(port: number, tls: boolean, resource: 'client' | 'federation'): object {
  return {
    port,
    tls,
    type: 'http',
    bind_addresses: ['127.0.0.1'],
    x_forwarded: false,
    resources: [{ names: [resource] }],
  };
}

/** homeserver.yaml; JSON is YAML. */
function configuration(options: SynapseOptions, { federationPort, clientPort, sharedSecret }: Settings): string {
  const within = (name: string): string => join(options.directory, name);
  return JSON.stringify(
    {
      server_name: options.serverName,
      public_baseurl: `http://127.0.0.1:${clientPort}/`,
      report_stats: false,
      pid_file: within('homeserver.pid'),
      log_config: within('log.yaml'),
      media_store_path: within('media'),
      signing_key_path: within('signing.key'),
      database: { name: 'sqlite3', args: { database: within('homeserver.db') } },
      listeners: [listener(clientPort, false, 'client'), listener(federationPort, true, 'federation')],
      tls_certificate_path: options.certificates.certificateFile,
      tls_private_key_path: options.certificates.keyFile,
      federation_custom_ca_list: [options.certificates.authorityFile],
      // Everything here is on the loopback address, which Synapse would not talk to otherwise.
      ip_range_blacklist: [],
      federation_ip_range_blacklist: [],
      trusted_key_servers: [],
      registration_shared_secret: sharedSecret,
      macaroon_secret_key: sharedSecret,
      form_secret: sharedSecret,
      // The cheapest: passwords here protect nothing, and 200 dear ones take a minute.
      bcrypt_rounds: 4,
      presence: { enabled: false },
      ...RATE_LIMITS,
    },
    undefined,
    2,
  );
}

/** Warnings and worse on standard error, which goes into synapse.log. */
const LOG_CONFIGURATION = JSON.stringify({
  version: 1,
  formatters: { line: { format: '%(asctime)s %(levelname)s %(name)s %(request)s %(message)s' } },
  filters: { context: { '()': 'synapse.logging.context.LoggingContextFilter', request: '' } },
  handlers: { stream: { class: 'logging.StreamHandler', formatter: 'line', filters: ['context'] } },
  root: { level: 'WARNING', handlers: ['stream'] },
  disable_existing_loggers: false,
});

/** Registration by whoever knows the secret: Synapse's `/_synapse/admin/v1/register`. */
async function register(clientUrl: string, sharedSecret: string, localpart: string): Promise<SynapseUser> {
  const guest = new SynapseUser(clientUrl, '', '');
  const { nonce } = await guest.call('GET', '/_synapse/admin/v1/register');
  const password = randomBytes(9).toString('base64url');
  const mac = createHmac('sha1', sharedSecret)
    .update([nonce, localpart, password, 'notadmin'].join('\0'))
    .digest('hex');
  const body = { nonce, username: localpart, password, admin: false, mac };
  const answer = await guest.call('POST', '/_synapse/admin/v1/register', body);
  return new SynapseUser(clientUrl, String(answer['user_id']), String(answer['access_token']));
}

/** Starts Synapse and waits until it answers. Throws a `LaunchError` when Python or the package can't be had. */
export async function launchSynapse(options: SynapseOptions): Promise<LocalSynapse> {
  const python = await pythonWithSynapse(options.env, options.progress);
  await mkdir(options.directory, { recursive: true });
  const settings: Settings = {
    federationPort: await choosePort(options.federationPort, "Synapse's federation"),
    clientPort: await choosePort(options.clientPort, "Synapse's client API"),
    sharedSecret: randomBytes(16).toString('hex'),
  };
  const configFile = join(options.directory, 'homeserver.yaml');
  await writeFile(join(options.directory, 'log.yaml'), LOG_CONFIGURATION);
  await writeFile(configFile, configuration(options, settings), { mode: 0o600 });
  const child = await startChild({
    name: 'Synapse',
    command: python,
    // Makes its signing key where it is missing, then runs.
    args: ['-m', 'synapse.app.homeserver', '-c', configFile],
    env: { PATH: options.env['PATH'], HOME: options.env['HOME'], PYTHONUNBUFFERED: '1' },
    logFile: join(options.directory, 'synapse.log'),
    stopSignal: 'TERM',
    cwd: options.directory,
  });
  const clientUrl = `http://127.0.0.1:${settings.clientPort}`;
  try {
    await child.waitUntil(
      async () => (await acceptsConnections(settings.clientPort)) && acceptsConnections(settings.federationPort),
      START_TIMEOUT_MS,
    );
  } catch (error) {
    await child.stop();
    throw error;
  }
  return {
    serverName: options.serverName,
    clientUrl,
    federationPort: settings.federationPort,
    registerUser: (localpart) => register(clientUrl, settings.sharedSecret, localpart),
    stop: () => child.stop(),
  };
}
