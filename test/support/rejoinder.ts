/** A whole Rejoinder in one test process, without Temporal: the loop that the workflow runs is called directly. */
import { readFile } from 'node:fs/promises';
import { onTestFinished, vi } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { assembleRooms } from '../../src/cli/process/assemble-rooms.ts';
import { type FederationTimeouts } from '../../src/federation/client.ts';
import { createFederationServer } from '../../src/federation-api/server.ts';
import { type StaticAddress } from '../../src/federation/static-addresses.ts';
import { deviceAnswers } from '../../src/devices/devices.ts';
import { receiveEdus } from '../../src/edus/receive-edus.ts';
import { freePort } from '../../src/launch/ports.ts';
import { type RoomId, type ServerName } from '../../src/matrix/identifiers.ts';
import { type Metrics, createMetrics } from '../../src/metrics.ts';
import { defaultResyncPolicy } from '../../src/resync/policy.ts';
import { type RoomsContext } from '../../src/rooms/context.ts';
import { type RoomReads } from '../../src/rooms/contract.ts';
import { operatorReads } from '../../src/rooms/read/for-operators.ts';
import { createDirectory } from '../../src/rooms/directory/directory.ts';
import { residentAnswers } from '../../src/rooms/resident/answers.ts';
import { inviteReceiver } from '../../src/rooms/invites/invite-receiver.ts';
import { residentMemberships } from '../../src/rooms/resident/memberships.ts';
import { startReceiver } from '../../src/rooms/receive/receive.ts';
import { readBacklog } from '../../src/store/tables/staged-reads.ts';
import { ourKey, silent } from '../federation/tls-server.ts';
import { driveResync } from './drive-resync.ts';
import { createTestDatabase } from './postgres.ts';
import { type TestSynapse } from './synapse.ts';

export interface TestRejoinder {
  readonly context: RoomsContext;
  readonly reads: RoomReads;
  /** Of everything that happens in it but joins, which tests call themselves. */
  readonly metrics: Metrics;
  /** Rooms whose workflow was rung, in order. */
  readonly rung: RoomId[];
  /** Runs the room's resync until it completes or has to wait; gives the phase it ended in. */
  readonly resync: (roomId: RoomId) => Promise<string>;
  /** Waits until there is a verdict on everything that was pushed of a room. */
  readonly judged: (roomId: RoomId) => Promise<void>;
  /** Stops listening: nobody can ask for our keys any more. */
  readonly goOffline: () => Promise<void>;
}

/** What it meets beside a Synapse. */
export interface MeetsSimulator {
  /** PEM authorities trusted beside that of the certificates. */
  readonly authorityPem: string;
  readonly places: ReadonlyMap<string, StaticAddress>;
  readonly notaries: readonly ServerName[];
  /** Shorter ones, for faults that use them up. */
  readonly timeouts?: Partial<FederationTimeouts>;
}

/** Ports of a Rejoinder behind a proxy: its own, and the one that it is named by. */
export interface BehindProxy {
  readonly listensOn: number;
  readonly reachedAt: number;
}

/** Starts a server that Synapse can reach, over an own database; everything ends with the test. */
export async function startTestRejoinder(
  synapse: Pick<TestSynapse, 'certificates'>,
  simulator?: MeetsSimulator,
  proxied?: BehindProxy,
): Promise<TestRejoinder> {
  const { authorityFile, certificateFile, keyFile } = synapse.certificates;
  const port = proxied?.listensOn ?? (await freePort());
  const serverName = `localhost:${proxied?.reachedAt ?? port}` as ServerName;
  const database = await createTestDatabase();
  const metrics = createMetrics({ version: 'test', role: 'test', clock: systemClock, logger: silent });
  const store = database.openStore({ serverName, onAppended: metrics.onAppended });
  const rung: RoomId[] = [];
  const closing: (() => Promise<void>)[] = [];
  const context = assembleRooms({
    serverName,
    signingKey: ourKey,
    oldSigningKeys: [],
    trustedKeyServers: (simulator?.notaries ?? []).map((notary) => ({ serverName: notary })),
    store,
    federation: {
      addresses: { allowedRanges: ['127.0.0.0/8', '::1/128'] },
      customCa: `${await readFile(authorityFile, 'utf8')}\n${simulator?.authorityPem ?? ''}`,
      staticAddresses: simulator?.places ?? new Map(),
      timeouts: {
        connectMs: 5_000,
        requestMs: 10_000,
        joinMs: 20_000,
        stateMs: 20_000,
        idleMs: 5_000,
        ...simulator?.timeouts,
      },
      limits: { responseBytesMax: 1_000_000, stateBytesMax: 10_000_000 },
      userAgent: 'Rejoinder/test',
    },
    verificationThreads: 1,
    clock: systemClock,
    random: () => 0.5,
    logger: silent,
    metrics,
    policy: defaultResyncPolicy,
    ring: (roomId) => Promise.resolve(void rung.push(roomId)),
    onClose: (_what, close) => closing.push(close),
  });
  const receiver = startReceiver(context);
  const server = createFederationServer({
    serverName,
    signingKey: ourKey,
    tls: { certificatePem: await readFile(certificateFile, 'utf8'), keyPem: await readFile(keyFile, 'utf8') },
    resolveKeys: context.keyRing.resolve,
    bodies: context.verification,
    ports: {
      ...receiver,
      resident: residentAnswers(context),
      memberships: residentMemberships(context),
      directory: createDirectory(context),
      invites: inviteReceiver(context),
      devices: deviceAnswers(context),
      receiveTransaction: async (origin, txnId, transaction) => {
        await receiveEdus(context, origin, transaction.edus ?? []);
        return receiver.receiveTransaction(origin, txnId, transaction);
      },
    },
    clock: systemClock,
    logger: silent,
    version: 'test',
  });
  await server.listen({ port, host: '127.0.0.1' });
  const goOffline = (): Promise<void> => server.close();
  onTestFinished(async () => {
    await receiver.close();
    await Promise.all([goOffline(), ...closing.map((close) => close())]);
    await database.drop();
  });
  const reads = operatorReads(context);
  const judged = async (roomId: RoomId): Promise<void> => {
    const isJudged = async (): Promise<boolean> => (await readBacklog(store, roomId)).staged === 0;
    await vi.waitUntil(isJudged, { timeout: 30_000, interval: 20 });
  };
  const resync = async (roomId: RoomId): Promise<string> => (await driveResync(context, roomId))?.phase ?? 'absent';
  return { context, reads, metrics, rung, resync, judged, goOffline };
}
