/**
 * `resyncRoom` on a real Temporal server, with the real activities over a real database and a small resident. With
 * RECORD_HISTORIES=1 (scripts/record-histories.ts) the two runs that tests below have looked at become test/histories.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type WorkflowHandle } from '@temporalio/client';
import { historyToJSON } from '@temporalio/common/lib/proto-utils.js';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { createActivities } from '../../activities/index.ts';
import { systemClock } from '../../src/clock.ts';
import { type CertificateFiles, ensureCertificateFiles } from '../../src/launch/certificates.ts';
import { type RoomId, type UserId } from '../../src/matrix/identifiers.ts';
import { type ResyncPolicy, defaultResyncPolicy } from '../../src/resync/policy.ts';
import * as rooms from '../../src/rooms/join/join.ts';
import { type Telemetry, startTelemetry } from '../../src/telemetry.ts';
import { type TemporalClient, connectTemporal } from '../../src/temporal/client.ts';
import { SEARCH_ATTRIBUTES, resyncWorkflowId } from '../../src/temporal/names.ts';
import { installTemporalRuntime } from '../../src/temporal/runtime.ts';
import { startWorker } from '../../src/temporal/worker.ts';
import { silent } from '../federation/tls-server.ts';
import { eventually } from '../support/processes.ts';
import { type TestRejoinder, startTestRejoinder } from '../support/rejoinder.ts';
import { connectTestTemporal } from '../support/temporal.ts';
import { type Resident, startResident } from './resident.ts';

const BUNDLE = fileURLToPath(new URL('../../dist/workflow-bundle.js', import.meta.url));
const HISTORIES = fileURLToPath(new URL('../histories/', import.meta.url));
const MEMBERS = 12;
const signal = new AbortController().signal;

let folder: string;
let certificates: CertificateFiles;
let telemetry: Telemetry;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rejoinder-workflow-test-'));
  certificates = await ensureCertificateFiles(folder, [], systemClock);
  installTemporalRuntime(silent);
  telemetry = startTelemetry({ otlpEndpoint: null, role: 'test', logger: silent });
});
afterAll(async () => {
  await telemetry.shutdown();
  await rm(folder, { recursive: true, force: true });
});

interface Running extends TestRejoinder {
  readonly resident: Resident;
  readonly temporal: TemporalClient;
  readonly run: WorkflowHandle;
  /** Joins the resident's room, which rings the workflow. */
  readonly joinRoom: () => Promise<void>;
}

/** A worker, a resident, and the client that rings, under a prefix of their own. */
async function start(policy: ResyncPolicy = defaultResyncPolicy): Promise<Running> {
  const resident = await startResident(certificates, MEMBERS);
  const rejoinder = await startTestRejoinder({ certificates });
  const names = await connectTestTemporal();
  const { address, namespace, taskQueue, workflowIdPrefix: idPrefix } = names;
  await names.close();
  const target = { address, namespace, taskQueue, idPrefix };
  const temporal = await connectTemporal(target, telemetry.tracer);
  const context = { ...rejoinder.context, policy, ring: (room: RoomId) => temporal.ring(room) };
  const worker = await startWorker({
    target,
    workflowBundlePath: BUNDLE,
    activities: createActivities({ rooms: context, sweepAfterMs: 60_000 }),
    telemetry,
  });
  const { roomId } = resident;
  const run = temporal.client.workflow.getHandle(resyncWorkflowId(roomId, idPrefix));
  onTestFinished(async () => {
    // A test that failed leaves a workflow that waits.
    await run.terminate('the test is over').catch(() => undefined);
    await worker.shutdown();
    await temporal.close();
    await resident.stop();
  });
  return {
    ...rejoinder,
    context,
    resident,
    temporal,
    run,
    joinRoom: async () => {
      const userId = `@me:${context.serverName}` as UserId;
      await rooms.joinRoom(context, { room: roomId, userId, via: [resident.serverName], signal });
    },
  };
}

async function attributesOf(run: WorkflowHandle): Promise<Record<'room' | 'phase' | 'resident', unknown>> {
  const written = (await run.describe()).typedSearchAttributes.getAll();
  const value = (name: string): unknown => written.find(({ key }) => key.name === name)?.value;
  const { room, phase, resident } = SEARCH_ATTRIBUTES;
  return { room: value(room), phase: value(phase), resident: value(resident) };
}

/** What was scheduled, in order. */
async function activitiesOf(run: WorkflowHandle): Promise<string[]> {
  const { events } = await run.fetchHistory();
  return (events ?? []).flatMap((event) => event.activityTaskScheduledEventAttributes?.activityType?.name ?? []);
}

async function untilItWaits(run: WorkflowHandle): Promise<void> {
  await eventually('it waits', async () => {
    const { events } = await run.fetchHistory();
    return (events ?? []).some((event) => event.timerStartedEventAttributes) ? true : undefined;
  });
}

/** Identities are made of process id and host name; a recorded history is nobody's in particular. */
async function record(name: string, run: WorkflowHandle): Promise<void> {
  if (process.env['RECORD_HISTORIES'] === undefined) return;
  const text = historyToJSON(await run.fetchHistory());
  await writeFile(
    join(HISTORIES, `${name}.json`),
    `${text.replaceAll(`${process.pid}@${hostname()}`, '1@localhost')}\n`,
  );
}

const whole = (roomId: RoomId) => ({
  roomId,
  epoch: 1,
  phase: 'complete',
  members: MEMBERS + 1,
  walked: 1,
  corrected: 0,
});

test('a run goes straight from the fetch over the walk to its close, and says so for good', async () => {
  const { joinRoom, run, resident } = await start();
  await joinRoom();
  expect(await run.result()).toEqual(whole(resident.roomId));
  expect(await attributesOf(run)).toEqual({
    room: resident.roomId,
    phase: 'complete',
    resident: resident.serverName,
  });
  const activities = await activitiesOf(run);
  // The ring that starts a run may be heard before or after the first look at the journal.
  expect(activities.filter((name) => name !== 'loadResync')).toEqual(['fetchState', 'walkEvents']);
  await record('straight-through', run);
});

test('a run whose residents all failed sleeps until the next round, and a ring alone does not shorten its sleep', async () => {
  const { joinRoom, run, resident, temporal, context } = await start({
    firstRetryMs: 3_000,
    longestRetryMs: 3_000,
  });
  resident.isWilling = false;
  await joinRoom();
  await untilItWaits(run);
  resident.isWilling = true;
  await temporal.ring(resident.roomId);
  expect(await run.result()).toEqual(whole(resident.roomId));

  expect((await activitiesOf(run)).filter((name) => name !== 'loadResync')).toEqual([
    'fetchState',
    'endRound',
    'fetchState',
    'walkEvents',
  ]);
  const [times] = await context.store.query<{ wakeAt: string; startedAt: string }>(
    `SELECT max(data->>'wakeAt') AS "wakeAt", max(data->>'at') FILTER (WHERE type = 'StateFetchStarted') AS "startedAt"
       FROM journal WHERE stream = 'resync'`,
  );
  expect(Number(times?.startedAt)).toBeGreaterThanOrEqual(Number(times?.wakeAt));
  await record('failed-waited-rung', run);
});

test('a long wait begins with a new run of the same workflow, and a ring wakes it', async () => {
  const hour = 3_600_000;
  const { joinRoom, run, resident, temporal, context } = await start({
    firstRetryMs: hour,
    longestRetryMs: hour,
  });
  resident.isWilling = false;
  await joinRoom();
  const first = (await run.describe()).runId;
  await eventually('a second run', async () => ((await run.describe()).runId === first ? undefined : true));
  const second = await run.describe();
  expect(second.status.name).toBe('RUNNING');
  await untilItWaits(run);

  // A ring says only: look again. What is found here is that the wait is over.
  resident.isWilling = true;
  const { rowCount } = await context.store.pool.query(
    `UPDATE resyncs SET state = jsonb_set(state::jsonb, '{nextWakeAt}', '0')::json WHERE room_id = $1`,
    [resident.roomId],
  );
  expect(rowCount).toBe(1);
  await temporal.ring(resident.roomId);
  expect(await run.result()).toEqual(whole(resident.roomId));
  expect((await run.describe()).runId).toBe(second.runId);
  expect(await attributesOf(run)).toMatchObject({ phase: 'complete' });
});
