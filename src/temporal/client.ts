/** Our end of Temporal as a client: connecting, ringing a room's workflow, ending one that is wedged, and the schedules. */
import { type Tracer } from '@opentelemetry/api';
import { Client, type Connection, ScheduleNotFoundError, ScheduleOverlapPolicy } from '@temporalio/client';
import { OpenTelemetryWorkflowClientInterceptor } from '@temporalio/interceptors-opentelemetry-v2';
import { defineSearchAttributeKey } from '@temporalio/common';
import { type RoomId } from '../matrix/identifiers.ts';
import { type TemporalTarget, dataConverterOf, openConnection } from './connection.ts';
import { type PassInput, type ResyncRoomInput } from './contract.ts';
import { endOrphans } from './end-orphans.ts';
import {
  RESYNC_WORKFLOW_TYPE,
  RING_SIGNAL,
  SCHEDULED,
  SEARCH_ATTRIBUTES,
  type ScheduledName,
  resyncWorkflowId,
  shownRoom,
} from './names.ts';
import { assertNamespace } from './namespace.ts';

export interface TemporalClient {
  readonly connection: Connection;
  readonly client: Client;
  /** Starts the room's workflow, or tells the running one to look at the journal again. */
  ring(roomId: RoomId): Promise<void>;
  /**
   * Ends the room's workflow if its task keeps failing, as when the code of today does not fit its history in a way that the
   * server refuses to hear of. Gives whether it did; the next ring starts a fresh run.
   */
  endWedged(roomId: RoomId): Promise<boolean>;
  /** Ends what workers that are dead have left of these rooms (end-orphans.ts); gives how much. */
  endOrphans(roomIds: readonly RoomId[], isDead: (identity: string) => boolean): Promise<number>;
  /** Creates or updates a schedule. */
  schedule(name: ScheduledName, everyMs: number, input?: PassInput): Promise<void>;
  close(): Promise<void>;
}

/** A workflow task is tried anew when a worker dies with it or is shut down; not so often without a fault in the workflow. */
const TASK_ATTEMPTS_MAX = 4;

/** Longer than any pass: it has a budget, and its activity a timeout and retries. */
const PASS_TIMEOUT = '1 day';

/**
 * Connects. Throws the SDK's error when the server does not answer within the timeout, `NamespaceError` when it has no such
 * namespace, and what is wrong with files that the target names.
 */
export async function connectTemporal(target: TemporalTarget, tracer?: Tracer): Promise<TemporalClient> {
  const { namespace, taskQueue, idPrefix = '' } = target;
  const encoding = await dataConverterOf(target);
  const { connection, close } = await openConnection(target);
  try {
    await assertNamespace(connection, namespace);
  } catch (error) {
    await close();
    throw error;
  }
  const client = new Client({
    connection,
    namespace,
    ...encoding,
    interceptors: { workflow: [new OpenTelemetryWorkflowClientInterceptor(tracer === undefined ? {} : { tracer })] },
  });
  return {
    connection,
    client,
    ring: (roomId) => ring(client, taskQueue, idPrefix, roomId),
    endWedged: (roomId) => endWedged(client, resyncWorkflowId(roomId, idPrefix)),
    endOrphans: (roomIds, isDead) =>
      endOrphans(client, { workflowIds: roomIds.map((roomId) => resyncWorkflowId(roomId, idPrefix)), isDead }),
    schedule: (name, everyMs, input) => schedule(client, { taskQueue, idPrefix, name, everyMs, input }),
    close,
  };
}

async function ring(client: Client, taskQueue: string, idPrefix: string, roomId: RoomId): Promise<void> {
  const input: ResyncRoomInput = { roomId };
  await client.workflow.signalWithStart(RESYNC_WORKFLOW_TYPE, {
    workflowId: resyncWorkflowId(roomId, idPrefix),
    taskQueue,
    args: [input],
    signal: RING_SIGNAL,
    // One workflow a room: a ring reaches the running one, and starts the next when the last has closed.
    workflowIdReusePolicy: 'ALLOW_DUPLICATE',
    workflowIdConflictPolicy: 'USE_EXISTING',
    typedSearchAttributes: [
      { key: defineSearchAttributeKey(SEARCH_ATTRIBUTES.room, 'KEYWORD'), value: roomId },
      { key: defineSearchAttributeKey(SEARCH_ATTRIBUTES.phase, 'KEYWORD'), value: 'starting' },
    ],
    memo: { room: roomId },
    staticSummary: `Make ${shownRoom(roomId)} whole`,
    staticDetails:
      'Fetches the full state of a room that was joined with partial state, judges again what was seen since, and closes. ' +
      'The journal in PostgreSQL is the truth; `ring` makes the workflow look at it again.',
  });
}

async function endWedged(client: Client, workflowId: string): Promise<boolean> {
  const { raw, runId, status } = await client.workflow.getHandle(workflowId).describe();
  const attempts = raw.pendingWorkflowTask?.attempt ?? 0;
  if (status.name !== 'RUNNING' || attempts <= TASK_ATTEMPTS_MAX) return false;
  const reason = `its task failed ${attempts} times; the sweep starts a fresh run, which reads the journal`;
  // Of this run: another sweep may have replaced it since.
  await client.workflow.getHandle(workflowId, runId).terminate(reason);
  return true;
}

async function schedule(
  client: Client,
  options: {
    readonly taskQueue: string;
    readonly idPrefix: string;
    readonly name: ScheduledName;
    readonly everyMs: number;
    readonly input: PassInput | undefined;
  },
): Promise<void> {
  const { taskQueue, idPrefix, name, everyMs, input } = options;
  const { id, workflowType, summary } = SCHEDULED[name];
  const scheduleId = `${idPrefix}${id}`;
  const definition = {
    spec: { intervals: [{ every: everyMs }] },
    policies: { overlap: ScheduleOverlapPolicy.SKIP, catchupWindow: '1 minute' },
    action: {
      type: 'startWorkflow' as const,
      workflowType,
      workflowId: scheduleId,
      workflowExecutionTimeout: PASS_TIMEOUT,
      taskQueue,
      args: input === undefined ? [] : [input],
      staticSummary: summary,
    },
  };
  const handle = client.schedule.getHandle(scheduleId);
  try {
    await handle.update((previous) => ({ ...previous, ...definition }));
  } catch (error) {
    if (!(error instanceof ScheduleNotFoundError)) throw error;
    await client.schedule.create({ scheduleId, ...definition }).catch(async (failure: unknown) => {
      // Two workers starting at once both find no schedule; the later one updates what the earlier one made.
      await handle.describe().catch(() => {
        throw failure;
      });
    });
  }
}
