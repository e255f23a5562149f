/** What becomes of a resync whose worker is killed, by real processes: who goes on with it, and by what he heard of the death. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { type CertificateFiles, ensureCertificateFiles } from '../../src/launch/certificates.ts';
import { type RoomId } from '../../src/matrix/identifiers.ts';
import { type Simulator } from '../../src/simulator/contract.ts';
import { startSimulator } from '../../src/simulator/simulator.ts';
import { resyncWorkflowId } from '../../src/temporal/names.ts';
import { type RejoinderProcesses, eventually, startProcesses } from '../support/processes.ts';

const TIMEOUT_MS = 120_000;

let folder: string;
let certificates: CertificateFiles;
let simulator: Simulator;
let rejoinder: RejoinderProcesses;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rejoinder-recovery-'));
  certificates = await ensureCertificateFiles(folder, [], systemClock);
});
afterAll(() => rm(folder, { recursive: true, force: true }));
beforeEach(async () => {
  simulator = await startSimulator({
    seed: 12,
    residents: 1,
    rooms: [{ roomVersion: '11', members: 200, servers: 4, messages: 5 }],
    joinersAuthorityPem: await readFile(certificates.authorityFile, 'utf8'),
  });
  rejoinder = await startProcesses({ certificates, simulator });
});
afterEach(async () => {
  await simulator.clear();
  await rejoinder.stop();
  await simulator.stop();
});

/** Joins the room, and resolves when half of its state is on its way to a worker; `release` lets the rest come. */
async function joinUntilHeld(): Promise<{ readonly roomId: RoomId; release(): Promise<void> }> {
  const held = await simulator.inject({ fault: { kind: 'hold', at: { share: 0.5 } }, endpoint: 'state' });
  const [room] = simulator.rooms;
  await rejoinder.ask('/rooms/join', { room: room!.alias, user_id: 'me' });
  await held.held();
  return { roomId: room!.roomId, release: () => held.release() };
}

interface Started {
  readonly attempt: number;
  readonly lastFailure?: {
    readonly message?: string | null;
    readonly timeoutFailureInfo?: { readonly timeoutType: number } | null;
  };
}

/** The begins of the room's fetch, as its history has them once it is whole. */
async function fetchOf(roomId: RoomId): Promise<Started> {
  const run = rejoinder.temporal.workflow.getHandle(resyncWorkflowId(roomId));
  await eventually('the room is whole', async () => {
    const rows = await rejoinder.store.query(`SELECT FROM journal WHERE room_id = $1 AND type = 'ResyncCompleted'`, [
      roomId,
    ]);
    return rows.length > 0 ? true : undefined;
  });
  const { events } = await run.fetchHistory();
  const scheduled = events?.find(
    ({ activityTaskScheduledEventAttributes: it }) => it?.activityType?.name === 'fetchState',
  );
  const started = events?.find(({ activityTaskStartedEventAttributes: it }) =>
    it?.scheduledEventId?.eq(scheduled?.eventId ?? -1),
  );
  return started?.activityTaskStartedEventAttributes as Started;
}

async function journalled(): Promise<readonly string[]> {
  const rows = await rejoinder.store.query<{ type: string }>(
    `SELECT type FROM journal WHERE stream = 'resync' AND type LIKE 'State%' ORDER BY position`,
  );
  return rows.map(({ type }) => type);
}

test(
  'a worker that starts ends what the killed one before it on this machine has left, and goes on with it under its number',
  async (context) => {
    const [, worker] = await Promise.all([rejoinder.serve(), rejoinder.worker({ endedBy: 'KILL' })]);
    const held = await joinUntilHeld();
    const { roomId } = held;
    const killedAt = performance.now();
    await worker.stop();
    await held.release();
    await rejoinder.worker();
    const { attempt, lastFailure } = await fetchOf(roomId);
    await context.annotate(
      `whole ${Math.round(performance.now() - killedAt)} ms after the kill, the start of a worker included`,
    );
    // Told by the worker that started, not by the silence of the dead one.
    expect({ attempt, message: lastFailure?.message }).toEqual({
      attempt: 2,
      message: expect.stringMatching(/^its worker, .*, has ended$/),
    });
    expect(await journalled()).toEqual(['StateFetchStarted', 'StateFetched']);
  },
  TIMEOUT_MS,
);

test(
  'another worker goes on with what a killed one had under way, after its silence',
  async (context) => {
    const [, worker] = await Promise.all([rejoinder.serve(), rejoinder.worker({ endedBy: 'KILL' })]);
    const held = await joinUntilHeld();
    const { roomId } = held;
    await rejoinder.worker();
    const killedAt = performance.now();
    await worker.stop();
    await held.release();
    const { attempt, lastFailure } = await fetchOf(roomId);
    await context.annotate(
      `whole ${Math.round(performance.now() - killedAt)} ms after the kill, beside another worker`,
    );
    expect({ attempt, type: lastFailure?.timeoutFailureInfo?.timeoutType }).toEqual({ attempt: 2, type: 4 });
    expect(await journalled()).toEqual(['StateFetchStarted', 'StateFetched']);
  },
  TIMEOUT_MS,
);
