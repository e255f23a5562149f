/** The Temporal worker: the prebuilt workflow bundle, our activities, and tracing through both. */
import { existsSync } from 'node:fs';
import { type Tracer } from '@opentelemetry/api';
import { type Resource } from '@opentelemetry/resources';
import { type SpanProcessor } from '@opentelemetry/sdk-trace-base';
import {
  OpenTelemetryActivityInboundInterceptor,
  OpenTelemetryActivityOutboundInterceptor,
  makeWorkflowExporter,
} from '@temporalio/interceptors-opentelemetry-v2';
import { NativeConnection, Worker } from '@temporalio/worker';
import { type Activities } from './contract.ts';
import { type TemporalTarget } from './client.ts';
import { readTemporalTls } from './tls.ts';

/** Fetches and walks in flight in one process: each holds one response stream and a few verification batches. */
const ACTIVITIES_MAX = 8;

export interface WorkerTelemetry {
  readonly tracer?: Tracer;
  readonly resource: Resource;
  readonly spanProcessor: SpanProcessor;
}

export interface RunningWorker {
  /** Resolves when the worker has stopped, rejects when it failed. */
  readonly stopped: Promise<void>;
  /** Finishes the running workflow tasks, cancels activities, and resolves when all is done. */
  shutdown(): Promise<void>;
}

/** @throws Error when the workflow bundle has not been built or the server does not answer. */
export async function startWorker(options: {
  readonly target: TemporalTarget;
  readonly workflowBundlePath: string;
  /** Waiting workflows are evicted beyond this many; each cached one holds 0.4 MB. */
  readonly cachedWorkflows: number;
  readonly activities: Activities;
  readonly telemetry: WorkerTelemetry;
}): Promise<RunningWorker> {
  const { target, workflowBundlePath, cachedWorkflows, activities, telemetry } = options;
  if (!existsSync(workflowBundlePath)) {
    throw new Error(`no workflow bundle at ${workflowBundlePath}; run "npm run build"`);
  }
  const tracing = telemetry.tracer === undefined ? {} : { tracer: telemetry.tracer };
  const tls = await readTemporalTls(target.tls ?? null);
  const connection = await NativeConnection.connect({
    address: target.address,
    ...(tls === undefined ? {} : { tls }),
  });
  const worker = await Worker.create({
    connection,
    namespace: target.namespace,
    taskQueue: target.taskQueue,
    workflowBundle: { codePath: workflowBundlePath },
    activities: { ...activities },
    maxCachedWorkflows: cachedWorkflows,
    maxConcurrentActivityTaskExecutions: ACTIVITIES_MAX,
    // A history that the code of today does not fit, or a bug in a workflow, would otherwise be retried for ever and wedge its
    // room. Nothing is lost with a run: the sweep starts a fresh one, which reads the journal.
    workflowFailureErrorTypes: { '*': ['NondeterminismError', 'Error'] },
    // A cancelled fetch should stop within a second or two, not after most of the heartbeat timeout.
    maxHeartbeatThrottleInterval: '2 seconds',
    defaultHeartbeatThrottleInterval: '2 seconds',
    shutdownGraceTime: '5 seconds',
    sinks: { exporter: makeWorkflowExporter(telemetry.spanProcessor, telemetry.resource) },
    interceptors: {
      activity: [
        (context) => ({
          inbound: new OpenTelemetryActivityInboundInterceptor(context, tracing),
          outbound: new OpenTelemetryActivityOutboundInterceptor(context),
        }),
      ],
    },
  });
  const stopped = worker.run().finally(() => connection.close());
  return {
    stopped,
    shutdown: async () => {
      if (worker.getState() === 'RUNNING') worker.shutdown();
      await stopped;
    },
  };
}
