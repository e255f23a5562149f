/**
 * Client libraries that we did not write live in a room from the first second, at a `serve` process that is not the one which other
 * servers reach: what they wait for is committed by that one, or by the worker. One such process hears of commits, the other cannot.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { ensureCertificateFiles } from '../../src/launch/certificates.ts';
import { createPopulatedRoom } from '../../src/launch/synapse-room.ts';
import { type EventId } from '../../src/matrix/identifiers.ts';
import { startSimulator } from '../../src/simulator/simulator.ts';
import { LIBRARIES } from '../support/client-libraries.ts';
import {
  type ProcessesPeer,
  type RejoinderProcesses,
  type ServeChild,
  eventually,
  startProcesses,
} from '../support/processes.ts';
import { SIMULATOR_SEED } from '../support/simulator.ts';
import { startTestSynapse, whySynapseIsMissing } from '../support/synapse.ts';
import { type TakingTurns, startTakingTurns } from '../support/taking-turns.ts';
import { type TcpGate, startTcpGate } from '../support/tcp-gate.ts';

const SOON = { timeout: 20_000, interval: 100 };
const TEST_MS = 120_000;
const SIMULATED_MEMBERS = 40;
const SYNAPSE_MEMBERS = 6;
/** Each test has one of its own. */
const ROOMS = 12;

/** A room of another server, with many members. */
interface PeerRoom {
  readonly alias: string;
  readonly roomId: string;
  /** One of its members says something. */
  says(body: string): Promise<string>;
  has(eventId: string): Promise<boolean>;
}

/** The other servers. */
interface Peer extends ProcessesPeer {
  /** Users who are joined to each of its rooms. */
  readonly members: number;
  room(): Promise<PeerRoom>;
  /** From now on nobody gets the whole state of a room, until it is let go. */
  holdState(): Promise<{ held(): Promise<void>; letGo(): Promise<void> }>;
  stop(): Promise<void>;
}

async function simulated(): Promise<Peer> {
  const folder = await mkdtemp(join(tmpdir(), 'rejoinder-libraries-'));
  const certificates = await ensureCertificateFiles(folder, [], systemClock);
  const shape = { roomVersion: '11', members: SIMULATED_MEMBERS, servers: 6, messages: 10 };
  const simulator = await startSimulator({
    ...{ seed: SIMULATOR_SEED, residents: 3, rooms: Array.from({ length: ROOMS }, () => shape) },
    joinersAuthorityPem: await readFile(certificates.authorityFile, 'utf8'),
  });
  const rooms = [...simulator.rooms];
  return {
    certificates,
    simulator,
    members: SIMULATED_MEMBERS,
    room: async () => {
      const { alias, roomId } = rooms.pop()!;
      const [sender] = await simulator.speakers(roomId, 1);
      return {
        ...{ alias, roomId },
        says: async (body) => {
          const content = { msgtype: 'm.text', body };
          const [eventId] = await simulator.emit(roomId, [{ sender: sender!, type: 'm.room.message', content }]);
          return eventId!;
        },
        has: (eventId) => simulator.holds(roomId, eventId as EventId),
      };
    },
    holdState: async () => {
      const fault = await simulator.inject({ fault: { kind: 'hold', at: { share: 0.5 } }, endpoint: 'state' });
      return {
        held: () => fault.held(),
        letGo: async () => {
          await fault.remove();
          await fault.release();
        },
      };
    },
    stop: async () => {
      await simulator.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function real(): Promise<Peer> {
  const synapse = await startTestSynapse();
  let rooms = 0;
  return {
    certificates: synapse.certificates,
    members: SYNAPSE_MEMBERS,
    room: async () => {
      rooms += 1;
      const { owner, alias, roomId } = await createPopulatedRoom({
        ...{ synapse, members: SYNAPSE_MEMBERS, roomVersion: '11', aliasLocalpart: `library${rooms}` },
        progress: () => undefined,
      });
      const path = `/_matrix/client/v3/rooms/${encodeURIComponent(roomId)}/event/`;
      return {
        ...{ alias, roomId },
        says: (body) => owner.sendMessage(roomId, body),
        has: (eventId) =>
          owner.call('GET', `${path}${encodeURIComponent(eventId)}`).then(
            () => true,
            () => false,
          ),
      };
    },
    holdState: () => {
      const match = /^GET \/_matrix\/federation\/v1\/state\//;
      const fault = synapse.proxy.inject({ match, fault: { kind: 'hold', afterBytes: 1_000 } });
      return Promise.resolve({
        held: () => fault.held,
        letGo: () => {
          fault.remove();
          fault.release();
          return Promise.resolve();
        },
      });
    },
    stop: () => synapse.stop(),
  };
}

const LAZILY = { way: 'lazily', isLazy: true };
const EAGERLY = { way: 'eagerly', isLazy: false };
const HEARS = { place: 'a process that hears of commits', isDeaf: false };
const CANNOT_HEAR = { place: 'a process that cannot hear of commits', isDeaf: true };
const IN_TURN = { place: 'two processes that are asked in turn', isDeaf: false };
type Place = typeof HEARS;
/** Who the other servers are makes no difference to how a process hears of commits: among one kind of them is enough. */
const PEERS = [
  { servers: 'simulated servers', startPeer: simulated, processes: [IN_TURN, CANNOT_HEAR], missing: undefined },
  { servers: 'a real Synapse', startPeer: real, processes: [HEARS], missing: await whySynapseIsMissing() },
];

for (const { servers, startPeer, processes, missing } of PEERS) {
  describe.skipIf(missing !== undefined)(`in a room of ${servers}`, () => {
    let peer: Peer;
    let rejoinder: RejoinderProcesses;
    let gate: TcpGate;
    let hearing: ServeChild;
    let deaf: ServeChild;
    let turns: TakingTurns;
    beforeAll(async () => {
      peer = await startPeer();
      rejoinder = await startProcesses(peer);
      const database = new URL(rejoinder.databaseUrl);
      gate = await startTcpGate(database.host);
      const throughGate = new URL(rejoinder.databaseUrl);
      throughGate.host = gate.address;
      const [first] = await Promise.all([rejoinder.serve(), ...[1, 2, 3].map(() => rejoinder.worker())]);
      hearing = await rejoinder.serve({ beside: { databaseUrl: rejoinder.databaseUrl } });
      turns = await startTakingTurns([first, hearing].map(({ clientUrl }) => Number(new URL(clientUrl).port)));
      if (!processes.includes(CANNOT_HEAR)) return;
      deaf = await rejoinder.serve({ beside: { databaseUrl: throughGate.href } });
      // It has listened once, and never will again.
      await eventually('it is cut off', () => Promise.resolve(gate.deafen() > 0 ? true : undefined));
    });
    afterAll(async () => {
      turns.stop();
      await rejoinder.stop();
      await gate.stop();
      await peer.stop();
    });

    const urlOf = (place: Place): string => {
      if (place.place === IN_TURN.place) return `http://127.0.0.1:${turns.port}`;
      return (place.isDeaf ? deaf : hearing).clientUrl;
    };

    /** Made anew for each test, as its users are. */
    let users = 0;
    const newName = (): string => `user${(users += 1)}`;
    const hold = async () => {
      const state = await peer.holdState();
      onTestFinished(() => state.letGo());
      return state;
    };

    describe.each(LIBRARIES)('$library', ({ start }) => {
      const livesIn = processes.flatMap((process) => [LAZILY, EAGERLY].map((way) => ({ ...way, ...process })));
      test.each(livesIn)(
        'registers, joins, syncs $way, talks, asks for the members and leaves, at $place',
        async ({ isLazy, ...place }) => {
          const room = await peer.room();
          const client = await start(urlOf(place), newName(), isLazy);
          const state = await hold();
          const roomId = await client.join(room.alias);
          expect(roomId).toBe(room.roomId);
          const early = await client.say(roomId, 'while it is partial');
          await expect.poll(() => room.has(early), SOON).toBe(true);
          const answer = await room.says('and back');
          if (isLazy) {
            await expect.poll(() => client.hasHeard(roomId, early), SOON).toBe(true);
            await expect.poll(() => client.hasHeard(roomId, answer), SOON).toBe(true);
          }
          await state.held();
          let isTold = false;
          const told = client.joined(roomId).finally(() => (isTold = true));
          expect(await client.joinedRooms()).toEqual([roomId]);
          expect([client.hasHeard(roomId, early), isTold]).toEqual([isLazy, false]);

          await state.letGo();
          expect(new Set(await told).size).toBe(peer.members + 1);
          for (const eventId of [early, answer]) {
            await expect.poll(() => client.hasHeard(roomId, eventId), SOON).toBe(true);
          }
          const late = await client.say(roomId, 'when it is whole');
          await expect.poll(() => room.has(late), SOON).toBe(true);
          const last = await room.says('and back again');
          for (const eventId of [late, last]) {
            await expect.poll(() => client.hasHeard(roomId, eventId), SOON).toBe(true);
          }
          await client.leave(roomId);
          await expect.poll(() => client.hasLeft(roomId), SOON).toBe(true);
          expect(await client.joinedRooms()).toEqual([]);
        },
        TEST_MS,
      );

      // Whoever waits for /members waits the same, however he syncs.
      const leavesFrom = processes.map((process) => ({ ...(process.isDeaf ? EAGERLY : LAZILY), ...process }));
      test.each(leavesFrom)(
        'that syncs $way leaves while the room is partial, and whoever waits for its members is told them as of the leave, at $place',
        async ({ isLazy, ...place }) => {
          const room = await peer.room();
          const client = await start(urlOf(place), newName(), isLazy);
          const state = await hold();
          const roomId = await client.join(room.alias);
          const said = await client.say(roomId, 'hello, and goodbye');
          await state.held();
          let isTold = false;
          const told = client.membersOnceIn(roomId).finally(() => (isTold = true));
          if (isLazy) await expect.poll(() => client.hasHeard(roomId, said), SOON).toBe(true);

          await client.leave(roomId);
          expect(await client.joinedRooms()).toEqual([]);
          expect(isTold).toBe(false);
          // To an eager client the room was never shown.
          if (isLazy) await expect.poll(() => client.hasLeft(roomId), SOON).toBe(true);
          else expect([client.hasHeard(roomId, said), client.hasLeft(roomId)]).toEqual([false, false]);
          await client.leave(roomId);

          await state.letGo();
          expect(new Set(await told).size).toBe(peer.members);
        },
        TEST_MS,
      );
    });
  });
}
