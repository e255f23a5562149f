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
import { type Context as ActivityContext } from '@temporalio/activity';
import { Worker, type WorkerOptions } from '@temporalio/worker';
import { type Activities } from './contract.ts';
import { type TemporalTarget, dataConverterOf } from './connection.ts';
import { fetchTaskQueue, gapsTaskQueue } from './names.ts';
import { openNativeConnection } from './native-connection.ts';

/**
 * Activities that ask other servers, of a process, in either queue: more than the rooms that one silent server is likely to be asked
 * about, since these wait here. They cost next to nothing while they wait for their answers or for a place: how many states are fetched
 * at a time, and of one server, is bounded elsewhere (src/rooms/resync/fetch-places.ts).
 */
const ASKING_MAX = 1_000;
/** And all else, walks among it, which no resident can make last. */
const ACTIVITIES_MAX = 8;

/**
 * How long a task of a workflow waits for the worker that has it in its cache, before any other takes it: with 10 s, which the SDK takes,
 * a killed worker cost twenty until its rooms went on. A task waits some tenths of a second, and one that is given to another costs a replay.
 */
const TASK_IN_CACHE_MAX = '3 seconds';

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
  /** As which version the worker takes part in the server's versioning; in none when absent or `null`. */
  readonly deployment?: { readonly name: string; readonly buildId: string } | null;
  /** What the worker is called in the UI; the SDK's when absent. */
  readonly identity?: string;
  readonly telemetry: WorkerTelemetry;
}): Promise<RunningWorker> {
  const { target, workflowBundlePath, cachedWorkflows, activities, identity, deployment, telemetry } = options;
  if (!existsSync(workflowBundlePath)) {
    throw new Error(`no workflow bundle at ${workflowBundlePath}; run "npm run build"`);
  }
  const tracing = telemetry.tracer === undefined ? {} : { tracer: telemetry.tracer };
  const encoding = await dataConverterOf(target);
  const { connection, close } = await openNativeConnection(target);
  const common = {
    connection,
    namespace: target.namespace,
    ...encoding,
    ...(identity === undefined ? {} : { identity }),
    ...versioning(deployment ?? null),
    activities: { ...activities },
    // A cancelled fetch should stop within a second or two, not after most of the heartbeat timeout.
    maxHeartbeatThrottleInterval: '2 seconds',
    defaultHeartbeatThrottleInterval: '2 seconds',
    shutdownGraceTime: '5 seconds',
    interceptors: {
      activity: [
        (context: ActivityContext) => ({
          inbound: new OpenTelemetryActivityInboundInterceptor(context, tracing),
          outbound: new OpenTelemetryActivityOutboundInterceptor(context),
        }),
      ],
    },
  } as const satisfies Partial<WorkerOptions>;
  const asking = [fetchTaskQueue(target.taskQueue), gapsTaskQueue(target.taskQueue)].map((taskQueue) =>
    Worker.create({ ...common, taskQueue, maxConcurrentActivityTaskExecutions: ASKING_MAX }),
  );
  const main = await Worker.create({
    ...common,
    taskQueue: target.taskQueue,
    workflowBundle: { codePath: workflowBundlePath },
    maxCachedWorkflows: cachedWorkflows,
    stickyQueueScheduleToStartTimeout: TASK_IN_CACHE_MAX,
    maxConcurrentActivityTaskExecutions: ACTIVITIES_MAX,
    // A history that the code of today does not fit, or a bug in a workflow, would otherwise be retried for ever and wedge its
    // room. Nothing is lost with a run: the sweep starts a fresh one, which reads the journal.
    workflowFailureErrorTypes: { '*': ['NondeterminismError', 'Error'] },
    sinks: { exporter: makeWorkflowExporter(telemetry.spanProcessor, telemetry.resource) },
  });
  const workers = [main, ...(await Promise.all(asking))];
  const stop = (): void => {
    for (const worker of workers) if (worker.getState() === 'RUNNING') worker.shutdown();
  };
  // One that fails takes the other with it: half a worker would leave its rooms waiting.
  const runs = workers.map((worker) => worker.run().finally(stop));
  const stopped = Promise.allSettled(runs)
    .then(async () => {
      await Promise.all(runs);
    })
    .finally(close);
  return {
    stopped,
    shutdown: async () => {
      stop();
      await stopped;
    },
  };
}

/** Runs go on with whatever version is current: what does not fit its history is started afresh from the journal. */
function versioning(deployment: { readonly name: string; readonly buildId: string } | null): Partial<WorkerOptions> {
  if (deployment === null) return {};
  const { name: deploymentName, buildId } = deployment;
  return {
    workerDeploymentOptions: {
      version: { deploymentName, buildId },
      useWorkerVersioning: true,
      defaultVersioningBehavior: 'AUTO_UPGRADE',
    },
  };
}
