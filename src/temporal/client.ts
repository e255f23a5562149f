/** Our end of Temporal as a client: connecting, ringing a room's workflow, and the schedule of the sweep. */
import { type Tracer } from '@opentelemetry/api';
import { Client, Connection, ScheduleNotFoundError, ScheduleOverlapPolicy } from '@temporalio/client';
import { OpenTelemetryWorkflowClientInterceptor } from '@temporalio/interceptors-opentelemetry-v2';
import { defineSearchAttributeKey } from '@temporalio/common';
import { type RoomId } from '../matrix/identifiers.ts';
import { type ResyncRoomInput, type SweepInput } from './contract.ts';
import {
  RESYNC_WORKFLOW_TYPE,
  RING_SIGNAL,
  SEARCH_ATTRIBUTES,
  SWEEP_SCHEDULE_ID,
  SWEEP_WORKFLOW_ID,
  SWEEP_WORKFLOW_TYPE,
  resyncWorkflowId,
} from './names.ts';
import { type TemporalTlsFiles, readTemporalTls } from './tls.ts';

export interface TemporalTarget {
  readonly address: string;
  readonly namespace: string;
  readonly taskQueue: string;
  /** Put before every workflow and schedule id; tests that share a server use it. */
  readonly idPrefix?: string;
  readonly connectTimeoutMs?: number;
  /** Absent or `null`: no TLS. */
  readonly tls?: TemporalTlsFiles | null;
}

export interface TemporalClient {
  readonly connection: Connection;
  readonly client: Client;
  /** Starts the room's workflow, or tells the running one to look at the journal again. */
  ring(roomId: RoomId): Promise<void>;
  /** Creates or updates the schedule that runs the sweep. */
  scheduleSweep(everyMs: number, input: SweepInput): Promise<void>;
  close(): Promise<void>;
}

const CONNECT_TIMEOUT_MS = 10_000;

/** Connects; throws the SDK's error when the server does not answer within the timeout. */
export async function connectTemporal(target: TemporalTarget, tracer?: Tracer): Promise<TemporalClient> {
  const { address, namespace, taskQueue, idPrefix = '', connectTimeoutMs = CONNECT_TIMEOUT_MS } = target;
  const tls = await readTemporalTls(target.tls ?? null);
  const connection = await Connection.connect({
    address,
    connectTimeout: connectTimeoutMs,
    ...(tls === undefined ? {} : { tls }),
  });
  const client = new Client({
    connection,
    namespace,
    interceptors: { workflow: [new OpenTelemetryWorkflowClientInterceptor(tracer === undefined ? {} : { tracer })] },
  });
  return {
    connection,
    client,
    ring: (roomId) => ring(client, taskQueue, idPrefix, roomId),
    scheduleSweep: (everyMs, input) => scheduleSweep(client, taskQueue, idPrefix, everyMs, input),
    close: () => connection.close(),
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
    staticSummary: `Make ${roomId} whole`,
    staticDetails:
      'Fetches the full state of a room that was joined with partial state, judges again what was seen since, and closes. ' +
      'The journal in PostgreSQL is the truth; `ring` makes the workflow look at it again.',
  });
}

async function scheduleSweep(
  client: Client,
  taskQueue: string,
  idPrefix: string,
  everyMs: number,
  input: SweepInput,
): Promise<void> {
  const scheduleId = `${idPrefix}${SWEEP_SCHEDULE_ID}`;
  const definition = {
    spec: { intervals: [{ every: everyMs }] },
    policies: { overlap: ScheduleOverlapPolicy.SKIP, catchupWindow: '1 minute' },
    action: {
      type: 'startWorkflow' as const,
      workflowType: SWEEP_WORKFLOW_TYPE,
      workflowId: `${idPrefix}${SWEEP_WORKFLOW_ID}`,
      taskQueue,
      args: [input],
      staticSummary: 'Find rooms that should be moving and are not',
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
