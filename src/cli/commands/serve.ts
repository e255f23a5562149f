/** `rejoinder serve`: the listeners, for other homeservers, for Matrix clients, and for the command line and operators. */
import { availableParallelism } from 'node:os';
import { createAccounts } from '../../accounts/accounts.ts';
import { providingAliases } from '../../app-services/provide-aliases.ts';
import { createPasswords } from '../../accounts/passwords.ts';
import { systemClock } from '../../clock.ts';
import { type Config, type ListenerConfig, loadConfig, requireSetting } from '../../config.ts';
import { type Environment } from '../../config/sources.ts';
import { createDevices, deviceAnswers } from '../../devices/devices.ts';
import { startTellingDevices } from '../../devices/telling.ts';
import { startPassing } from '../../edus/passing.ts';
import { receiveEdus } from '../../edus/receive-edus.ts';
import { createFederationServer } from '../../federation-api/server.ts';
import { type Logger, createLogger } from '../../logging.ts';
import { createOperatorServer } from '../../operator/server.ts';
import { createMetrics } from '../../metrics.ts';
import { type JoinRoom } from '../../metrics/joins.ts';
import { createDirectory } from '../../rooms/directory/directory.ts';
import { joinRoom } from '../../rooms/join/join.ts';
import { createJoinGate } from '../../rooms/join/join-gate.ts';
import { commandRoom } from '../../rooms/operate/command-room.ts';
import { retryRoomsOf } from '../../rooms/operate/retry-rooms.ts';
import { startPurging } from '../../rooms/purge/purges.ts';
import { journalReads } from '../../rooms/read/follow-journal.ts';
import { createBackfill } from '../../rooms/read/backfill.ts';
import { clientReads } from '../../rooms/read/for-clients.ts';
import { startUserDirectory } from '../../rooms/directory/user-directory.ts';
import { createTimeSearch } from '../../rooms/read/time-search.ts';
import { operatorReads } from '../../rooms/read/for-operators.ts';
import { residentAnswers } from '../../rooms/resident/answers.ts';
import { inviteReceiver } from '../../rooms/invites/invite-receiver.ts';
import { startFirstInvites } from '../../rooms/invites/first-invites.ts';
import { outsideActs } from '../../rooms/invites/outside-acts.ts';
import { residentMemberships } from '../../rooms/resident/memberships.ts';
import { clientActs } from '../../rooms/send/client-acts.ts';
import { startFinishingUpgrades } from '../../rooms/send/finish-upgrades.ts';
import { startTellingProfiles } from '../../rooms/send/tell-profile.ts';
import { hearResidents } from '../../rooms/resync/residents-heard.ts';
import { startReceiver } from '../../rooms/receive/receive.ts';
import { type Sending, startSending } from '../../sending/sending.ts';
import { startTelemetry } from '../../telemetry.ts';
import { startAppServices } from '../process/app-services.ts';
import { readCertificate } from '../process/certificate.ts';
import { createSync } from '../../sync/sync.ts';
import { buildClientServer } from '../process/client-server.ts';
import { openListener } from '../process/listen.ts';
import { openMetrics } from '../process/metrics.ts';
import { startRinger } from '../process/ringer.ts';
import { buildRooms } from '../process/rooms.ts';
import { loadOperatorToken } from '../process/secrets.ts';
import { Shutdown, aborted } from '../process/shutdown.ts';

export interface ProcessOptions {
  readonly env: Environment;
  readonly config?: string;
  readonly version: string;
  /** Aborted when the process is asked to stop. */
  readonly stop: AbortSignal;
}

/** Runs until it is asked to stop. */
export async function serve({ env, config: path, version, stop }: ProcessOptions): Promise<void> {
  const config = loadConfig({ path, env });
  const logger = createLogger(config.log);
  const shutdown = new Shutdown();
  try {
    await startServing(config, version, logger, shutdown);
    await aborted(stop);
    logger.info('stopping');
  } finally {
    await shutdown.run(logger);
  }
}

async function startServing(config: Config, version: string, logger: Logger, shutdown: Shutdown): Promise<void> {
  const address = requireSetting(config.temporal.address, 'temporal.address', 'the address of a Temporal server');
  const telemetry = startTelemetry({ otlpEndpoint: config.telemetry.otlpEndpoint, role: 'serve', logger });
  shutdown.add('telemetry', () => telemetry.shutdown());
  const target = { ...config.temporal, address };
  const ringer = await startRinger({ target, tracer: telemetry.tracer, clock: systemClock, logger });
  shutdown.add('temporal', () => ringer.close());
  const metrics = createMetrics({ version, role: 'serve', clock: systemClock, logger });
  const started: { sending?: Sending; tellServices?: () => void } = {};
  const rooms = await buildRooms({
    config,
    role: 'serve',
    version,
    logger,
    shutdown,
    metrics,
    ring: (roomId) => ringer.ring(roomId),
    onSaid: () => started.sending?.poke(),
    onAppended: () => started.tellServices?.(),
    tell: async (...what) => started.sending?.tell(...what),
  });

  const opened = await openMetrics({ name: 'metrics', listener: config.listeners.metrics, metrics, logger, shutdown });

  const { listeners } = config;
  const accounts = createAccounts({
    store: rooms.store,
    clock: systemClock,
    passwords: createPasswords(),
    accessTokenMs: config.clientApi.accessTokenLifetimeMs,
    devicesMax: config.clientApi.devicesPerUserMax,
  });
  const { appServices, steering, poke } = await startAppServices({
    config,
    version,
    rooms,
    accounts,
    metrics,
    shutdown,
  });
  started.tellServices = poke;
  const directory = providingAliases(createDirectory(rooms), appServices);
  const { provideUser } = appServices;
  const tls = await readCertificate('federation', listeners.federation.tls);
  const sending = startSending(rooms);
  started.sending = sending;
  shutdown.add('sending', () => sending.close());
  const telling = startTellingDevices({ ...rooms, onSaid: () => sending.poke() });
  shutdown.add('telling of devices', () => telling.close());
  const profiles = startTellingProfiles(rooms);
  shutdown.add('telling of profiles', () => profiles.close());
  const outside = outsideActs(rooms);
  const invites = startFirstInvites(rooms, outside);
  shutdown.add('invites to new rooms', () => invites.close());
  const upgrades = startFinishingUpgrades(rooms, (...room) => accounts.followRoom(...room));
  shutdown.add('upgrades of rooms', () => upgrades.close());
  const users = startUserDirectory(rooms);
  shutdown.add('directory of users', () => users.close());
  const passing = startPassing({ ...rooms, onSaid: () => sending.poke() });
  shutdown.add('what passes', () => passing.close());
  const residents = hearResidents(rooms);
  shutdown.add('residents heard', () => residents.close());
  const receiver = startReceiver(rooms);
  shutdown.add('receiving', () => receiver.close());
  const federation = createFederationServer({
    serverName: config.serverName,
    signingKey: rooms.signingKey,
    oldSigningKeys: config.oldSigningKeys,
    ...(tls === undefined ? {} : { tls }),
    resolveKeys: rooms.keyRing.resolve,
    bodies: rooms.verification,
    ports: {
      ...receiver,
      resident: residentAnswers(rooms),
      memberships: residentMemberships(rooms),
      directory,
      profileOf: async (userId) => {
        const known = await accounts.knownProfile(userId);
        return known ?? ((await provideUser(userId)) ? accounts.knownProfile(userId) : undefined);
      },
      invites: inviteReceiver({ ...rooms, provideUser }),
      devices: deviceAnswers(rooms),
      receiveTransaction: async (origin, txnId, transaction) => {
        sending.heardFrom(origin);
        residents.heardFrom(
          origin,
          transaction.pdus.map(({ roomId }) => roomId),
        );
        await receiveEdus({ ...rooms, passing, onDropped: metrics.onDroppedEdus }, origin, transaction.edus ?? []);
        return receiver.receiveTransaction(origin, txnId, transaction);
      },
    },
    clock: systemClock,
    logger,
    version,
  });
  const purges = startPurging(rooms);
  shutdown.add('purges', () => purges.close());
  const gate = createJoinGate({ slots: 2 * availableParallelism() });
  metrics.watchOpenJoins(gate);
  const join: JoinRoom = (request) => gate.run(request.signal, () => joinRoom(rooms, request));
  const operator = createOperatorServer({
    serverName: config.serverName,
    version,
    token: await loadOperatorToken(config),
    membersWaitMaxMs: config.operator.membersWaitMaxMs,
    ports: {
      ...operatorReads(rooms),
      joinRoom: metrics.countJoins(join),
      commandRoom: (roomId, command, by) => commandRoom(rooms, roomId, command, by),
      retryRooms: (resident, from, by) => retryRoomsOf(rooms, resident, from, by),
      journal: metrics.countJournalReaders(journalReads(rooms)),
      purges,
      users: accounts,
      services: steering,
    },
    logger,
    clock: systemClock,
  });
  const client = await buildClientServer({
    config,
    accounts,
    appServices,
    devices: createDevices({ ...rooms, onSaid: () => sending.poke() }),
    passing,
    reads: clientReads(rooms, { backfill: createBackfill(rooms), search: createTimeSearch(rooms) }),
    directory,
    acts: clientActs(rooms, {
      join: metrics.countJoins(join),
      outside,
      profileChanged: () => profiles.poke(),
      isClosing: () => invites.isClosing(),
      followRoom: (...room) => accounts.followRoom(...room),
    }),
    purges,
    sync: createSync(rooms),
    clock: systemClock,
    logger,
  });
  shutdown.add('federation listener', () => federation.close());
  const federationPort = await openListener(federation, 'federation', listeners.federation);
  shutdown.add('client listener', () => client.close());
  const clientPort = await openListener(client, 'client', listeners.client);
  shutdown.add('operator listener', () => operator.close());
  const operatorPort = await openListener(operator, 'operator', listeners.operator);
  logger.info(
    {
      serverName: config.serverName,
      federation: placeOf(listeners.federation, federationPort),
      client: placeOf(listeners.client, clientPort),
      operator: `${listeners.operator.host}:${operatorPort}`,
      ...opened,
    },
    'serving',
  );
}

function placeOf({ host, tls }: ListenerConfig & { readonly tls: unknown }, port: number): string {
  return `${host}:${port}${tls === null ? ' (plain HTTP)' : ''}`;
}
