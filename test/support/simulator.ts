/** A simulated federation for tests, and a small joining server that meets it with the product's own client and listener. */
import { onTestFinished } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { type FederationClient, type FederationTimeouts } from '../../src/federation/client.ts';
import { type EventStream } from '../../src/federation/contract.ts';
import { type JoinTemplate, buildJoinEvent, readJoinTemplate } from '../../src/federation/join-template.ts';
import { type KnownKey } from '../../src/verification/contract.ts';
import { type KeyRing, createKeyRing } from '../../src/federation/key-ring.ts';
import { type ReceivedTransaction } from '../../src/rooms/contract.ts';
import { createFederationServer } from '../../src/federation-api/server.ts';
import { type StaticAddress, parseStaticAddress } from '../../src/federation/static-addresses.ts';
import { freePort } from '../../src/launch/ports.ts';
import { eventIdOf } from '../../src/matrix/signing/hashes.ts';
import { type EventId, type RoomId, type ServerName, type UserId } from '../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { signEvent } from '../../src/matrix/signing/signatures.ts';
import { type SimulatedRoomSummary, type Simulator, type SimulatorOptions } from '../../src/simulator/contract.ts';
import { seededRandom } from '../../src/simulator/seeded-random.ts';
import { startSimulator } from '../../src/simulator/simulator.ts';
import { ourKey, signal, silent, testAuthority, testClient } from '../federation/tls-server.ts';
import { bodiesReadHere } from './bodies.ts';

/** Shared by all tests of simulators, and printed with every failure of theirs that is about a room. */
export const SIMULATOR_SEED = 4;

export interface TestSimulator extends Simulator {
  /** The only room. */
  readonly room: SimulatedRoomSummary;
}

type RoomOfTest = Partial<SimulatorOptions['rooms'][number]>;

/** In this process; a room of 30 members on 8 servers unless told otherwise. Trusts the authority of the tests. Ends with the test. */
export async function startTestSimulator(
  room: RoomOfTest = {},
  options: Partial<SimulatorOptions> = {},
): Promise<TestSimulator> {
  const simulator = await startSimulator({
    seed: SIMULATOR_SEED,
    residents: 3,
    rooms: [{ roomVersion: '11', members: 30, servers: 8, messages: 10, ...room }],
    joinersAuthorityPem: (await testAuthority()).certificatePem,
    ...options,
  });
  onTestFinished(() => simulator.stop());
  return { ...simulator, room: simulator.rooms[0]! };
}

/** What the setting `federation.static_addresses` is read into. */
export function staticAddressesOf({ staticAddresses }: Pick<Simulator, 'staticAddresses'>): Map<string, StaticAddress> {
  return new Map(Object.entries(staticAddresses).map(([name, place]) => [name, parseStaticAddress(place)!]));
}

/** A join that is ready to be sent. */
export interface PreparedJoin {
  readonly eventId: EventId;
  readonly event: JsonObject;
  readonly template: JoinTemplate;
}

export interface TestJoiner {
  readonly serverName: ServerName;
  readonly userId: UserId;
  readonly client: FederationClient;
  /** Asks the first resident as a notary. */
  readonly keyRing: KeyRing;
  /** The transactions that were pushed to it, in the order they came. */
  readonly received: { readonly origin: ServerName; readonly transaction: ReceivedTransaction }[];
  /** What it answers for each PDU from now on; nothing wrong when absent. */
  refusal: string | undefined;
  prepareJoin(resident: ServerName, roomId: RoomId): Promise<PreparedJoin>;
  /** Joins without asking for memberships and reads the answer to its end. */
  join(resident: ServerName, roomId: RoomId): Promise<PreparedJoin>;
}

/** A server named `localhost:PORT` that hands out its keys and takes transactions. Ends with the test. */
export async function startTestJoiner(
  simulator: Simulator,
  versions: readonly string[] = ['10', '11', '12'],
  timeouts: Partial<FederationTimeouts> = {},
): Promise<TestJoiner> {
  const port = await freePort();
  const serverName = `localhost:${port}` as ServerName;
  const client = await testClient({
    serverName,
    customCa: simulator.authorityPem,
    staticAddresses: staticAddressesOf(simulator),
    limits: { responseBytesMax: 1_000_000, stateBytesMax: 10_000_000 },
    timeouts: { connectMs: 5_000, requestMs: 5_000, joinMs: 5_000, stateMs: 5_000, idleMs: 5_000, ...timeouts },
  });
  const keyRing = createKeyRing({
    serverName,
    signingKey: ourKey,
    client,
    keyStore: createKeyMap(),
    trustedKeyServers: simulator.residents.slice(0, 1).map((resident) => ({ serverName: resident })),
    clock: systemClock,
    logger: silent,
  });
  const userId = `@me:${serverName}` as UserId;
  // Of its own name: two joiners may meet in one room.
  const joins = seededRandom(SIMULATOR_SEED, `joiner ${serverName}`);
  const random = (): number => joins.fraction();
  const prepareJoin = async (resident: ServerName, roomId: RoomId): Promise<PreparedJoin> => {
    const answer = await client.makeJoin(resident, roomId, userId, versions, { signal });
    const reading = readJoinTemplate(answer, versions, { roomId, userId });
    if (!reading.ok) throw new Error(reading.reason);
    const { template } = reading;
    const unsigned = buildJoinEvent(template, { roomId, userId, originServerTs: systemClock.now(), random });
    const event = signEvent(unsigned, template.rules, serverName, ourKey);
    return { event, eventId: eventIdOf(event, template.rules), template };
  };
  const joiner: TestJoiner = {
    serverName,
    userId,
    client,
    keyRing,
    received: [],
    refusal: undefined,
    prepareJoin,
    join: async (resident, roomId) => {
      const prepared = await prepareJoin(resident, roomId);
      const { eventId, event } = prepared;
      const answer = await client.sendJoin(resident, roomId, eventId, event, { signal, omitMembers: true });
      await drain(answer);
      return prepared;
    },
  };
  await listen(joiner, port);
  return joiner;
}

async function drain(stream: EventStream): Promise<void> {
  const batches = stream[Symbol.asyncIterator]();
  while ((await batches.next()).done !== true);
}

async function listen(joiner: TestJoiner, port: number): Promise<void> {
  const { certificatePem, keyPem } = await (await testAuthority()).issue([]);
  const server = createFederationServer({
    serverName: joiner.serverName,
    signingKey: ourKey,
    tls: { certificatePem, keyPem },
    resolveKeys: joiner.keyRing.resolve,
    bodies: bodiesReadHere,
    ports: {
      receiveTransaction: (origin, _txnId, transaction) => {
        joiner.received.push({ origin, transaction });
        const { refusal } = joiner;
        const result = refusal === undefined ? {} : { error: refusal };
        return Promise.resolve({ outcome: 'answered', response: { pdus: { ['$any' as EventId]: result } } });
      },
      roomStatus: () => Promise.resolve('full'),
      statusOfEventsRoom: () => Promise.resolve('full'),
    },
    clock: systemClock,
    logger: silent,
    version: 'test',
  });
  await server.listen({ port, host: '127.0.0.1' });
  onTestFinished(() => server.close());
}

/** A key store that ends with the test. */
function createKeyMap() {
  const keys = new Map<string, KnownKey>();
  return {
    readKeys: (requests: readonly Pick<KnownKey, 'serverName' | 'keyId'>[]) =>
      Promise.resolve(
        requests.map(({ serverName, keyId }) => keys.get(`${serverName} ${keyId}`)).filter((key) => key !== undefined),
      ),
    storeKeys: (found: readonly KnownKey[]) => {
      for (const key of found) keys.set(`${key.serverName} ${key.keyId}`, key);
      return Promise.resolve();
    },
  };
}
