/** `rejoinder up`: everything on this machine, in one folder, from one command. */
import { performance } from 'node:perf_hooks';
import { type Config } from '../../config.ts';
import { type Environment } from '../../config/sources.ts';
import { type Output, humanDuration } from '../output.ts';
import { Shutdown, aborted } from '../process/shutdown.ts';
import { type RunningSystem, startSystem, urlOf } from '../up/system.ts';

export interface UpOptions {
  readonly env: Environment;
  readonly config?: string;
  /** How to start ourselves. */
  readonly self: readonly string[];
  readonly stop: AbortSignal;
}

/** A child that is asked to stop is killed after 15 s. */
const PART_STOP_MS_MAX = 20_000;

/** Runs until it is asked to stop; throws when a part ends unasked. */
export async function up(options: UpOptions, output: Output): Promise<void> {
  const shutdown = createShutdown(options.stop, output);
  const startedAt = performance.now();
  try {
    const progress = (line: string): void => output.note(output.colours.dim(line));
    const system = await startSystem({ ...options, durability: 'safe', progress }, shutdown);
    printAddresses(system, performance.now() - startedAt, output);
    await Promise.race([aborted(options.stop), system.failed]);
  } catch (error) {
    // Asked to stop while starting: what we were waiting for failed because of that.
    if (!options.stop.aborted) throw error;
  } finally {
    await shutdown.run(complaintsTo(output));
  }
}

/** A shutdown that says so when somebody asked for it. */
export function createShutdown(stop: AbortSignal, output: Output): Shutdown {
  void aborted(stop).then(() => output.note('Stopping…'));
  return new Shutdown(PART_STOP_MS_MAX);
}

/** A logger for parts that only warn: what goes wrong is noted for the person at the terminal. */
export function complaintsTo(output: Output): { warn(fields: object, message: string): void } {
  return {
    warn: (fields, message) =>
      output.note(
        `${message}: ${'part' in fields ? String(fields.part) : ''} ${'err' in fields ? String(fields.err) : ''}`,
      ),
  };
}

function printAddresses(system: RunningSystem, tookMs: number, output: Output): void {
  const { config } = system;
  const { colours } = output;
  const { federation, client } = config.listeners;
  output.line(`${colours.green('Rejoinder is up')} as ${config.serverName}, after ${humanDuration(tookMs)}`);
  const authority =
    system.authorityFile === undefined ? '' : `, which other servers reach if they trust ${system.authorityFile}`;
  const facts: [string, string][] = [
    ['server API', `https://${federation.host}:${federation.port} (federation)${authority}`],
    ['client API', urlOf(client, client.tls === null ? 'http' : 'https')],
    ['operator API', `${system.operatorUrl}/_rejoinder/v1`],
    ['token', config.operator.token === null ? config.operator.tokenPath : 'operator.token of the configuration'],
    ['Temporal', temporalPlace(system)],
    ...metricsPlaces(config.listeners),
    ['data and logs', config.dataDirectory],
  ];
  for (const [name, value] of facts) output.line(`  ${name.padEnd(14)} ${value}`);
  output.line(`Join a room: rejoinder join '#room:server' --user NAME    Stop: Ctrl-C`);
  output.line(`Log in with a Matrix client: rejoinder users create NAME, then log in at the client API`);
}

function metricsPlaces({ metrics, workerMetrics }: Config['listeners']): [string, string][] {
  const open = [metrics, workerMetrics].filter((listener) => listener !== null);
  return open.map((listener, i) => [i === 0 ? 'metrics' : '', `${urlOf(listener)}/metrics`]);
}

/** The page of the workflows where we run the UI, else the server's address. */
export function temporalPlace({ config, services }: RunningSystem): string {
  const { namespace } = config.temporal;
  return services.temporalUiUrl === undefined
    ? `${services.temporalAddress}, namespace ${namespace}`
    : `${services.temporalUiUrl}/namespaces/${encodeURIComponent(namespace)}/workflows`;
}
