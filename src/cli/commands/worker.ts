/** `rejoinder worker`: runs workflows and their activities for the namespace and task queue of the configuration. */
import { createActivities } from '../../../activities/index.ts';
import { systemClock } from '../../clock.ts';
import { type Config, loadConfig, requireSetting } from '../../config.ts';
import { type Logger, createLogger } from '../../logging.ts';
import { freePort } from '../../launch/ports.ts';
import { type Metrics, createMetrics } from '../../metrics.ts';
import { busyRooms } from '../../store/journal/rooms.ts';
import { startTelemetry } from '../../telemetry.ts';
import { installTemporalRuntime } from '../../temporal/runtime.ts';
import { type RunningWorker, startWorker } from '../../temporal/worker.ts';
import { packageFile } from '../package.ts';
import { boundHeapGrowth } from '../process/heap.ts';
import { openMetrics } from '../process/metrics.ts';
import { buildRooms } from '../process/rooms.ts';
import { Shutdown, aborted } from '../process/shutdown.ts';
import { requireSearchAttributes, requireTemporal } from '../process/temporal.ts';
import { isDeadWorker, workerIdentity } from '../process/worker-identity.ts';
import { type ProcessOptions } from './serve.ts';

/** A pass of the sweep ends by itself after this long, with 50 rings a second; the next one goes on. */
const SWEEP_BUDGET_MS = 240_000;
const MAINTENANCE_EVERY_MS = 3_600_000;
/** Half of the time at the most. */
const MAINTENANCE_BUDGET_MS = 1_800_000;
/** Rooms that a dead worker may have been at work in, newest first; more than it can have had under way but by a stampede. */
const ORPHANED_ROOMS_MAX = 500;
/** A room is found late by one interval at the most, and a pass that finds nothing costs one query. */
const SWEEP_INTERVAL_MS_MIN = 1_000;
const SWEEP_INTERVAL_MS_MAX = 60_000;

/** Runs until it is asked to stop; throws when the worker fails. */
export async function worker({ env, config: path, version, stop }: ProcessOptions): Promise<void> {
  boundHeapGrowth();
  const config = loadConfig({ path, env });
  const logger = createLogger(config.log);
  const shutdown = new Shutdown();
  try {
    const running = await startWorking(config, version, logger, shutdown);
    await Promise.race([aborted(stop), running.stopped]);
    logger.info('stopping');
  } finally {
    await shutdown.run(logger);
  }
}

async function startWorking(
  config: Config,
  version: string,
  logger: Logger,
  shutdown: Shutdown,
): Promise<RunningWorker> {
  const address = requireSetting(config.temporal.address, 'temporal.address', 'the address of a Temporal server');
  const telemetry = startTelemetry({ otlpEndpoint: config.telemetry.otlpEndpoint, role: 'worker', logger });
  shutdown.add('telemetry', () => telemetry.shutdown());
  const target = { ...config.temporal, address };
  const temporal = await requireTemporal(target, telemetry.tracer);
  shutdown.add('temporal', () => temporal.close());
  await requireSearchAttributes(temporal, target, logger);
  const metrics = createMetrics({ version, role: 'worker', clock: systemClock, logger });
  const rooms = await buildRooms({
    config,
    role: 'worker',
    version,
    logger,
    shutdown,
    metrics,
    ring: (roomId) => temporal.ring(roomId),
  });

  const listener = config.listeners.workerMetrics;
  const opened = await openMetrics({ name: 'worker_metrics', listener, metrics, logger, shutdown });
  installTemporalRuntime(logger, listener === null ? undefined : await tellOfTheCore(metrics));
  const { sweepAfterMs } = config.resync;
  const running = await startWorker({
    target,
    workflowBundlePath: packageFile('dist/workflow-bundle.js'),
    cachedWorkflows: config.temporal.cachedWorkflows,
    activities: createActivities({
      rooms,
      sweepAfterMs,
      endWedged: (roomId) => temporal.endWedged(roomId),
      onAttempt: metrics.onAttempt,
    }),
    deployment: config.temporal.deployment,
    identity: workerIdentity(),
    telemetry,
  });
  shutdown.add('worker', () => running.shutdown());
  const busy = await busyRooms(rooms.store, ORPHANED_ROOMS_MAX);
  const orphans = await temporal.endOrphans(busy, isDeadWorker);
  const everyMs = Math.min(Math.max(sweepAfterMs, SWEEP_INTERVAL_MS_MIN), SWEEP_INTERVAL_MS_MAX);
  await temporal.schedule('sweep', everyMs, { budgetMs: SWEEP_BUDGET_MS });
  await temporal.schedule('finishJoins', everyMs);
  await temporal.schedule('maintain', MAINTENANCE_EVERY_MS, { budgetMs: MAINTENANCE_BUDGET_MS });
  logger.info({ address, namespace: target.namespace, taskQueue: target.taskQueue, orphans, ...opened }, 'working');
  return running;
}

/** Where the SDK's core is to tell its metrics, which come with ours: it has a listener of its own for them, on a port that it cannot choose itself. */
async function tellOfTheCore(metrics: Metrics): Promise<string> {
  const address = `127.0.0.1:${await freePort()}`;
  metrics.tellToo(async () => (await fetch(`http://${address}/metrics`)).text());
  return address;
}
