/** The Temporal SDK's process-wide part: what it has to say goes into our logs, and signals are ours to handle. */
import { DefaultLogger, Runtime, makeTelemetryFilterString } from '@temporalio/worker';
import { type Logger } from '../logging.ts';

/** Once a process, before the first worker. With `metricsAddress`, `host:port`, the core's own metrics are to be had there for Prometheus. */
export function installTemporalRuntime(logger: Logger, metricsAddress?: string): void {
  const own = logger.child({ component: 'temporal' });
  Runtime.install({
    // The SDK tells every state change of a worker and every retried activity; the journal tells what matters of these.
    logger: new DefaultLogger('WARN', ({ level, message, meta }) => {
      const { error, ...fields } = meta ?? {};
      own[level === 'ERROR' ? 'error' : 'warn']({ ...fields, ...(error === undefined ? {} : { err: error }) }, message);
    }),
    telemetryOptions: {
      logging: { forward: {}, filter: makeTelemetryFilterString({ core: 'WARN', other: 'ERROR' }) },
      ...(metricsAddress === undefined ? {} : { metrics: { prometheus: { bindAddress: metricsAddress } } }),
    },
    // A signal stops our parts in their order, the worker first.
    shutdownSignals: [],
  });
}
