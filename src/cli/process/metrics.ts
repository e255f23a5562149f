/** Opens the metrics listener where one is configured. It is the first to listen and the last to stop: a stop shows, too. */
import { type ListenerConfig } from '../../config.ts';
import { type Logger } from '../../logging.ts';
import { type Metrics } from '../../metrics.ts';
import { createMetricsServer } from '../../metrics/server.ts';
import { type ListenerName, openListener } from './listen.ts';
import { type Shutdown } from './shutdown.ts';

export interface MetricsListenerOptions {
  readonly name: Extract<ListenerName, 'metrics' | 'worker_metrics'>;
  /** `null`: none is configured. */
  readonly listener: ListenerConfig | null;
  readonly metrics: Metrics;
  readonly logger: Logger;
  readonly shutdown: Shutdown;
}

/** For the log: `{metrics: 'host:port'}`, empty without a listener. Throws `CliError`. */
export async function openMetrics(options: MetricsListenerOptions): Promise<{ metrics?: string }> {
  const { name, listener, metrics, logger, shutdown } = options;
  if (listener === null) return {};
  metrics.watchProcess();
  const server = createMetricsServer(metrics, logger);
  shutdown.add('metrics listener', () => server.close());
  const port = await openListener(server, name, listener);
  return { metrics: `${listener.host}:${port}` };
}
