/**
 * What `serve` and `worker` have in common, as the configuration says it: the database, the key, and the context of the use
 * cases over them. Whatever was started is registered with the shutdown at once, so
 * that a failure half-way leaves nothing behind.
 */
import { readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { type Config, requireSetting } from '../../config.ts';
import { systemClock } from '../../clock.ts';
import { type Logger } from '../../logging.ts';
import { type JournalEvent, isOutgoing } from '../../resync/entries.ts';
import { type Metrics } from '../../metrics.ts';
import { type RoomsContext } from '../../rooms/context.ts';
import { ringRoom } from '../../rooms/ring.ts';
import { checkSchema } from '../../store/migrate.ts';
import { type Appended, openStore } from '../../store/open-store.ts';
import { warmUp } from '../../verification/warm-up.ts';
import { CliError } from '../failure.ts';
import { assembleRooms } from './assemble-rooms.ts';
import { loadSigningKey } from './secrets.ts';
import { type Shutdown } from './shutdown.ts';

export interface RoomsOptions {
  readonly config: Config;
  readonly role: 'serve' | 'worker';
  readonly version: string;
  readonly logger: Logger;
  readonly shutdown: Shutdown;
  readonly metrics: Metrics;
  readonly ring: RoomsContext['ring'];
  /** Told of every append. */
  readonly onAppended?: () => void;
  /** Told when there is something for other servers to get. */
  readonly onSaid?: () => void;
  readonly tell?: NonNullable<RoomsContext['tell']>;
}

/** Throws `ConfigError`, `SchemaError`, `SecretFileError` or `CliError`. Tracing is on already. */
export async function buildRooms(options: RoomsOptions): Promise<RoomsContext> {
  const { config, role, version, logger, shutdown, metrics, ring, onAppended, onSaid, tell } = options;
  const { serverName } = config;
  const store = openStore({
    databaseUrl: requireSetting(config.database.url, 'database.url', 'the URL of a PostgreSQL database'),
    serverName,
    poolSizeMax: config.database.poolSize,
    applicationName: `rejoinder ${role}`,
    logger,
    onAppended: (appended) => {
      metrics.onAppended(appended);
      onAppended?.();
      ringForSpeakers(appended, ring, logger);
      if (appended.entries.some(({ event }) => concernsOthers(event))) onSaid?.();
    },
    onCorrectionDue: (roomId) => void ringRoom({ ring, logger }, roomId, 'for a correction'),
  });
  shutdown.add('database', () => store.close());
  await checkSchema(store).catch((error: unknown) => {
    throw asUnreachable(error);
  });

  const threads = availableParallelism();
  const context = assembleRooms({
    serverName,
    signingKey: await loadSigningKey(config),
    oldSigningKeys: config.oldSigningKeys,
    trustedKeyServers: config.trustedKeyServers,
    store,
    federation: {
      addresses: { allowedRanges: config.federation.allowedIpRanges, deniedRanges: config.federation.deniedIpRanges },
      staticAddresses: config.federation.staticAddresses,
      customCa: await readAuthority(config.federation.customCaPath),
      timeouts: {
        connectMs: config.federation.connectTimeoutMs,
        requestMs: config.federation.requestTimeoutMs,
        joinMs: config.federation.joinTimeoutMs,
        stateMs: config.federation.stateTimeoutMs,
        // A body that stands still for as long as a small answer may take as a whole will not go on.
        idleMs: config.federation.requestTimeoutMs,
      },
      limits: {
        responseBytesMax: config.federation.responseBytesMax,
        stateBytesMax: config.federation.stateBytesMax,
      },
      userAgent: `Rejoinder/${version}`,
    },
    verificationThreads: threads,
    clock: systemClock,
    random: Math.random,
    logger,
    metrics,
    policy: config.resync,
    ring,
    ...(tell === undefined ? {} : { tell }),
    onClose: (what, close) => shutdown.add(what, close),
  });
  // Nobody waits for it, and work that comes meanwhile takes its turn.
  void warmUp(context.verification, threads, new AbortController().signal).catch((error: unknown) => {
    logger.debug({ err: error }, 'the verification threads were not warmed up');
  });
  return context;
}

/** Whether other servers are to get something that they have not. */
function concernsOthers(event: JournalEvent): boolean {
  return isOutgoing(event) || event.type === 'ResyncCompleted';
}

/** A server that speaks for the first time ends the wait of its room's resync. A lost ring costs the time of a sweep. */
function ringForSpeakers({ entries }: Appended, ring: RoomsContext['ring'], logger: Logger): void {
  for (const { event, roomId } of entries) {
    if (event.type !== 'SpeakersLearned') continue;
    void ringRoom({ ring, logger }, roomId, 'for a server that speaks');
  }
}

async function readAuthority(path: string | null): Promise<string | undefined> {
  if (path === null) return undefined;
  return readFile(path, 'utf8').catch((error: unknown) => {
    throw new CliError(`federation.custom_ca_path: ${error instanceof Error ? error.message : String(error)}`, {
      hint: 'Name a readable file of PEM certificates.',
      exitCode: 2,
      cause: error,
    });
  });
}

/** What the driver throws says which address; it does not say what to do. */
function asUnreachable(error: unknown): unknown {
  if (error instanceof Error && error.name === 'SchemaError') return error;
  const messages = error instanceof AggregateError ? error.errors.map(String) : [String(error)];
  return new CliError(`the database cannot be used: ${messages.join('; ')}`, {
    hint: 'Start PostgreSQL, or correct database.url (DATABASE_URL).',
    cause: error,
  });
}
