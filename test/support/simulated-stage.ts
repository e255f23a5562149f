/** A simulated federation and a Rejoinder that is to join a room of it, in one process. */
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { type FederationTimeouts } from '../../src/federation/client.ts';
import { ensureCertificateFiles } from '../../src/launch/certificates.ts';
import { type RoomAlias, type RoomId, type UserId } from '../../src/matrix/identifiers.ts';
import { joinRoom } from '../../src/rooms/join/join.ts';
import { type SimulatorOptions } from '../../src/simulator/contract.ts';
import { type TestRejoinder, startTestRejoinder } from './rejoinder.ts';
import { type TestSimulator, startTestSimulator, staticAddressesOf } from './simulator.ts';

const signal = new AbortController().signal;

export interface SimulatedStage {
  readonly simulator: TestSimulator;
  readonly ours: TestRejoinder;
  /** Of the room. */
  readonly roomId: RoomId;
  readonly userId: UserId;
}

/** A room on 40 servers unless told otherwise, and a Rejoinder that is not in it yet. */
export async function simulatedStage(
  room: Parameters<typeof startTestSimulator>[0] = {},
  timeouts: Partial<FederationTimeouts> = {},
  options: Partial<SimulatorOptions> = {},
): Promise<SimulatedStage> {
  const folder = await mkdtemp(join(tmpdir(), 'rejoinder-simulated-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const certificates = await ensureCertificateFiles(folder, [], systemClock);
  const joinersAuthorityPem = await readFile(certificates.authorityFile, 'utf8');
  const simulator = await startTestSimulator(
    { members: 300, servers: 40, ...room },
    { joinersAuthorityPem, ...options },
  );
  const ours = await startTestRejoinder(
    { certificates },
    {
      authorityPem: simulator.authorityPem,
      places: staticAddressesOf(simulator),
      notaries: simulator.residents.slice(0, 1),
      timeouts,
    },
  );
  const userId = `@me:${ours.context.serverName}` as UserId;
  return { simulator, ours, roomId: simulator.room.roomId, userId };
}

export function joinIt({ simulator, ours, userId }: SimulatedStage) {
  return joinRoom(ours.context, { room: simulator.room.alias as RoomAlias, userId, via: [], signal });
}

/** Our current state, as the simulator sums up its own. */
export async function digestOf({ ours, roomId }: SimulatedStage) {
  const reading = await ours.reads.state(roomId, { waitMs: 0, members: true, signal });
  if (!reading.ready) throw new Error(reading.reason);
  const eventIds: string[] = [];
  for await (const page of reading.pages) eventIds.push(...page.map(({ eventId }) => eventId));
  return {
    digest: createHash('sha256').update(eventIds.sort().join('\n')).digest('hex'),
    events: eventIds.length,
    joined: (await ours.reads.describeRoom(roomId)).membersKnown,
  };
}
