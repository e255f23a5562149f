/**
 * A worker with the real activities, a small resident, and the client that rings, on a real Temporal server and a real database: what
 * tests of `resyncRoom` have in common. With RECORD_HISTORIES=1 (scripts/record-histories.ts) runs that they have looked at become
 * test/histories.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type WorkflowHandle } from '@temporalio/client';
import { historyToJSON } from '@temporalio/common/lib/proto-utils.js';
import { afterAll, beforeAll, onTestFinished } from 'vitest';
import { createActivities } from '../../activities/index.ts';
import { systemClock } from '../../src/clock.ts';
import { type CertificateFiles, ensureCertificateFiles } from '../../src/launch/certificates.ts';
import { type RoomId, type UserId } from '../../src/matrix/identifiers.ts';
import { type ResyncPolicy, defaultResyncPolicy } from '../../src/resync/policy.ts';
import * as rooms from '../../src/rooms/join/join.ts';
import { changeMembership } from '../../src/rooms/send/change-membership.ts';
import { type Telemetry, startTelemetry } from '../../src/telemetry.ts';
import { type TemporalClient, connectTemporal } from '../../src/temporal/client.ts';
import { type Activities } from '../../src/temporal/contract.ts';
import { SCHEDULED, SEARCH_ATTRIBUTES, resyncWorkflowId } from '../../src/temporal/names.ts';
import { installTemporalRuntime } from '../../src/temporal/runtime.ts';
import { type RunningWorker, startWorker } from '../../src/temporal/worker.ts';
import { silent } from '../federation/tls-server.ts';
import { eventually } from '../support/processes.ts';
import { type TestRejoinder, startTestRejoinder } from '../support/rejoinder.ts';
import { type TestTemporal, connectTestTemporal } from '../support/temporal.ts';
import { type Resident, startResident } from './resident.ts';

export const BUNDLE = fileURLToPath(new URL('../../dist/workflow-bundle.js', import.meta.url));
const HISTORIES = fileURLToPath(new URL('../histories/', import.meta.url));
export const MEMBERS = 12;
const SWEEP_AFTER_MS = 60_000;
const signal = new AbortController().signal;

/** Of the file's own, gone after its tests. */
export let folder: string;
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

export interface Running extends TestRejoinder {
  readonly resident: Resident;
  readonly temporal: TemporalClient;
  readonly run: WorkflowHandle;
  /** Ends the worker and starts one with the workflows of today. */
  readonly replaceWorker: () => Promise<void>;
  /** One pass of the sweep, by a workflow of its own. */
  readonly sweep: () => Promise<unknown>;
  /** Joins the resident's room, or one of another's, which rings the workflow. */
  readonly joinRoom: (roomId?: RoomId, via?: Resident) => Promise<void>;
  /** A further server, and the runs of its rooms. */
  readonly startAnother: (rooms: number) => Promise<{ readonly other: Resident; readonly runs: WorkflowHandle[] }>;
}

export interface StartOptions {
  readonly policy?: ResyncPolicy;
  /** The workflows' code; today's when absent. */
  readonly bundle?: string;
  /** Another Temporal server than the one of the run. */
  readonly server?: Pick<TestTemporal, 'address' | 'namespace'>;
  /** In place of the real ones. */
  readonly activities?: (real: Activities) => Partial<Activities>;
}

/** A worker, a resident, and the client that rings, under a prefix of their own. */
export async function start({
  policy = defaultResyncPolicy,
  bundle = BUNDLE,
  activities,
  server,
}: StartOptions = {}): Promise<Running> {
  const resident = await startResident(certificates, MEMBERS);
  const rejoinder = await startTestRejoinder({ certificates });
  const names = await connectTestTemporal();
  const { taskQueue, workflowIdPrefix: idPrefix } = names;
  const { address, namespace } = server ?? names;
  await names.close();
  const target = { address, namespace, taskQueue, idPrefix };
  const temporal = await connectTemporal(target, telemetry.tracer);
  const context = { ...rejoinder.context, policy, ring: (room: RoomId) => temporal.ring(room) };
  const real = createActivities({
    rooms: context,
    sweepAfterMs: SWEEP_AFTER_MS,
    endWedged: (room) => temporal.endWedged(room),
  });
  const work = (workflowBundlePath: string): Promise<RunningWorker> =>
    startWorker({
      target,
      workflowBundlePath,
      cachedWorkflows: 100,
      activities: { ...real, ...activities?.(real) },
      telemetry,
    });
  let worker = await work(bundle);
  const { roomId } = resident;
  const run = temporal.client.workflow.getHandle(resyncWorkflowId(roomId, idPrefix));
  const others: (() => Promise<void>)[] = [];
  onTestFinished(async () => {
    for (const end of others) await end();
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
    replaceWorker: async () => {
      await worker.shutdown();
      worker = await work(BUNDLE);
    },
    sweep: () => {
      const { id, workflowType } = SCHEDULED.sweep;
      const args = [{ budgetMs: 10_000 }];
      return temporal.client.workflow.execute(workflowType, { workflowId: `${idPrefix}${id}`, taskQueue, args });
    },
    joinRoom: async (room = roomId, via = resident) => {
      const userId = `@me:${context.serverName}` as UserId;
      await rooms.joinRoom(context, { room, userId, via: [via.serverName], signal });
    },
    startAnother: async (count) => {
      const other = await startResident(certificates, MEMBERS, { rooms: count });
      const runs = other.roomIds.map((room) => temporal.client.workflow.getHandle(resyncWorkflowId(room, idPrefix)));
      others.push(async () => {
        for (const each of runs) await each.terminate('the test is over').catch(() => undefined);
        await other.stop();
      });
      return { other, runs };
    },
  };
}

export async function attributesOf(run: WorkflowHandle): Promise<Record<keyof typeof SEARCH_ATTRIBUTES, unknown>> {
  const written = (await run.describe()).typedSearchAttributes.getAll();
  const value = (name: string): unknown => written.find(({ key }) => key.name === name)?.value;
  const values = Object.entries(SEARCH_ATTRIBUTES).map(([key, name]) => [key, value(name)]);
  return Object.fromEntries(values) as Record<keyof typeof SEARCH_ATTRIBUTES, unknown>;
}

/** What was scheduled, in order. */
export async function activitiesOf(run: WorkflowHandle): Promise<string[]> {
  const { events } = await run.fetchHistory();
  return (events ?? []).flatMap((event) => event.activityTaskScheduledEventAttributes?.activityType?.name ?? []);
}

/** Without looks at the journal. */
export async function withoutLooks(run: WorkflowHandle): Promise<string[]> {
  return (await activitiesOf(run)).filter((name) => name !== 'loadResync');
}

export async function untilItWaits(run: WorkflowHandle): Promise<void> {
  await eventually('it waits', async () => {
    const { events } = await run.fetchHistory();
    return (events ?? []).some((event) => event.timerStartedEventAttributes) ? true : undefined;
  });
}

/** Identities are made of process id and host name; a recorded history is nobody's in particular. */
export async function record(name: string, run: WorkflowHandle): Promise<void> {
  if (process.env['RECORD_HISTORIES'] === undefined) return;
  const text = historyToJSON(await run.fetchHistory());
  await writeFile(
    join(HISTORIES, `${name}.json`),
    `${text.replaceAll(`${process.pid}@${hostname()}`, '1@localhost')}\n`,
  );
}

export const whole = (roomId: RoomId) => ({
  roomId,
  epoch: 1,
  phase: 'complete',
  members: MEMBERS + 1,
  walked: 1,
  corrected: 0,
});

export const ended = (roomId: RoomId) => ({ ...whole(roomId), phase: 'ended' });

/** Our user leaves, `agoMs` before now by his server's clock. */
export async function leaveRoom(
  { context, resident }: Running,
  { agoMs = 0, isForced = false }: { readonly agoMs?: number; readonly isForced?: boolean } = {},
): Promise<void> {
  const clock = { now: () => systemClock.now() - agoMs };
  const sender = `@me:${context.serverName}` as UserId;
  const leave = { roomId: resident.roomId, sender, act: 'leave', userId: sender, isForced } as const;
  await changeMembership({ ...context, clock }, leave);
}
